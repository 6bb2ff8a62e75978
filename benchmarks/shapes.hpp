// Shapes of BERTs, ModernBERT-base and GPT-2 that are measured with random weights.
#pragma once

#include <string>

#include "deltatune/model/families.hpp"

namespace deltatune::bench {

// BERT-base is bert_shape(768, 12, 12), MiniLM bert_shape(384, 6, 12). The feed-forward part is four times as wide.
inline Architecture bert_shape(Index hidden_size, Index layers, Index heads, Index max_position_embeddings = 512) {
  const auto field = [](const char* name, Index value) { return ", \"" + std::string(name) + "\": " + std::to_string(value); };
  return architecture_of(JsonConfig::parse(R"({"model_type": "bert", "vocab_size": 30522, "type_vocab_size": 2, "pad_token_id": 0)" +
                                               field("hidden_size", hidden_size) + field("num_hidden_layers", layers) + field("num_attention_heads", heads) +
                                               field("intermediate_size", 4 * hidden_size) + field("max_position_embeddings", max_position_embeddings) + "}",
                                           "benchmark"));
}
inline Architecture gpt2_shape() {
  return architecture_of(JsonConfig::parse(
      R"({"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "eos_token_id": 50256})", "benchmark"));
}
// ModernBERT-base.
inline Architecture modernbert_shape() {
  return architecture_of(JsonConfig::parse(R"({"model_type": "modernbert", "vocab_size": 50368, "hidden_size": 768, "num_hidden_layers": 22,
      "num_attention_heads": 12, "intermediate_size": 1152, "max_position_embeddings": 8192, "classifier_pooling": "cls", "pad_token_id": 50283})",
                                           "benchmark"));
}

}  // namespace deltatune::bench
