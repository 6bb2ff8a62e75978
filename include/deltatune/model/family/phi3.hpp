// Phi-3 and Phi-4-mini: Abdin et al. 2024, arXiv 2404.14219; as Hugging Face's Phi3Model and its models with a head.
#pragma once

#include "deltatune/model/family/llama.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture phi3(const JsonConfig& json) {
  Architecture a = decoder(json, "Phi-3", "Phi3", {.epsilon = 1e-5});
  const double dropout = detail::config_dropout(json, "resid_pdrop", 0.0);
  a.stack.names.attention.projections = {"self_attn.qkv_proj"};
  a.stack.names.feed_forward.up = {"mlp.gate_up_proj"};
  for (LayerSpec& layer : a.stack.layers) {
    layer.attention.bias = layer.attention.output_bias = layer.feed_forward.bias = false;
    layer.attention.output_dropout = layer.feed_forward.output_dropout = dropout;
    if (json.has("sliding_window")) layer.attention.window = sliding_window(json);
  }
  a.default_targets[0].names = {"qkv_proj"};
  a.default_targets[1].names = {"qkv_proj", "down_proj"};
  return a;
}

}  // namespace deltatune::family
