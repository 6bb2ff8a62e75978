// DistilBERT: Sanh et al. 2019, arXiv 1910.01108. Half of BERT's layers, no token types, and a dense layer with ReLU in the classifier.
#pragma once

#include "deltatune/model/config_fields.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture distilbert(const JsonConfig& json) {
  using namespace detail;
  const auto either = [&](const char* key, const char* other) { return config_size(json, json.has(key) ? key : other); };
  const Index width = either("dim", "hidden_size"), heads = either("n_heads", "num_attention_heads");
  const double dropout = config_dropout(json, "dropout", 0.1);
  check_heads(json, "dim", width, "n_heads", heads);
  Architecture a = described(json, "DistilBERT", "DistilBert", "distilbert.");
  a.hidden_size = width;
  a.pad_id = json.get_or<std::int64_t>("pad_token_id", 0);
  a.max_position_embeddings = config_size(json, "max_position_embeddings");
  a.input = {.module = "embeddings",
             .words = "embeddings.word_embeddings",
             .positions = "embeddings.position_embeddings",
             .norm = "embeddings.LayerNorm",
             .dropout = dropout,
             .padding_row_learns = false};
  const LayerSpec layer{
      .attention = {.heads = heads, .kv_heads = heads, .head_width = width / heads, .dropout = config_dropout(json, "attention_dropout", 0.1)},
      .feed_forward = {
          .intermediate_size = config_size(json, "hidden_dim"), .activation = config_activation(json, "activation", "gelu"), .output_dropout = dropout}};
  a.stack = {.layers = repeated(layer, either("n_layers", "num_hidden_layers")),
             .norm = {.epsilon = 1e-12},
             .place = NormPlace::after_sum,
             .names = {"transformer.layer.{}.",
                       {{"attention", "attention_adapters.adapters", "sa_layer_norm"},
                        "attention",
                        {"attention.q_lin", "attention.k_lin", "attention.v_lin"},
                        "attention.out_lin"},
                       {{"ffn", "output_adapters.adapters", "output_layer_norm"}, {"ffn.lin1"}, "ffn.lin2"}}};
  a.head = {
      .dense = "pre_classifier", .activation = ops::Activation::relu, .classifier = "classifier", .dropout = config_dropout(json, "seq_classif_dropout", 0.2)};
  a.default_targets = {{{"LORA", "ADALORA", "VERA"}, {"q_lin", "v_lin"}},
                       {{"IA3"}, {"k_lin", "v_lin", "lin2"}, {"lin2"}},
                       {{"LN_TUNING"}, {"LayerNorm", "sa_layer_norm", "output_layer_norm"}}};
  a.adapterhub_prompts = false;
  a.adapterhub_prefix = "self";
  a.old_names = {{{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}}};
  a.unread = {"{vocab_transform,vocab_layer_norm,vocab_projector,qa_outputs,pre_classifier,classifier}.**", "**.embeddings.position_ids"};
  return a;
}

}  // namespace deltatune::family
