// Bottleneck adapters (the sublayer seam): Pfeiffer's, one small layer behind each block's feed-forward part. The last lines take one out again.
#include "deltatune/attach/bottleneck_plan.hpp"
#include "toy.hpp"

int main() {
  using namespace deltatune;
  using X = Tensor<float, DefaultCpu>;
  DefaultCpu::Context ctx(1);
  Bert<X> model = toy::model<X>(ctx);

  BottleneckPlan plan = BottleneckPlan::of("pfeiffer");
  plan.reduction.factor = 4;  // a bottleneck of 32 / 4
  auto adapters = attach(ctx, model, plan);
  std::printf("%d of %d parameters train\n", static_cast<int>(trainable_count(model)), static_cast<int>(parameter_count(model)));

  Trainer trainer(ctx, model, {.optimizer = {.learning_rate = 1e-2}});
  const Evaluation before = toy::test(trainer, "before training:");
  const Dataset data = toy::data(2000, 1);
  BatchOrder order(data.size(), 50, 1);
  for (Index step = 0; step < 300; ++step) trainer.step(data.batch(order.members(step)));
  const Evaluation after = toy::test(trainer, "after 300 steps:");
  adapters.set_enabled(false);
  toy::test(trainer, "without them:");
  return after.loss < 0.5 * before.loss && after.accuracy > 0.9 ? 0 : 1;
}
