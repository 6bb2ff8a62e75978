// A tiny T5, BART or mBART with a tokenizer of its kind: model folders as a user would have them.
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

namespace detail {

// The model of a config.json of BART's or mBART's kind, with one layer on each side, and a tokenizer's files. labels: of a classifier, or none.
inline void make_bart_like(const std::filesystem::path& folder, const nlohmann::json& config, std::size_t labels, const std::filesystem::path& tokenizer) {
  const Index width = config.at("d_model"), words = config.at("vocab_size"), positions = config.at("max_position_embeddings");
  const Index inner = config.at("encoder_ffn_dim");
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << config.dump();

  RandomTensors tensors;
  const auto norm = [&](const std::string& name) {
    tensors.add(name + ".weight", {width}, 1, 0.1);
    tensors.add(name + ".bias", {width}, 0, 0.1);
  };
  const auto linear = [&](const std::string& name, Index in, Index out) {
    tensors.add(name + ".weight", {out, in}, 0, 0.25);
    tensors.add(name + ".bias", {out}, 0, 0.1);
  };
  tensors.add("model.shared.weight", {words, width}, 0, 0.5);
  for (const std::string side : {"encoder", "decoder"}) {
    const std::string stack = "model." + side + ".", layer = stack + "layers.0.";
    tensors.add(stack + "embed_positions.weight", {positions + 2, width}, 0, 0.2);
    norm(stack + "layernorm_embedding");
    if (config.at("model_type") == "mbart") norm(stack + "layer_norm");
    for (const std::string attention : {"self_attn", "encoder_attn"}) {
      if (side == "encoder" && attention == "encoder_attn") continue;
      for (const std::string each : {"q_proj", "k_proj", "v_proj", "out_proj"}) linear(layer + attention + "." + each, width, width);
      norm(layer + attention + "_layer_norm");
    }
    linear(layer + "fc1", width, inner);
    linear(layer + "fc2", inner, width);
    norm(layer + "final_layer_norm");
  }
  if (labels == 0) {
    tensors.add("final_logits_bias", {1, words}, 0, 0.1);
  } else {
    linear("classification_head.dense", width, width);
    linear("classification_head.out_proj", width, static_cast<Index>(labels));
  }
  tensors.write(folder / "model.safetensors");
  for (const char* const file : {"tokenizer.json", "special_tokens_map.json"})
    if (std::filesystem::exists(tokenizer / file)) std::filesystem::copy_file(tokenizer / file, folder / file);
}

inline nlohmann::json bart_config(const std::string& type, const std::string& class_name, Index words) {
  nlohmann::json config{{"model_type", type},
                        {"architectures", {class_name}},
                        {"is_encoder_decoder", true},
                        {"vocab_size", words},
                        {"d_model", 16},
                        {"max_position_embeddings", 40},
                        {"dropout", 0.0},
                        {"bos_token_id", 0},
                        {"pad_token_id", 1},
                        {"eos_token_id", 2}};
  for (const std::string side : {"encoder", "decoder"}) config.update({{side + "_layers", 1}, {side + "_attention_heads", 2}, {side + "_ffn_dim", 24}});
  return config;
}

}  // namespace detail

// labels: of a classifier; none: it writes targets.
inline void make_bart(const std::filesystem::path& folder, const std::vector<std::string>& labels = {}) {
  nlohmann::json config = detail::bart_config("bart", labels.empty() ? "BartForConditionalGeneration" : "BartForSequenceClassification", 1000);
  config["decoder_start_token_id"] = 2;
  for (std::size_t i = 0; i < labels.size(); ++i) config["id2label"][std::to_string(i)] = labels[i];
  detail::make_bart_like(folder, config, labels.size(), kTokenizers / "roberta");
}

// The tokenizer is that of mBART ("mbart"), whose folder names no start token, or that of mBART-50 ("mbart50").
inline void make_mbart(const std::filesystem::path& folder, const std::string& tokenizer) {
  nlohmann::json config = detail::bart_config("mbart", "MBartForConditionalGeneration", 220);
  if (tokenizer == "mbart50") config["decoder_start_token_id"] = 2;
  detail::make_bart_like(folder, config, 0, kTokenizers / tokenizer);
}

}  // namespace deltatune::test
