// T5: Raffel et al. 2020, arXiv 1910.10683; its version 1.1 and Flan-T5: Chung et al. 2022, arXiv 2210.11416; mT5: Xue et al. 2021, arXiv 2010.11934;
// UMT5: Chung et al. 2023, arXiv 2304.09151, with a table of biases by distance in every layer. An encoder and a decoder with RMSNorm before the branches,
// scores that are not scaled and biased by distance, no biases, as Hugging Face's T5ForConditionalGeneration, MT5ForConditionalGeneration,
// UMT5ForConditionalGeneration and their ForSequenceClassification.
#pragma once

#include <cmath>
#include <string>

#include "deltatune/model/config_fields.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune::family {

// biased_layers: of the block that has the table of its stack, or {} for each. Version 1.0 has ReLU and its head is the table of word embeddings, read at
// 1/√d_model; later ones have a gated GELU and a head of their own.
DELTATUNE_FUNCTION Architecture t5_of(const JsonConfig& json, const std::string& title, const std::string& class_name, const char* feed_forward, bool tied,
                                      const std::string& biased_layers = "0") {
  using namespace detail;
  Architecture a = described(json, title, class_name, "");
  a.classifier_prefix = "transformer.";
  a.hidden_size = config_size(json, "d_model");
  a.max_position_embeddings = Index{1} << 20;  // none: distances are all that counts
  a.start_id = static_cast<std::int32_t>(json.get_or<std::int64_t>("decoder_start_token_id", a.pad_id));
  const Index heads = config_size(json, "num_heads"), width = config_size(json, "d_kv");
  const double dropout = config_dropout(json, "dropout_rate", 0.1);
  const std::string kind =
      one_of(json, "feed_forward_proj",
             feed_forward == std::string("relu") ? std::vector<std::string>{"relu", "gated-gelu"} : std::vector<std::string>{"gated-gelu", "relu"});
  const bool gated = kind == "gated-gelu";
  const LayerSpec layer{.attention = {.heads = heads,
                                      .kv_heads = heads,
                                      .head_width = width,
                                      .scale = 1,
                                      .bias = false,
                                      .output_bias = false,
                                      .dropout = dropout,
                                      .output_dropout = dropout},
                        .feed_forward = {.intermediate_size = config_size(json, "d_ff"),
                                         .activation = gated ? ops::Activation::gelu_new : ops::Activation::relu,
                                         .gated = gated,
                                         .bias = false,
                                         .inner_dropout = dropout,
                                         .output_dropout = dropout}};
  const auto attention_names = [](const std::string& place, const std::string& module) {
    AttentionNames names;
    names.site = place;
    names.adapters = place + ".adapters";
    names.norm = place + ".layer_norm";
    names.module = place + "." + module;
    names.projections = {names.module + ".q", names.module + ".k", names.module + ".v"};
    names.output = names.module + ".o";
    return names;
  };
  const auto stack = [&](const std::string& side, Index layers, bool decodes) {
    LayerSpec each = layer;
    each.attention.causal = decodes;
    if (decodes) each.cross = layer.attention;
    const std::string last = decodes ? "layer.2" : "layer.1", dense = last + ".DenseReluDense.";
    StackSpec spec{.layers = repeated(each, layers),
                   .norm = {.kind = NormSpec::Kind::rms_norm, .epsilon = json.get_or<double>("layer_norm_epsilon", 1e-6), .bias = false},
                   .place = NormPlace::before,
                   .final_norm = side + ".final_layer_norm",
                   .final_dropout = dropout};
    spec.relative_bias = RelativeBiasSpec{.table = side + ".block." + biased_layers + ".layer.0.SelfAttention.relative_attention_bias",
                                          .buckets = config_size_or(json, "relative_attention_num_buckets", 32),
                                          .max_distance = config_size_or(json, "relative_attention_max_distance", 128),
                                          .bidirectional = !decodes};
    spec.names.layer = side + ".block.{}.";
    spec.names.attention = attention_names("layer.0", "SelfAttention");
    spec.names.feed_forward.site = last;
    spec.names.feed_forward.adapters = last + ".adapters";
    spec.names.feed_forward.norm = last + ".layer_norm";
    spec.names.feed_forward.up = gated ? std::vector<std::string>{dense + "wi_0", dense + "wi_1"} : std::vector<std::string>{dense + "wi"};
    spec.names.feed_forward.down = dense + "wo";
    spec.names.feed_forward.adapterhub_intermediate = spec.names.feed_forward.up.back();
    if (decodes) spec.names.cross = attention_names("layer.1", "EncDecAttention");
    return spec;
  };
  const Index layers = config_size(json, "num_layers");
  a.input = {.module = "decoder", .words = "shared", .dropout = dropout};
  a.encoder = EncoderSpec{.input = {.module = "encoder", .words = "shared", .dropout = dropout}, .stack = stack("encoder", layers, false)};
  a.stack = stack("decoder", config_size_or(json, "num_decoder_layers", layers), true);
  const bool is_tied = json.get_or<bool>("tie_word_embeddings", tied);
  add_decoder_classifier(json, a.head);
  a.head.lm_head = "lm_head";
  a.head.tied = is_tied;
  a.head.logit_scale = json.get_or<bool>("scale_decoder_outputs", is_tied) ? 1 / std::sqrt(static_cast<double>(a.hidden_size)) : 1;
  a.head.language_model_class = class_name + "ForConditionalGeneration";
  const std::vector<std::string> up = gated ? std::vector<std::string>{"wi_0", "wi_1"} : std::vector<std::string>{"wi"};
  std::vector<std::string> all{"q", "k", "v", "o"};
  all.insert(all.end(), up.begin(), up.end());
  all.push_back("wo");
  a.default_targets = {
      {{"LORA", "VERA"}, {"q", "v"}}, {{"ADALORA"}, all}, {{"IA3"}, {"k", "v", "wo"}, {"wo"}}, {{"LN_TUNING"}, {"layer_norm", "final_layer_norm"}}};
  a.adapterhub_prompts = false;
  a.unread = {"**.embed_tokens.weight", "lm_head.weight", "**.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", "classification_head.**"};
  return a;
}

DELTATUNE_FUNCTION Architecture t5(const JsonConfig& json) { return t5_of(json, "T5", "T5", "relu", true); }

DELTATUNE_FUNCTION Architecture with_gated_targets(Architecture a) {
  for (DefaultTargets& targets : a.default_targets)
    if (targets.methods.front() == "IA3") targets = {{"IA3"}, {"k", "v", "wi_1"}, {}};
  return a;
}
DELTATUNE_FUNCTION Architecture mt5(const JsonConfig& json) { return with_gated_targets(t5_of(json, "mT5", "MT5", "gated-gelu", false)); }
DELTATUNE_FUNCTION Architecture umt5(const JsonConfig& json) { return with_gated_targets(t5_of(json, "UMT5", "UMT5", "gated-gelu", true, "{}")); }

}  // namespace deltatune::family
