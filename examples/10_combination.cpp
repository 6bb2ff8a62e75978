// Several methods in one model: LoRA beside a prompt, trained together; then LoRA rests and the prompt goes on alone.
#include "deltatune/attach/prompt_plan.hpp"
#include "toy.hpp"

int main() {
  using namespace deltatune;
  using X = Tensor<float, DefaultCpu>;
  DefaultCpu::Context ctx(1);
  Bert<X> model = toy::model<X>(ctx, 24);
  const Dataset data = toy::data(2000, 1);

  LoraPlan lora;
  lora.lora = {.rank = 4, .alpha = 8};
  lora.name = "lora";
  PromptPlan prompt;
  prompt.prompt = {.rows = 2};
  prompt.name = "prompt";
  auto first = attach(ctx, model, lora);
  auto second = attach_beside(ctx, model, prompt);
  Evaluation before, together, alone;
  {
    Trainer trainer(ctx, model, {.optimizer = {.learning_rate = 1e-2}});
    before = toy::test(trainer, "before training:");
    BatchOrder order(data.size(), 50, 1);
    for (Index step = 0; step < 200; ++step) trainer.step(data.batch(order.members(step)));
    together = toy::test(trainer, "both:");
  }
  first.set_trainable(false);  // stays as it is from here on
  Trainer trainer(ctx, model, {.optimizer = {.learning_rate = 3e-3}});
  BatchOrder order(data.size(), 50, 2);
  for (Index step = 0; step < 50; ++step) trainer.step(data.batch(order.members(step)));
  alone = toy::test(trainer, "and the prompt:");
  second.detach();
  return together.loss < 0.5 * before.loss && alone.loss < 0.5 * before.loss ? 0 : 1;
}
