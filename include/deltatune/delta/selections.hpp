// Methods that are selections of the model's own parameters.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/seam/selection.hpp"

namespace deltatune {

// What a selection has to know of a model; family_of(model) tells it.
struct ModelFamily {
  std::string name = "bert";  // Model::kFamily
  bool classifies = true;
  Index layers = 0;
};

template <class Model>
ModelFamily family_of(const Model& model) {
  return {Model::kFamily, model.has_classifier(), model.layers()};
}

namespace detail {
// With the output layer, where there is one.
DELTATUNE_FUNCTION Selection with_head(std::string name, std::vector<std::string> globs, const ModelFamily& family) {
  if (family.classifies) globs.push_back(family.name == "gpt2" ? "score.**" : "classifier.**");
  return {std::move(name), std::move(globs)};
}
}  // namespace detail

// Everything trains.
inline Selection full_fine_tuning() { return {"full", {"**"}}; }

// Feature-based: the encoder as it is, only the output layer trains. Throws Error for a model without one.
DELTATUNE_FUNCTION Selection head_only(const ModelFamily& family = {}) {
  if (!family.classifies) throw Error("head", "the model has no output layer of its own", {.remedy = "choose another method for a language model"});
  return detail::with_head("head", {}, family);
}

// BitFit: all biases (those of the LayerNorms included) and the output layer. Ben Zaken et al. 2021, arXiv 2106.10199.
// Parameters, BERT: L·(7C + F) + 2·C (embeddings' norm, pooler) and the head: 102,912 + head for BERT-base.
inline Selection bitfit(const ModelFamily& family = {}) { return detail::with_head("bitfit", {"**.bias"}, family); }

// BitFit's subset of the query's and the feed-forward's first bias, with the pooler's and the output layer, as the paper's code has it. BERT.
inline Selection bitfit_query_ffn() {
  return {"bitfit_query_ffn", {"**.attention.self.query.bias", "**.intermediate.dense.bias", "**.pooler.dense.bias", "classifier.**"}};
}

// LayerNorm tuning: scales and shifts of all norms, and the output layer. Qi et al. 2022, arXiv 2210.03629 (there with the output layer as here).
DELTATUNE_FUNCTION Selection layer_norm_tuning(const ModelFamily& family = {}) {
  if (family.name == "gpt2") return detail::with_head("layer_norm", {"**.ln_1.*", "**.ln_2.*", "**.ln_f.*"}, family);
  return detail::with_head("layer_norm", {"**.LayerNorm.*"}, family);
}

// The last `count` blocks as a whole, what stands above them, and the output layer. Throws Error when there aren't so many.
DELTATUNE_FUNCTION Selection last_layers(Index count, const ModelFamily& family) {
  if (count < 1 || count > family.layers)
    throw Error("last layers", "the model has only " + std::to_string(family.layers) + " layers",
                {.expected = "1 to " + std::to_string(family.layers), .got = std::to_string(count)});
  std::vector<std::string> globs;
  for (Index layer = family.layers - count; layer < family.layers; ++layer)
    globs.push_back((family.name == "gpt2" ? "**.h." : "**.layer.") + std::to_string(layer) + ".**");
  if (family.name == "gpt2") {
    globs.push_back("**.ln_f.*");
  } else if (family.classifies) {
    globs.push_back("**.pooler.**");
  }
  return detail::with_head("last_" + std::to_string(count) + "_layers", std::move(globs), family);
}

}  // namespace deltatune
