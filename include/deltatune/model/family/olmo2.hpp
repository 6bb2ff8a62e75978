// OLMo 2: OLMo Team 2025, arXiv 2501.00656; norms of the branches' results, and of the queries and keys of all heads together. As Hugging Face's Olmo2Model
// and its models with a head.
#pragma once

#include "deltatune/model/family/llama.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture olmo2(const JsonConfig& json) {
  Architecture a = decoder(json, "OLMo 2", "Olmo2", {.epsilon = 1e-5});
  a.stack.place = NormPlace::after_branch;
  a.stack.names.attention.norm = "post_attention_layernorm";
  a.stack.names.feed_forward.norm = "post_feedforward_layernorm";
  a.default_targets[2].names = {"post_attention_layernorm", "post_feedforward_layernorm", "norm"};
  for (LayerSpec& layer : a.stack.layers) {
    layer.attention.qk_norm = a.stack.norm;
    layer.attention.qk_norm_over_heads = true;
    layer.feed_forward.bias = false;
  }
  return a;
}

}  // namespace deltatune::family
