// Every kernel of the library: training steps and answers of all kinds, with heads of width 32, 64 and 128. Compiled by nvcc for ptxas's
// report, and run under the emulation (shared_memory.cpp), which knows how much shared memory each launch asks for.
#include "../support/shapes.hpp"
#include "deltatune/cuda.hpp"

namespace {

using namespace deltatune;
using X = Tensor<float, Cuda>;

struct Case {
  Index head_width = 8;
  Index tokens = 3;
  Index classes = 2;
  bool lora = false;
  std::string activation = "gelu";
};

void train(Cuda::Context& ctx, const Case& how) {
  test::BertShape config;
  config.vocab_size = 16;
  config.hidden_size = 2 * how.head_width;
  config.layers = 2;
  config.heads = 2;
  config.intermediate_size = 32;
  config.max_position_embeddings = how.tokens;
  config.activation = how.activation;
  Bert<X> model(ctx, config, Head::classifier(how.classes));
  model.initialise(ctx, 1);
  if (how.lora) {
    LoraPlan plan;
    plan.lora.dropout = 0.1;
    attach(ctx, model, plan);
  } else {
    apply(model, full_fine_tuning());
    set_mask(model, {"classifier.bias"}, FreezeMask::elements({0}));
    set_mask(model, {"**.word_embeddings.weight"}, FreezeMask::rows({1}));
  }
  PackedBatch batch;
  for (int sequence = 0; sequence < 3; ++sequence) {
    batch.add(std::vector<std::int32_t>(static_cast<std::size_t>(how.tokens), 1));
    if (how.classes > 1) {
      batch.labels.push_back(1);
    } else {
      batch.targets.push_back(1);
    }
  }
  Trainer trainer(ctx, model, TrainerConfig{});
  trainer.step(batch);
  trainer.logits(batch);
}

}  // namespace

void run_every_kernel() {
  Cuda::Context ctx;
  for (const Index head_width : {32, 64, 128})  // the tiles of attention, for short sequences and long
    for (const Index tokens : {3, 100}) train(ctx, {.head_width = head_width, .tokens = tokens});
  train(ctx, {.head_width = 160});  // too wide for them
  train(ctx, {.lora = true});
  train(ctx, {.classes = 1, .activation = "gelu_new"});
  train(ctx, {.activation = "relu"});
}
