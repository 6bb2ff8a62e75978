// RoBERTa: Liu et al. 2019, arXiv 1907.11692; XLM-RoBERTa: Conneau et al. 2020, arXiv 1911.02116; CamemBERT: Martin et al. 2020, arXiv 1911.03894. BERT's
// encoder, with positions that begin behind the padding id and leave out tokens that are it, and a dense layer in the classifier.
#pragma once

#include "deltatune/model/family/bert.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture roberta_of(const JsonConfig& json, const std::string& title, const std::string& class_name) {
  Architecture a = bert_encoder(json, title, class_name, "roberta.");
  a.pad_id = json.get_or<std::int64_t>("pad_token_id", 1);
  a.input.first_position = a.pad_id + 1;
  a.input.skips_padding_id = true;
  a.head.pooler = "pooler.dense";
  a.head.dense = "classifier.dense";
  a.head.classifier = "classifier.out_proj";
  a.head.drops_pooled = true;
  a.unread = {"{lm_head,qa_outputs,classifier}.**", "**.embeddings.position_ids"};
  return a;
}

DELTATUNE_FUNCTION Architecture roberta(const JsonConfig& json) {
  Architecture a = roberta_of(json, "RoBERTa", "Roberta");
  a.default_targets = {{{"LORA", "VERA"}, {"query", "value"}},
                       {{"ADALORA"}, {"query", "key", "value", "dense"}},
                       {{"IA3"}, {"key", "value", "output.dense"}, {"output.dense"}},
                       {{"LN_TUNING"}, {"LayerNorm"}}};
  return a;
}
DELTATUNE_FUNCTION Architecture xlm_roberta(const JsonConfig& json) { return roberta_of(json, "XLM-RoBERTa", "XLMRoberta"); }
DELTATUNE_FUNCTION Architecture camembert(const JsonConfig& json) {
  Architecture a = roberta_of(json, "CamemBERT", "Camembert");
  a.adapterhub_prompts = false;
  return a;
}

}  // namespace deltatune::family
