// Methods that are selections of the model's own parameters.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/seam/architecture.hpp"
#include "deltatune/seam/selection.hpp"

namespace deltatune {

// What a selection has to know of a model; family_of(model) tells it.
struct ModelFamily {
  Architecture architecture;
  bool classifies = true;
};

template <class Model>
ModelFamily family_of(const Model& model) {
  return {model.architecture(), model.has_classifier()};
}

namespace detail {
// With the output layer, where there is one.
DELTATUNE_FUNCTION Selection with_head(std::string name, std::vector<std::string> globs, const ModelFamily& family) {
  if (family.classifies) globs.push_back(family.architecture.head.output_module() + ".**");
  return {std::move(name), std::move(globs)};
}
}  // namespace detail

// Everything trains.
inline Selection full_fine_tuning() { return {"full", {"**"}}; }

// Feature-based: the model as it is, only its output layer trains, a classifier's or that of a language model which has a table of its own. Throws Error for a
// model without one.
DELTATUNE_FUNCTION Selection head_only(const ModelFamily& family) {
  if (family.classifies) return detail::with_head("head", {}, family);
  const HeadSpec& head = family.architecture.head;
  if (head.lm_head.empty()) throw Error("head", "the model has no output layer", {.remedy = "load it with a classifier"});
  if (head.tied || head.always_tied)
    throw Error("head", "the output layer is the table of the token embeddings, so that it cannot train alone",
                {.expected = "a model with tie_word_embeddings false",
                 .got = family.architecture.title + " with one table for both",
                 .remedy = "LoRA with the target " + head.lm_head + " leaves the embeddings as they are"});
  return {"head", {head.lm_head + ".weight"}};
}

// BitFit: all biases (those of the LayerNorms included) and the output layer. Ben Zaken et al. 2021, arXiv 2106.10199.
// Parameters, BERT: L·(7C + F) + 2·C (embeddings' norm, pooler) and the head: 102,912 + head for BERT-base.
inline Selection bitfit(const ModelFamily& family) { return detail::with_head("bitfit", {"**.bias"}, family); }

// BitFit's subset of the query's and the feed-forward's first bias, with the pooler's and the output layer, as the paper's code has it. Throws Error where
// queries share a layer with keys and values.
DELTATUNE_FUNCTION Selection bitfit_query_ffn(const ModelFamily& family) {
  const Architecture& a = family.architecture;
  if (a.stack.names.attention.projections.size() < 3) throw Error("bitfit_query_ffn", a.title + " has no layer of its own for queries", {.expected = "bitfit"});
  std::vector<std::string> globs{"**." + a.stack.names.attention.projections[0] + ".bias", "**." + a.stack.names.feed_forward.up[0] + ".bias"};
  if (!a.head.pooler.empty() && a.head.dense.empty()) globs.push_back("**." + a.head.pooler + ".bias");
  return detail::with_head("bitfit_query_ffn", std::move(globs), family);
}

// LayerNorm tuning: scales and shifts of all norms, and the output layer. Qi et al. 2022, arXiv 2210.03629 (there with the output layer as here).
DELTATUNE_FUNCTION Selection layer_norm_tuning(const ModelFamily& family) {
  std::vector<std::string> globs;
  if (const DefaultTargets* const norms = family.architecture.targets_of("LN_TUNING"))
    for (const std::string& name : norms->names) globs.push_back("**." + name + ".*");
  return detail::with_head("layer_norm", std::move(globs), family);
}

// The last `count` layers as a whole, what stands above them, and the output layer. Throws Error when there aren't so many.
DELTATUNE_FUNCTION Selection last_layers(Index count, const ModelFamily& family) {
  const Architecture& a = family.architecture;
  if (count < 1 || count > a.layers())
    throw Error("last layers", "the model has only " + std::to_string(a.layers()) + " layers",
                {.expected = "1 to " + std::to_string(a.layers()), .got = std::to_string(count)});
  std::vector<std::string> globs;
  for (Index layer = a.layers() - count; layer < a.layers(); ++layer) globs.push_back("**." + a.layer_path(layer) + "**");
  if (!a.stack.final_norm.empty()) globs.push_back("**." + a.stack.final_norm + ".*");
  if (family.classifies)
    for (const std::string& above : {a.head.dense.empty() ? a.head.pooler : a.head.dense, a.head.norm})
      if (!above.empty()) globs.push_back("**." + above + ".**");
  return detail::with_head("last_" + std::to_string(count) + "_layers", std::move(globs), family);
}

}  // namespace deltatune
