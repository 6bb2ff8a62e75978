// What the commands share: a model from its folder with the adapter attached.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/model/bert.hpp"
#include "deltatune/seam/selection.hpp"

namespace deltatune::cli {

template <class X>
struct LoadedModel {
  Bert<X> model;
  std::optional<LoadedAdapter<X>> adapter;
  std::vector<std::string> labels;  // one name a class
};

// Classes of the output layer: those that the adapter (empty: none) carries, else those of the model's file; 0: there is none.
Index classes_of(const std::filesystem::path& folder, const std::filesystem::path& adapter);

// Names of the classes: from the adapter's labels.json, else from the model's config, else numbered.
std::vector<std::string> label_names(const BertConfig& config, Index classes, const std::filesystem::path& adapter);

// The model of a folder, everything frozen, or with the adapter of a second folder (empty: none), whose parameters then train.
template <class X>
LoadedModel<X> load_model(context_of<X>& ctx, const std::filesystem::path& folder, const std::filesystem::path& adapter) {
  LoadedModel<X> loaded{Bert<X>::load(ctx, folder, Head{classes_of(folder, adapter)}), std::nullopt, {}};
  if (!adapter.empty()) loaded.adapter = load_adapter(ctx, loaded.model, adapter);
  loaded.labels = label_names(loaded.model.config(), loaded.model.classes(), adapter);
  return loaded;
}

// "full", "bitfit", "bitfit_query_ffn" or "head".
Selection selection_of(const std::string& name);

}  // namespace deltatune::cli
