// Prompt tuning (the input seam): rows in front of the words of each sequence, started from rows of the vocabulary.
#include "deltatune/attach/prompt_plan.hpp"
#include "toy.hpp"

int main() {
  using namespace deltatune;
  using X = Tensor<float, DefaultCpu>;
  DefaultCpu::Context ctx(1);
  Bert<X> model = toy::model<X>(ctx, 24);  // positions: the prompt takes 4 of them

  PromptPlan plan;
  plan.prompt = {.rows = 4};
  plan.start = {.kind = PromptStart::Kind::vocabulary};
  attach(ctx, model, plan);
  std::printf("%d of %d parameters train\n", static_cast<int>(trainable_count(model)), static_cast<int>(parameter_count(model)));

  Trainer trainer(ctx, model, {.optimizer = {.learning_rate = 2e-2}});
  const Evaluation before = toy::test(trainer, "before training:");
  const Dataset data = toy::data(2000, 1);
  BatchOrder order(data.size(), 50, 1);
  for (Index step = 0; step < 400; ++step) trainer.step(data.batch(order.members(step)));
  const Evaluation after = toy::test(trainer, "after 400 steps:");
  return after.loss < 0.8 * before.loss && after.accuracy > 0.7 ? 0 : 1;
}
