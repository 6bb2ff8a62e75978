// Diff pruning (the parameter seam): the model's own weights plus a difference to them that is found to be 0 almost everywhere.
#include "deltatune/attach/diff_pruning_plan.hpp"
#include "toy.hpp"

int main() {
  using namespace deltatune;
  using X = Tensor<float, DefaultCpu>;
  DefaultCpu::Context ctx(1);
  Bert<X> model = toy::model<X>(ctx);

  DiffPruningPlan plan;
  plan.diff = {.density = 0.05, .prune_at = 150};  // after 150 steps the largest 5 % of all differences stay
  auto diff = attach(ctx, model, plan);

  Trainer trainer(ctx, model, {.optimizer = {.learning_rate = 3e-3}});
  const Evaluation before = toy::test(trainer, "before training:");
  const Dataset data = toy::data(2000, 1);
  BatchOrder order(data.size(), 50, 1);
  for (Index step = 0; step < 300; ++step) trainer.step(data.batch(order.members(step)));
  const Evaluation after = toy::test(trainer, "after 300 steps:");

  Index changed = 0, all = 0;
  diff.visit([&](Parameter<X>& parameter) {
    if (!parameter.path().ends_with(".diff")) return;
    for (const float d : download_floats<X>(ctx, parameter.value())) changed += d != 0 ? 1 : 0;
    all += parameter.size();
  });
  std::printf("%d of %d weights differ from the base\n", static_cast<int>(changed), static_cast<int>(all));
  diff.merge(ctx);  // the model is a plain one again, with those weights changed
  const Evaluation merged = toy::test(trainer, "merged:");
  return after.loss < 0.5 * before.loss && changed <= all / 20 && merged.loss == after.loss ? 0 : 1;
}
