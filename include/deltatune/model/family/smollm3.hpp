// SmolLM3: Bakouch et al. 2025; every fourth layer has no positions at all (NoPE; Yang et al. 2025, arXiv 2501.18795). As Hugging Face's SmolLM3Model and its
// models with a head.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltatune/model/family/llama.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture smollm3(const JsonConfig& json) {
  using namespace detail;
  Architecture a = decoder(json, "SmolLM3", "SmolLM3", {.kv_heads = 4, .theta = 2e6, .tied = true});
  const Index every = json.has("no_rope_layer_interval") ? config_size(json, "no_rope_layer_interval") : 4;
  std::vector<std::int64_t> has_rotary;
  for (Index l = 0; l < a.layers(); ++l) has_rotary.push_back((l + 1) % every != 0 ? 1 : 0);
  if (json.has("no_rope_layers")) has_rotary = json.get<std::vector<std::int64_t>>("no_rope_layers");
  if (static_cast<Index>(has_rotary.size()) != a.layers())
    throw Error(json.name() + ": no_rope_layers", "needs one number per layer",
                {.expected = std::to_string(a.layers()), .got = std::to_string(has_rotary.size())});
  const bool slides = json.get_or<bool>("use_sliding_window", false) && json.has("sliding_window");
  const std::vector<bool> full = json.has("layer_types") ? full_attention_layers(json, a.layers(), "", 1, 0) : std::vector<bool>();
  for (std::size_t l = 0; l < a.stack.layers.size(); ++l) {
    AttentionSpec& attention = a.stack.layers[l].attention;
    if (has_rotary[l] == 0) attention.rotary = {};
    if (slides && (full.empty() ? has_rotary[l] == 0 : !full[l])) attention.window = sliding_window(json);
  }
  return a;
}

}  // namespace deltatune::family
