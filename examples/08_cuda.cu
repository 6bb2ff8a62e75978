// LoRA on a GPU: 01_lora with another tensor type. The answers before training are held against the Reference backend's, on the CPU.
//   08_cuda [STEPS]
#include <cmath>
#include <cstdlib>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/backend/cuda.hpp"
#include "deltatune/backend/reference.hpp"
#include "toy.hpp"

int main(int argc, char** argv) try {
  using namespace deltatune;
  using X = Tensor<float, Cuda>;
  Cuda::Context ctx;  // CudaOptions{.device = 1} for the second one
  Bert<X> model = toy::model<X>(ctx);

  LoraPlan plan;
  plan.lora = LoraConfig{.rank = 4, .alpha = 8};
  plan.targets = Targets::named({"query", "value"});
  attach(ctx, model, plan);
  TrainerConfig config;
  config.optimizer.learning_rate = 1e-2;
  Trainer trainer(ctx, model, config);
  const Dataset data = toy::data(2000, 1);
  BatchOrder order(data.size(), 50, 1);

  using Check = Tensor<float, Reference>;
  Reference::Context host;
  Bert<Check> same = toy::model<Check>(host);
  unfreeze(same, {"**"});
  const PackedBatch batch = data.batch(order.members(0));
  const float on_gpu = trainer.logits(batch)[0], on_cpu = Trainer(host, same, config).logits(batch)[0];
  std::printf("a logit: %.6f, on the CPU %.6f\n", static_cast<double>(on_gpu), static_cast<double>(on_cpu));

  const Index steps = argc > 1 ? std::atoi(argv[1]) : 200;
  const Evaluation before = toy::test(trainer, "before training:");
  for (Index step = 0; step < steps; ++step) trainer.step(data.batch(order.members(step)));
  const Evaluation after = toy::test(trainer, "after training:");
  return std::abs(on_gpu - on_cpu) < 1e-4F && after.loss < before.loss ? 0 : 1;
} catch (const deltatune::Error& error) {  // no driver, no device
  std::printf("%s\n", error.what());
  return 1;
}
