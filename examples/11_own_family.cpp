// A family that the library does not have: a function describes it, and it is trained, saved and loaded like the others. This one has norms before its
// branches, rotary positions, two heads of keys and values for four of queries, and gated feed-forward layers.
#include <filesystem>

#include "deltatune/model/config_fields.hpp"
#include "toy.hpp"

using namespace deltatune;

Architecture small_encoder(const JsonConfig& json) {
  Architecture a = family::described(json, "SmallEncoder", "SmallEncoder", "encoder.");  // vocabulary, labels, ids of special tokens
  a.hidden_size = json.get<std::int64_t>("hidden_size");
  a.max_position_embeddings = json.get<std::int64_t>("max_position_embeddings");
  a.input = {.module = "tokens", .words = "tokens"};
  a.stack = {.layers = family::repeated({.attention = {.heads = 4, .kv_heads = 2, .head_width = a.hidden_size / 4, .rotary = RotarySpec{.theta = 1000}},
                                         .feed_forward = {.intermediate_size = 2 * a.hidden_size, .activation = ops::Activation::silu, .gated = true}},
                                        2),
             .final_norm = "norm",
             .names = {"block.{}.",
                       {{"mix", "mix.adapters", "norm_1"}, "mix", {"mix.q", "mix.k", "mix.v"}, "mix.out"},
                       {{"ffn", "ffn.adapters", "norm_2"}, {"ffn.gate", "ffn.up"}, "ffn.down"}}};
  a.head = {.classifier = "classifier"};
  a.default_targets = {{{"LORA"}, {"q", "v"}}};
  return a;
}

int main() {
  using X = Tensor<float, DefaultCpu>;
  DefaultCpu::Context ctx(1);
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "deltatune_own_family";
  make_directory(folder);
  write_text_file(folder / "config.json",
                  R"({"model_type": "small_encoder", "vocab_size": 24, "hidden_size": 32, "max_position_embeddings": 16, "initializer_range": 0.2})");
  {
    Transformer<X> made(ctx, small_encoder(JsonConfig::open(folder / "config.json")), Head::classifier(2));
    made.initialise(ctx, 1);
    save_hf_checkpoint(ctx, folder / "model", made, folder, {});
  }
  Transformer<X> model = Transformer<X>::load(ctx, folder / "model", small_encoder, Head::classifier(2));
  LoraPlan plan;
  plan.lora = {.rank = 8, .alpha = 16};
  plan.targets = Targets::named({"q", "v", "gate", "up", "down"});
  attach(ctx, model, plan);
  Trainer trainer(ctx, model, {.optimizer = {.learning_rate = 1e-2}});
  const Evaluation before = toy::test(trainer, "before training:");
  fit(trainer, toy::data(2000, 1), nullptr, {.steps = 300, .batch_size = 32}, {}, {});
  const Evaluation after = toy::test(trainer, "after 300 steps:");
  std::filesystem::remove_all(folder);
  return after.accuracy > before.accuracy + 0.2 ? 0 : 1;
}
