// Qwen2 and Qwen2.5: Yang et al. 2024, arXiv 2407.10671 and 2412.15115; and Qwen3: Yang et al. 2025, arXiv 2505.09388; as Hugging Face's Qwen2Model,
// Qwen3Model and theirs with a head.
#pragma once

#include "deltatune/model/family/llama.hpp"

namespace deltatune::family {

// Llama with windows on the upper layers, where the configuration turns them on.
DELTATUNE_FUNCTION Architecture qwen(const JsonConfig& json, const char* title, const DecoderDefaults& defaults) {
  using namespace detail;
  Architecture a = decoder(json, title, title, defaults);
  const bool slides = json.get_or<bool>("use_sliding_window", false);
  const Index from = json.has("max_window_layers") ? config_size(json, "max_window_layers", 0) : 28;
  const Index window = slides ? sliding_window(json) : 0;
  const std::vector<bool> full = json.has("layer_types") ? full_attention_layers(json, a.layers(), "", 1, 0) : std::vector<bool>();
  for (std::size_t l = 0; l < a.stack.layers.size(); ++l)
    if (full.empty() ? static_cast<Index>(l) >= from : !full[l]) a.stack.layers[l].attention.window = window;
  a.default_targets[1] = {{"IA3"}, {"q_proj", "v_proj", "down_proj"}, {"down_proj"}};
  a.default_targets[2] = {{"LN_TUNING"}, {"post_attention_layernorm"}};
  return a;
}

DELTATUNE_FUNCTION Architecture qwen2(const JsonConfig& json) {
  Architecture a = qwen(json, "Qwen2", {.kv_heads = 32});
  for (LayerSpec& layer : a.stack.layers) {
    layer.attention.bias = true;
    layer.attention.output_bias = layer.feed_forward.bias = false;
  }
  return a;
}

DELTATUNE_FUNCTION Architecture qwen3(const JsonConfig& json) {
  Architecture a = qwen(json, "Qwen3", {.kv_heads = 32, .head_width = 128});
  for (LayerSpec& layer : a.stack.layers) {
    layer.attention.qk_norm = a.stack.norm;
    layer.feed_forward.bias = false;
  }
  return a;
}

}  // namespace deltatune::family
