// A BART or an mBART of two layers that read and one that writes, with eight positions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "deltatune/model/families.hpp"

namespace deltatune::test {

// The padding's id is in no batch, since its row of the words has no gradient.
inline nlohmann::json bart_json(const std::string& type) {
  return nlohmann::json::parse(R"({"vocab_size": 20, "d_model": 12, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
      "decoder_attention_heads": 3, "encoder_ffn_dim": 10, "decoder_ffn_dim": 14, "max_position_embeddings": 8, "scale_embedding": true, "dropout": 0.1,
      "attention_dropout": 0.1, "activation_dropout": 0.1, "pad_token_id": 19, "model_type": ")" +
                               type + "\"}");
}
// The sides differ in layers, heads and feed-forward sizes. mBART's norms stand before the branches.
inline Architecture tiny_bart(const std::string& type = "bart", const nlohmann::json& changes = nlohmann::json::object()) {
  nlohmann::json config = bart_json(type);
  config.update(changes);
  return architecture_of(JsonConfig::parse(config.dump(), "config.json"));
}

}  // namespace deltatune::test
