// A T5 of one layer that reads and two that write, for tests of what stands around the model. Heads are narrower than the model, and six buckets of distances
// are all used.
#pragma once

#include <string>

#include "deltatune/model/families.hpp"
#include "deltatune/model/transformer.hpp"
#include "support/device.hpp"

namespace deltatune::test {

inline Architecture tiny_t5(bool gated = false) {
  const std::string settings = gated ? R"("feed_forward_proj": "gated-gelu", "tie_word_embeddings": false)" : R"("feed_forward_proj": "relu")";
  return family::t5(JsonConfig::parse(R"({"model_type": "t5", "vocab_size": 20, "d_model": 12, "d_kv": 3, "d_ff": 10, "num_layers": 1, "num_heads": 2,
      "num_decoder_layers": 2, "relative_attention_num_buckets": 6, "relative_attention_max_distance": 5, "dropout_rate": 0.1, "pad_token_id": 0,
      "eos_token_id": 1, )" + settings + "}",
                                      "config.json"));
}

}  // namespace deltatune::test
