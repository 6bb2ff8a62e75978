// ModernBERT: Warner et al. 2024, arXiv 2412.13663. Norms before the branches, rotary positions, gated feed-forward layers, and attention that is local in
// most layers. Configurations as transformers 4.57 (global_attn_every_n_layers, *_rope_theta) and 5 (layer_types, rope_parameters) write them.
#pragma once

#include "deltatune/model/config_fields.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture modernbert(const JsonConfig& json) {
  using namespace detail;
  const Index width = config_size(json, "hidden_size"), heads = config_size(json, "num_attention_heads"), layers = config_size(json, "num_hidden_layers");
  const Index window = (json.has("local_attention") ? config_size(json, "local_attention", 2) : 128) / 2;
  const double attention_dropout = config_dropout(json, "attention_dropout", 0.0);
  check_heads(json, "hidden_size", width, "num_attention_heads", heads);
  Architecture a = described(json, "ModernBERT", "ModernBert", "model.");
  a.hidden_size = width;
  a.max_position_embeddings = config_size(json, "max_position_embeddings");
  a.input = {.module = "embeddings",
             .words = "embeddings.tok_embeddings",
             .norm = "embeddings.norm",
             .dropout = config_dropout(json, "embedding_dropout", 0.0),
             .padding_row_learns = false};
  const bool attention_bias = json.get_or<bool>("attention_bias", false);
  a.stack = {.norm = {.epsilon = json.get_or<double>("norm_eps", 1e-5), .bias = json.get_or<bool>("norm_bias", false)},
             .place = NormPlace::before,
             .final_norm = "final_norm",
             .names = {"layers.{}.",
                       {{"attn", "attn.adapters", "attn_norm"}, "attn", {"attn.Wqkv"}, "attn.Wo"},
                       {{"mlp", "mlp.adapters", "mlp_norm"}, {"mlp.Wi"}, "mlp.Wo"}}};
  for (const bool full : full_attention_layers(json, layers, "global_attn_every_n_layers", 3, 0)) {
    const double theta =
        full ? rope_theta(json, "full_attention", "global_rope_theta", 160000) : rope_theta(json, "sliding_attention", "local_rope_theta", 10000);
    a.stack.layers.push_back({.attention = {.heads = heads,
                                            .kv_heads = heads,
                                            .head_width = width / heads,
                                            .window = full ? 0 : window,
                                            .bias = attention_bias,
                                            .output_bias = attention_bias,
                                            .dropout = attention_dropout,
                                            .output_dropout = attention_dropout,
                                            .rotary = RotarySpec{.theta = theta}},
                              .feed_forward = {.intermediate_size = config_size(json, "intermediate_size"),
                                               .activation = config_activation(json, "hidden_activation", "gelu"),
                                               .gated = true,
                                               .bias = json.get_or<bool>("mlp_bias", false),
                                               .inner_dropout = config_dropout(json, "mlp_dropout", 0.0)},
                              .first_norm = !a.stack.layers.empty()});
  }
  a.head = {.pool = one_of(json, "classifier_pooling", {"cls", "mean"}) == "mean" ? HeadSpec::Pool::mean : HeadSpec::Pool::first_row,
            .dense = "head.dense",
            .dense_bias = json.get_or<bool>("classifier_bias", false),
            .activation = config_activation(json, "classifier_activation", "gelu"),
            .norm = "head.norm",
            .classifier = "classifier",
            .dropout = config_dropout(json, "classifier_dropout", 0.0)};
  a.default_targets = {{{"LORA", "ADALORA", "VERA"}, {"Wqkv"}},
                       {{"IA3"}, {"Wqkv", "mlp.Wo"}, {"mlp.Wo"}},
                       {{"LN_TUNING"}, {"embeddings.norm", "attn_norm", "mlp_norm", "final_norm"}}};
  a.adapterhub_prompts = a.adapterhub_bottlenecks = false;
  a.unread = {"{decoder,head,classifier}.**"};
  return a;
}

}  // namespace deltatune::family
