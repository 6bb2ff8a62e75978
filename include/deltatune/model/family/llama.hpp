// Llama: Touvron et al. 2023, arXiv 2302.13971 and 2307.09288, Grattafiori et al. 2024, arXiv 2407.21783; and Mistral: Jiang et al. 2023, arXiv 2310.06825;
// as Hugging Face's LlamaModel, MistralModel and theirs with a head. What other decoders have in common with Llama is described here, too.
#pragma once

#include <string>

#include "deltatune/model/config_fields.hpp"
#include "deltatune/model/rotary_fields.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune::family {

// What a family has when its config.json does not say.
struct DecoderDefaults {
  Index kv_heads = 0;    // 0: as many as heads
  Index head_width = 0;  // 0: hidden_size / heads
  double epsilon = 1e-6;
  double theta = 10000;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  bool tied = false;
};

// Norms before the branches, rotary positions, gated feed-forward layers: Llama's modules and names.
DELTATUNE_FUNCTION Architecture decoder(const JsonConfig& json, const std::string& title, const std::string& class_name, const DecoderDefaults& defaults = {}) {
  using namespace detail;
  const auto size_or = [&](const char* key, Index fallback) { return json.has(key) ? config_size(json, key) : fallback; };
  const Index width = config_size(json, "hidden_size"), heads = config_size(json, "num_attention_heads");
  if (!json.has("head_dim") && defaults.head_width == 0) check_heads(json, "hidden_size", width, "num_attention_heads", heads);
  const Index head_width = size_or("head_dim", defaults.head_width > 0 ? defaults.head_width : width / heads);
  const bool bias = json.get_or<bool>("attention_bias", false);
  Architecture a = described(json, title, class_name, "model.");
  a.hidden_size = width;
  a.max_position_embeddings = config_size(json, "max_position_embeddings");
  a.input = {.module = "embed_tokens", .words = "embed_tokens", .padding_row_learns = false};
  const LayerSpec layer{.attention = {.heads = heads,
                                      .kv_heads = size_or("num_key_value_heads", defaults.kv_heads > 0 ? defaults.kv_heads : heads),
                                      .head_width = head_width,
                                      .causal = true,
                                      .bias = bias,
                                      .output_bias = bias,
                                      .dropout = config_dropout(json, "attention_dropout", 0.0),
                                      .rotary = rotary_of(json, head_width, {.layer_type = "full_attention", .theta = defaults.theta})},
                        .feed_forward = {.intermediate_size = config_size(json, "intermediate_size"),
                                         .activation = config_activation(json, defaults.activation_key, defaults.activation),
                                         .gated = true,
                                         .bias = json.get_or<bool>("mlp_bias", false)}};
  a.stack = {.layers = repeated(layer, config_size(json, "num_hidden_layers")),
             .norm = {.kind = NormSpec::Kind::rms_norm, .epsilon = json.get_or<double>("rms_norm_eps", defaults.epsilon), .bias = false},
             .place = NormPlace::before,
             .final_norm = "norm",
             .names = {"layers.{}.",
                       {{"self_attn", "attention_adapters.adapters", "input_layernorm"},
                        "self_attn",
                        {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                        "self_attn.o_proj",
                        "self_attn.q_norm",
                        "self_attn.k_norm"},
                       {{"mlp", "output_adapters.adapters", "post_attention_layernorm"}, {"mlp.gate_proj", "mlp.up_proj"}, "mlp.down_proj"}}};
  a.head = {.pool = HeadSpec::Pool::last_row,
            .classifier = "score",
            .classifier_bias = false,
            .lm_head = "lm_head",
            .tied = json.get_or<bool>("tie_word_embeddings", defaults.tied),
            .language_model_class = class_name + "ForCausalLM"};
  a.default_targets = {{{"LORA", "ADALORA", "VERA"}, {"q_proj", "v_proj"}},
                       {{"IA3"}, {"k_proj", "v_proj", "down_proj"}, {"down_proj"}},
                       {{"LN_TUNING"}, {"input_layernorm", "post_attention_layernorm", "norm"}}};
  a.adapterhub_prompts = a.adapterhub_bottlenecks = false;
  a.unread = {"{score,lm_head}.**", "**.rotary_emb.inv_freq"};
  return a;
}

// Keys that a query sees behind itself: files count its own among those of a window. 4096 where the file does not say; 0, all of them, for null.
DELTATUNE_FUNCTION Index sliding_window(const JsonConfig& json) {
  if (json.has("sliding_window")) return detail::config_size(json, "sliding_window", 2) - 1;
  return json.raw().contains("sliding_window") ? 0 : 4095;
}

// Those decoders that AdapterHub has.
DELTATUNE_FUNCTION Architecture decoder_of_adapterhub(const JsonConfig& json, const std::string& title, const DecoderDefaults& defaults = {}) {
  Architecture a = decoder(json, title, title, defaults);
  // Its names for the two are the other way round here.
  a.stack.names.feed_forward.adapterhub_intermediate = "mlp.down_proj";
  a.stack.names.feed_forward.adapterhub_output = "mlp.up_proj";
  a.adapterhub_bottlenecks = true;
  return a;
}

DELTATUNE_FUNCTION Architecture llama(const JsonConfig& json) { return decoder_of_adapterhub(json, "Llama"); }

DELTATUNE_FUNCTION Architecture mistral(const JsonConfig& json) {
  Architecture a = decoder_of_adapterhub(json, "Mistral", {.kv_heads = 8});
  for (LayerSpec& layer : a.stack.layers) {
    layer.attention.window = sliding_window(json);
    layer.attention.bias = layer.attention.output_bias = layer.feed_forward.bias = false;
  }
  return a;
}

}  // namespace deltatune::family
