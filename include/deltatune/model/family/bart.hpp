// BART: Lewis et al. 2019, arXiv 1910.13461; mBART: Liu et al. 2020, arXiv 2001.08210, and mBART-50: Tang et al. 2020, arXiv 2008.00401. An encoder and a
// decoder with learned positions that begin at 2 and a LayerNorm behind the embeddings, as Hugging Face's BartForConditionalGeneration,
// MBartForConditionalGeneration and their ForSequenceClassification. BART's layers have LayerNorm after the sum, mBART's before the branches and behind the
// last one.
#pragma once

#include <cmath>
#include <string>
#include <utility>

#include "deltatune/model/config_fields.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture bart_of(const JsonConfig& json, const std::string& title, const std::string& class_name, bool norm_before) {
  using namespace detail;
  for (const auto& [key, value] : {std::pair("is_encoder_decoder", true),
                                   {"tie_word_embeddings", true},
                                   {"normalize_embedding", true},
                                   {"static_position_embeddings", false},
                                   {"normalize_before", norm_before},
                                   {"add_final_layer_norm", norm_before}})
    check_absent_or(json, key, value);
  constexpr Index kOffset = 2;  // of positions, in transformers' code
  const Index width = config_size(json, "d_model");
  const double dropout = config_dropout(json, "dropout", 0.1);
  Architecture a = described(json, title, class_name, "model.");
  a.hidden_size = width;
  a.pad_id = json.get_or<std::int64_t>("pad_token_id", 1);
  if (a.eos_ids.empty()) a.eos_ids = {2};
  a.max_position_embeddings = config_size_or(json, "max_position_embeddings", 1024) + kOffset;
  a.initializer_range = json.get_or<double>("init_std", 0.02);
  const auto input = [&](const std::string& side) {
    return InputSpec{.module = side,
                     .words = "shared",
                     .positions = side + ".embed_positions",
                     .norm = side + ".layernorm_embedding",
                     .dropout = dropout,
                     .scale = json.get_or<bool>("scale_embedding", false) ? std::sqrt(static_cast<double>(width)) : 1,
                     .first_position = kOffset,
                     .padding_row_learns = false};
  };
  const auto attention_names = [](const std::string& module, const std::string& adapters) {
    AttentionNames names;
    names.site = names.module = module;
    names.adapters = adapters + ".adapters";
    names.norm = module + "_layer_norm";
    names.projections = {module + ".q_proj", module + ".k_proj", module + ".v_proj"};
    names.output = module + ".out_proj";
    return names;
  };
  const auto stack = [&](const std::string& side, bool decodes) {
    const std::string heads_key = side + "_attention_heads", layer_drop = side + "_layerdrop";
    const Index heads = config_size(json, heads_key.c_str());
    check_heads(json, "d_model", width, heads_key.c_str(), heads);
    if (const double drop = config_dropout(json, layer_drop.c_str(), 0); drop != 0)
      throw Error(json.name() + ": " + layer_drop, "is not supported", {.expected = "0", .got = std::to_string(drop)});
    LayerSpec layer{.attention = {.heads = heads,
                                  .kv_heads = heads,
                                  .head_width = width / heads,
                                  .causal = decodes,
                                  .dropout = config_dropout(json, "attention_dropout", 0),
                                  .output_dropout = dropout},
                    .feed_forward = {.intermediate_size = config_size(json, (side + "_ffn_dim").c_str()),
                                     .activation = config_activation(json, "activation_function", "gelu"),
                                     .inner_dropout = config_dropout(json, "activation_dropout", 0),
                                     .output_dropout = dropout}};
    StackSpec spec{.norm = {.epsilon = 1e-5}, .place = norm_before ? NormPlace::before : NormPlace::after_sum};
    if (norm_before) spec.final_norm = side + ".layer_norm";
    spec.names.layer = side + ".layers.{}.";
    spec.names.attention = attention_names("self_attn", "attention_adapters");
    if (decodes) {
      layer.cross = layer.attention;
      layer.cross->causal = false;
      spec.names.cross = attention_names("encoder_attn", "cross_attention_adapters");
    }
    spec.names.feed_forward = {{"fc2", "output_adapters.adapters", "final_layer_norm"}, {"fc1"}, "fc2"};
    spec.layers = repeated(layer, config_size(json, (side + "_layers").c_str()));
    return spec;
  };
  a.input = input("decoder");
  a.stack = stack("decoder", true);
  a.encoder = EncoderSpec{.input = input("encoder"), .stack = stack("encoder", false)};
  add_decoder_classifier(json, a.head);
  a.head.lm_head = "lm_head";
  a.head.always_tied = true;
  a.head.logits_bias = "final_logits_bias";
  a.head.language_model_class = class_name + "ForConditionalGeneration";
  a.default_targets = {{{"LORA", "VERA"}, {"q_proj", "v_proj"}},
                       {{"ADALORA"}, {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}},
                       {{"IA3"}, {"q_proj", "v_proj", "fc2"}, {"fc2"}},
                       {{"LN_TUNING"}, {"self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"}}};
  a.adapterhub_prompts = false;
  a.old_names = {{{"shared.weight", "encoder.embed_tokens.weight"}, {"shared.weight", "decoder.embed_tokens.weight"}}};
  a.unread = {"**.embed_tokens.weight", "lm_head.weight", "final_logits_bias", "**.version", "{classification_head,qa_outputs}.**"};
  return a;
}

DELTATUNE_FUNCTION Architecture bart(const JsonConfig& json) {
  Architecture a = bart_of(json, "BART", "Bart", false);
  a.start_id = static_cast<std::int32_t>(json.get_or<std::int64_t>("decoder_start_token_id", 2));
  return a;
}

DELTATUNE_FUNCTION Architecture mbart(const JsonConfig& json) {
  Architecture a = bart_of(json, "mBART", "MBart", true);
  a.start_id = static_cast<std::int32_t>(json.get_or<std::int64_t>("decoder_start_token_id", -1));
  a.starts_with_last = true;
  a.default_targets.back().names.push_back("layer_norm");
  return a;
}

}  // namespace deltatune::family
