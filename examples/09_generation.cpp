// A decoder: LoRA on GPT-2's fused query, key and value learns to count, and then goes on from a beginning, with a cache of keys and values.
#include <cstdio>

#include "deltatune/deltatune.hpp"

int main() {
  using namespace deltatune;
  using X = Tensor<float, DefaultCpu>;
  DefaultCpu::Context ctx(1);
  const Architecture architecture = architecture_of(JsonConfig::parse(R"({"model_type": "gpt2", "vocab_size": 10, "n_embd": 32, "n_layer": 2, "n_head": 4,
    "n_inner": 64, "n_positions": 24, "eos_token_id": 0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "initializer_range": 0.3})",
                                                                      "toy"));
  Gpt2<X> model(ctx, architecture, Head::language_model());
  model.initialise(ctx, 1);

  LoraPlan plan;
  plan.lora = {.rank = 8, .alpha = 16};
  plan.targets = Targets::named({"c_attn", "c_fc", "mlp.c_proj"});
  plan.modules_to_save = {"ln_f"};
  attach(ctx, model, plan);
  std::printf("%d of %d parameters train\n", static_cast<int>(trainable_count(model)), static_cast<int>(parameter_count(model)));

  // 1 2 3 ... 9 1 2 ..., or the same with every second number left out.
  PackedBatch batch;
  for (std::int32_t start = 1; start <= 9; ++start)
    for (const std::int32_t distance : {1, 2}) {
      std::vector<std::int32_t> tokens;
      for (std::int32_t i = 0; i < 12; ++i) tokens.push_back((start - 1 + i * distance) % 9 + 1);
      batch.add(tokens);
      batch.token_labels.insert(batch.token_labels.end(), tokens.begin(), tokens.end());
    }
  Trainer trainer(ctx, model, {.optimizer = {.learning_rate = 1e-2}});
  double loss = 0;
  for (int step = 0; step < 300; ++step) loss = trainer.step(batch).loss;
  std::printf("loss after 300 steps: %.3f\n", loss);

  const std::vector<std::int32_t> prompt{2, 4, 6};
  const std::vector<std::int32_t> tokens = generate(ctx, model, prompt, {.max_new_tokens = 8});
  for (const std::int32_t token : tokens) std::printf("%d ", token);
  std::printf("\n");
  return tokens == std::vector<std::int32_t>{8, 1, 3, 5, 7, 9, 2, 4} ? 0 : 1;
}
