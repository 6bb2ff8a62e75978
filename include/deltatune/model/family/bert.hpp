// BERT: Devlin et al. 2018, arXiv 1810.04805, as Hugging Face's BertModel and BertForSequenceClassification.
#pragma once

#include "deltatune/model/config_fields.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune::family {

// The layers that BERT's descendants share: names and arithmetic, without what their heads and inputs have of their own.
DELTATUNE_FUNCTION Architecture bert_encoder(const JsonConfig& json, const std::string& title, const std::string& class_name, const std::string& prefix,
                                             bool has_types = true) {
  using namespace detail;
  const Index width = config_size(json, "hidden_size"), heads = config_size(json, "num_attention_heads");
  const double dropout = config_dropout(json, "hidden_dropout_prob", 0.1);
  check_heads(json, "hidden_size", width, "num_attention_heads", heads);
  check_absent_or(json, "position_embedding_type", std::string("absolute"));
  check_absent_or(json, "is_decoder", false);
  Architecture a = described(json, title, class_name, prefix);
  a.hidden_size = width;
  a.max_position_embeddings = config_size(json, "max_position_embeddings");
  a.input = {.module = "embeddings",
             .words = "embeddings.word_embeddings",
             .positions = "embeddings.position_embeddings",
             .norm = "embeddings.LayerNorm",
             .dropout = dropout,
             .padding_row_learns = false};
  if (has_types) {
    a.type_vocab_size = config_size(json, "type_vocab_size");
    a.input.types = "embeddings.token_type_embeddings";
  }
  const LayerSpec layer{
      .attention = {.heads = heads,
                    .kv_heads = heads,
                    .head_width = width / heads,
                    .dropout = config_dropout(json, "attention_probs_dropout_prob", 0.1),
                    .output_dropout = dropout},
      .feed_forward = {
          .intermediate_size = config_size(json, "intermediate_size"), .activation = config_activation(json, "hidden_act", "gelu"), .output_dropout = dropout}};
  a.stack = {.layers = repeated(layer, config_size(json, "num_hidden_layers")),
             .norm = {.epsilon = json.get_or<double>("layer_norm_eps", 1e-12)},
             .place = NormPlace::after_sum,
             .names = {"encoder.layer.{}.",
                       {{"attention.output", "attention.output.adapters", "attention.output.LayerNorm"},
                        "attention.self",
                        {"attention.self.query", "attention.self.key", "attention.self.value"},
                        "attention.output.dense"},
                       {{"output", "output.adapters", "output.LayerNorm"}, {"intermediate.dense"}, "output.dense"}}};
  a.head = {.classifier = "classifier", .dropout = config_dropout(json, "classifier_dropout", dropout)};
  a.default_targets = {
      {{"LORA", "ADALORA", "VERA"}, {"query", "value"}}, {{"IA3"}, {"key", "value", "output.dense"}, {"output.dense"}}, {{"LN_TUNING"}, {"LayerNorm"}}};
  a.old_names = {{{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}}};
  a.unread = {"{cls,qa_outputs,classifier}.**", "**.embeddings.{position_ids,token_type_ids}"};
  return a;
}

DELTATUNE_FUNCTION Architecture bert(const JsonConfig& json) {
  Architecture a = bert_encoder(json, "BERT", "Bert", "bert.");
  a.head.pooler = "pooler.dense";
  return a;
}

}  // namespace deltatune::family
