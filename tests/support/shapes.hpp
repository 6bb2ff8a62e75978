// Sizes of BERTs and GPT-2s that tests make from nothing, as architectures.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "deltatune/model/families.hpp"

namespace deltatune::test {

struct BertShape {
  Index vocab_size = 30522;
  Index hidden_size = 768;
  Index layers = 12;
  Index heads = 12;
  Index intermediate_size = 3072;
  Index max_position_embeddings = 512;
  double hidden_dropout = 0.1;
  double attention_dropout = 0.1;
  double classifier_dropout = 0.1;
  std::string activation = "gelu";
  double initializer_range = 0.02;

  operator Architecture() const {
    return architecture_of(JsonConfig::parse(nlohmann::json{{"model_type", "bert"},
                                                            {"vocab_size", vocab_size},
                                                            {"hidden_size", hidden_size},
                                                            {"num_hidden_layers", layers},
                                                            {"num_attention_heads", heads},
                                                            {"intermediate_size", intermediate_size},
                                                            {"max_position_embeddings", max_position_embeddings},
                                                            {"type_vocab_size", 2},
                                                            {"pad_token_id", 0},
                                                            {"hidden_dropout_prob", hidden_dropout},
                                                            {"attention_probs_dropout_prob", attention_dropout},
                                                            {"classifier_dropout", classifier_dropout},
                                                            {"hidden_act", activation},
                                                            {"initializer_range", initializer_range}}
                                                 .dump(),
                                             "test"));
  }
};

struct Gpt2Shape {
  Index vocab_size = 50257;
  Index hidden_size = 768;
  Index layers = 12;
  Index heads = 12;
  Index intermediate_size = 3072;
  Index max_position_embeddings = 1024;
  Index pad_id = -1;  // -1: none
  Index eos_id = 50256;
  double residual_dropout = 0.1;
  double embedding_dropout = 0.1;
  double attention_dropout = 0.1;
  bool tied = true;
  bool scales_attention = true;
  bool scales_by_layer = false;
  double initializer_range = 0.02;

  operator Architecture() const {
    nlohmann::json config{{"model_type", "gpt2"},
                          {"vocab_size", vocab_size},
                          {"n_embd", hidden_size},
                          {"n_layer", layers},
                          {"n_head", heads},
                          {"n_inner", intermediate_size},
                          {"n_positions", max_position_embeddings},
                          {"eos_token_id", eos_id},
                          {"resid_pdrop", residual_dropout},
                          {"embd_pdrop", embedding_dropout},
                          {"attn_pdrop", attention_dropout},
                          {"tie_word_embeddings", tied},
                          {"scale_attn_weights", scales_attention},
                          {"scale_attn_by_inverse_layer_idx", scales_by_layer},
                          {"initializer_range", initializer_range}};
    if (pad_id >= 0) config["pad_token_id"] = pad_id;
    return architecture_of(JsonConfig::parse(config.dump(), "test"));
  }
};

// What decoders have besides: one head of keys and values, windows of three tokens, the features of each family.
inline const std::map<std::string, nlohmann::json>& decoder_features() {
  static const nlohmann::json gemma{{"head_dim", 6}, {"sliding_window", 3}, {"query_pre_attn_scalar", 8}, {"attention_dropout", 0.1}};
  static const std::map<std::string, nlohmann::json> features{
      {"llama", {{"attention_bias", true}, {"mlp_bias", true}, {"attention_dropout", 0.1}}},
      {"mistral", {{"sliding_window", 3}}},
      {"qwen2", {{"use_sliding_window", true}, {"sliding_window", 3}, {"max_window_layers", 1}}},
      {"qwen3", {{"head_dim", 6}}},
      {"gemma", {{"head_dim", 6}}},
      {"gemma2", gemma},
      {"gemma3_text", gemma},
      {"phi3",
       {{"partial_rotary_factor", 0.5},
        {"original_max_position_embeddings", 5},
        {"resid_pdrop", 0.1},
        {"rope_scaling", {{"type", "longrope"}, {"short_factor", {1.5}}, {"long_factor", {4.0}}}}}},
      {"smollm3", {{"no_rope_layer_interval", 2}}},
      {"olmo2", {{"head_dim", 4}}},
      {"granite", {{"embedding_multiplier", 3.0}, {"residual_multiplier", 0.4}, {"attention_multiplier", 0.3}, {"logits_scaling", 4.0}}}};
  return features;
}

// Width 12, inner width 20, two layers (ModernBERT: four, of which the second and third see two tokens on either side), three heads, a vocabulary of 30. By
// model_type.
inline Architecture small_architecture(const std::string& family, double initializer_range = 0.02) {
  nlohmann::json config{{"model_type", family},
                        {"vocab_size", 30},
                        {"hidden_size", 12},
                        {"num_hidden_layers", family == "modernbert" ? 4 : 2},
                        {"num_attention_heads", 3},
                        {"intermediate_size", 20},
                        {"max_position_embeddings", 24},
                        {"type_vocab_size", 2},
                        {"pad_token_id", family == "bert" || family == "gpt2" ? 0 : 1},
                        {"initializer_range", initializer_range}};
  if (family == "gpt2") config.update({{"n_embd", 12}, {"n_layer", 2}, {"n_head", 3}, {"n_inner", 20}, {"n_positions", 24}, {"eos_token_id", 29}});
  if (family == "gpt2") config.erase("pad_token_id");
  if (family == "t5")
    config.update({{"d_model", 12}, {"d_kv", 4}, {"d_ff", 20}, {"num_layers", 2}, {"num_heads", 3}, {"eos_token_id", 29}, {"pad_token_id", 0}});
  if (family == "distilbert") config.update({{"dim", 12}, {"n_layers", 2}, {"n_heads", 3}, {"hidden_dim", 20}});
  if (family == "electra") config["embedding_size"] = 8;
  if (const auto found = decoder_features().find(family); found != decoder_features().end()) {
    config["num_key_value_heads"] = 1;
    config.update(found->second);
  }
  if (family == "gemma3_text") config["sliding_window_pattern"] = 2;
  if (family == "modernbert")
    config.update({{"local_attention", 5},
                   {"norm_bias", true},
                   {"attention_dropout", 0.1},
                   {"embedding_dropout", 0.1},
                   {"mlp_dropout", 0.1},
                   {"classifier_dropout", 0.1},
                   {"classifier_pooling", "mean"}});
  return architecture_of(JsonConfig::parse(config.dump(), "test"));
}

}  // namespace deltatune::test
