// A tiny T5 and a tiny BART with tokenizers of their kind: model folders as a user would have them.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/random_tensors.hpp"

namespace deltatune::test {

inline const std::filesystem::path kTokenizers = std::filesystem::path(DELTATUNE_TEST_DIR) / "tokenizers/fixtures";

// Width 16, 4 heads, 2 layers that read and 2 that write. tokenizer: a folder of tests/tokenizers/fixtures with so many words.
inline void make_encoder_decoder(const std::filesystem::path& folder, const std::string& tokenizer = "t5", Index words = 1100) {
  constexpr Index kWidth = 16, kInner = 32, kHeads = 4, kBuckets = 8;
  std::filesystem::create_directories(folder);
  const nlohmann::json config{{"model_type", "t5"},
                              {"architectures", {"T5ForConditionalGeneration"}},
                              {"is_encoder_decoder", true},
                              {"vocab_size", words},
                              {"d_model", kWidth},
                              {"d_kv", kWidth / kHeads},
                              {"d_ff", kInner},
                              {"num_layers", 2},
                              {"num_heads", kHeads},
                              {"relative_attention_num_buckets", kBuckets},
                              {"relative_attention_max_distance", 20},
                              {"dropout_rate", 0.0},
                              {"decoder_start_token_id", 0},
                              {"pad_token_id", 0},
                              {"eos_token_id", 1}};
  std::ofstream(folder / "config.json") << config.dump();

  RandomTensors tensors;
  const auto add = [&](const std::string& name, const Shape& shape, float mean, double spread) { tensors.add(name + ".weight", shape, mean, spread); };
  add("shared", {words, kWidth}, 0, 1.0);
  for (const std::string side : {"encoder", "decoder"}) {
    add(side + ".block.0.layer.0.SelfAttention.relative_attention_bias", {kBuckets, kHeads}, 0, 0.3);
    for (Index l = 0; l < 2; ++l) {
      Index part = 0;
      const auto place = [&] { return side + ".block." + std::to_string(l) + ".layer." + std::to_string(part++) + "."; };
      const auto attention = [&](const std::string& name) {
        const std::string layer = place();
        for (const std::string each : {"q", "k", "v", "o"}) add(layer + name + "." + each, {kWidth, kWidth}, 0, 0.25);
        add(layer + "layer_norm", {kWidth}, 1, 0.1);
      };
      attention("SelfAttention");
      if (side == "decoder") attention("EncDecAttention");
      const std::string layer = place();
      add(layer + "DenseReluDense.wi", {kInner, kWidth}, 0, 0.25);
      add(layer + "DenseReluDense.wo", {kWidth, kInner}, 0, 0.25);
      add(layer + "layer_norm", {kWidth}, 1, 0.1);
    }
    add(side + ".final_layer_norm", {kWidth}, side == "decoder" ? 4 : 1, 0.1);  // so that a frozen table can be sure of a word
  }
  tensors.write(folder / "model.safetensors");
  std::filesystem::copy_file(kTokenizers / tokenizer / "tokenizer.json", folder / "tokenizer.json");
}

// A BART of width 16, a layer that reads and one that writes, 40 positions. labels: of a classifier; none: it writes targets.
inline void make_bart(const std::filesystem::path& folder, const std::vector<std::string>& labels = {}) {
  constexpr Index kWidth = 16, kInner = 24, kWords = 1000, kPositions = 40;
  std::filesystem::create_directories(folder);
  nlohmann::json config{{"model_type", "bart"},
                        {"architectures", {labels.empty() ? "BartForConditionalGeneration" : "BartForSequenceClassification"}},
                        {"is_encoder_decoder", true},
                        {"vocab_size", kWords},
                        {"d_model", kWidth},
                        {"encoder_layers", 1},
                        {"decoder_layers", 1},
                        {"encoder_attention_heads", 2},
                        {"decoder_attention_heads", 2},
                        {"encoder_ffn_dim", kInner},
                        {"decoder_ffn_dim", kInner},
                        {"max_position_embeddings", kPositions},
                        {"dropout", 0.0},
                        {"bos_token_id", 0},
                        {"pad_token_id", 1},
                        {"eos_token_id", 2},
                        {"decoder_start_token_id", 2}};
  for (std::size_t i = 0; i < labels.size(); ++i) config["id2label"][std::to_string(i)] = labels[i];
  std::ofstream(folder / "config.json") << config.dump();

  RandomTensors tensors;
  const auto norm = [&](const std::string& name) {
    tensors.add(name + ".weight", {kWidth}, 1, 0.1);
    tensors.add(name + ".bias", {kWidth}, 0, 0.1);
  };
  const auto linear = [&](const std::string& name, Index in, Index out) {
    tensors.add(name + ".weight", {out, in}, 0, 0.25);
    tensors.add(name + ".bias", {out}, 0, 0.1);
  };
  tensors.add("model.shared.weight", {kWords, kWidth}, 0, 0.5);
  for (const std::string side : {"encoder", "decoder"}) {
    const std::string stack = "model." + side + ".", layer = stack + "layers.0.";
    tensors.add(stack + "embed_positions.weight", {kPositions + 2, kWidth}, 0, 0.2);
    norm(stack + "layernorm_embedding");
    for (const std::string attention : {"self_attn", "encoder_attn"}) {
      if (side == "encoder" && attention == "encoder_attn") continue;
      for (const std::string each : {"q_proj", "k_proj", "v_proj", "out_proj"}) linear(layer + attention + "." + each, kWidth, kWidth);
      norm(layer + attention + "_layer_norm");
    }
    linear(layer + "fc1", kWidth, kInner);
    linear(layer + "fc2", kInner, kWidth);
    norm(layer + "final_layer_norm");
  }
  if (labels.empty()) {
    tensors.add("final_logits_bias", {1, kWords}, 0, 0.1);
  } else {
    linear("classification_head.dense", kWidth, kWidth);
    linear("classification_head.out_proj", kWidth, static_cast<Index>(labels.size()));
  }
  tensors.write(folder / "model.safetensors");
  std::filesystem::copy_file(kTokenizers / "roberta/tokenizer.json", folder / "tokenizer.json");
}

}  // namespace deltatune::test
