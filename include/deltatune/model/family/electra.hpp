// ELECTRA: Clark et al. 2020, arXiv 2003.10555. BERT's encoder behind embeddings of a width of their own, and a dense layer with GELU in the classifier.
#pragma once

#include "deltatune/model/family/bert.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture electra(const JsonConfig& json) {
  Architecture a = bert_encoder(json, "ELECTRA", "Electra", "electra.");
  a.input.embedding_size = detail::config_size(json, "embedding_size");
  if (a.input.embedding_size != a.hidden_size) a.input.projection = "embeddings_project";
  a.head.dense = "classifier.dense";
  a.head.activation = ops::Activation::gelu;
  a.head.classifier = "classifier.out_proj";
  a.head.drops_pooled = true;
  a.unread = {"{discriminator_predictions,generator_predictions,generator_lm_head,qa_outputs,sequence_summary,classifier}.**", "**.embeddings.position_ids"};
  return a;
}

}  // namespace deltatune::family
