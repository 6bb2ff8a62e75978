// Methods that are selections of the model's own parameters.
#pragma once

#include "deltatune/seam/selection.hpp"

namespace deltatune {

// Everything trains.
inline Selection full_fine_tuning() { return {"full", {"**"}}; }

// Feature-based: the encoder as it is, only the output layer trains.
inline Selection head_only() { return {"head", {"classifier.**"}}; }

// BitFit: all biases (those of the LayerNorms included) and the output layer. Ben Zaken et al. 2021, arXiv 2106.10199.
// Parameters, BERT: L·(7C + F) + 2·C (embeddings' norm, pooler) and the head: 102,912 + head for BERT-base.
inline Selection bitfit() { return {"bitfit", {"**.bias", "classifier.**"}}; }

// BitFit's subset of the query's and the feed-forward's first bias, with the pooler's and the output layer, as the paper's code has it.
inline Selection bitfit_query_ffn() {
  return {"bitfit_query_ffn", {"**.attention.self.query.bias", "**.intermediate.dense.bias", "**.pooler.dense.bias", "classifier.**"}};
}

}  // namespace deltatune
