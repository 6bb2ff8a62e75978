// Gemma: Gemma Team 2024, arXiv 2403.08295; Gemma 2: arXiv 2408.00118; Gemma 3: arXiv 2503.19786, its text model; as Hugging Face's GemmaModel, Gemma2Model,
// Gemma3TextModel and theirs with a head.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "deltatune/model/family/llama.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture gemma(const JsonConfig& json) {
  Architecture a = decoder(json, "Gemma", "Gemma", {.kv_heads = 16, .head_width = 256, .activation = "gelu_pytorch_tanh", .tied = true});
  a.stack.norm.weight_offset = 1;
  a.input.scale = std::sqrt(static_cast<double>(a.hidden_size));
  a.input.scales_prompts = true;
  // Files of the releases say "gelu" and mean the approximation by tanh, as transformers 5 takes it; transformers 4 computes what they say.
  if (json.get_or<std::string>("transformers_version", "").starts_with("5."))
    for (LayerSpec& layer : a.stack.layers)
      if (layer.feed_forward.activation == ops::Activation::gelu) layer.feed_forward.activation = ops::Activation::gelu_new;
  a.default_targets[1] = {{"IA3"}, {"q_proj", "v_proj", "down_proj"}, {"down_proj"}};
  return a;
}

// What Gemma 2 and Gemma 3 have in common: norms around the branches, caps, windows on some layers.
DELTATUNE_FUNCTION Architecture gemma_with_windows(const JsonConfig& json, const char* title, const char* class_name, const DecoderDefaults& defaults,
                                                   double score_cap, double logit_cap, const std::vector<bool>& full) {
  using namespace detail;
  Architecture a = decoder(json, title, class_name, defaults);
  a.stack.norm.weight_offset = 1;
  a.stack.place = NormPlace::around;
  a.stack.names.attention.branch_norm = "post_attention_layernorm";
  a.stack.names.feed_forward.norm = "pre_feedforward_layernorm";
  a.stack.names.feed_forward.branch_norm = "post_feedforward_layernorm";
  a.input.scale = std::sqrt(static_cast<double>(a.hidden_size));
  a.head.logit_cap = config_or_off(json, "final_logit_softcapping", logit_cap);
  for (std::size_t l = 0; l < a.stack.layers.size(); ++l) {
    AttentionSpec& attention = a.stack.layers[l].attention;
    attention.scale = 1 / std::sqrt(json.get_or<double>("query_pre_attn_scalar", 256));
    attention.soft_cap = config_or_off(json, "attn_logit_softcapping", score_cap);
    if (!full[l]) attention.window = sliding_window(json);
    a.stack.layers[l].feed_forward.bias = false;
  }
  a.default_targets[1] = {{"IA3"}, {"q_proj", "v_proj", "down_proj"}, {"down_proj"}};
  a.default_targets[2] = {{"LN_TUNING"}, {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm", "norm"}};
  return a;
}

DELTATUNE_FUNCTION Architecture gemma2(const JsonConfig& json) {
  using namespace detail;
  const std::vector<bool> full = full_attention_layers(json, config_size(json, "num_hidden_layers"), "", 2, 1);
  Architecture a = gemma_with_windows(
      json, "Gemma 2", "Gemma2", {.kv_heads = 4, .head_width = 256, .activation_key = "hidden_activation", .activation = "gelu_pytorch_tanh", .tied = true}, 50,
      30, full);
  a.input.scales_prompts = true;
  return a;
}

DELTATUNE_FUNCTION Architecture gemma3_text(const JsonConfig& json) {
  using namespace detail;
  check_absent_or(json, "use_bidirectional_attention", false);
  const Index layers = config_size(json, "num_hidden_layers");
  const Index every = json.has("sliding_window_pattern") ? config_size(json, "sliding_window_pattern") : 6;
  const std::vector<bool> full = full_attention_layers(json, layers, "sliding_window_pattern", 6, every - 1);
  Architecture a = gemma_with_windows(
      json, "Gemma 3", "Gemma3Text",
      {.kv_heads = 4, .head_width = 256, .theta = 1e6, .activation_key = "hidden_activation", .activation = "gelu_pytorch_tanh", .tied = true}, 0, 0, full);
  a.head.language_model_class = "Gemma3ForCausalLM";
  for (std::size_t l = 0; l < a.stack.layers.size(); ++l) {
    AttentionSpec& attention = a.stack.layers[l].attention;
    attention.qk_norm = a.stack.norm;
    if (!full[l])
      attention.rotary =
          rotary_of(json, attention.head_width, {.layer_type = "sliding_attention", .theta_key = "rope_local_base_freq", .theta = 10000, .scaled = false});
  }
  return a;
}

}  // namespace deltatune::family
