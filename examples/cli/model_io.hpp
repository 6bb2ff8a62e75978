// What the commands share: a model from its folder with its adapters attached.
#pragma once

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/adapter_folder.hpp"
#include "device.hpp"
#include "run_record.hpp"

namespace deltatune::cli {

// From config.json. Throws Error for a folder without one, and for a family that is not known.
Architecture architecture_in(const std::filesystem::path& folder);

// What stands on top of the model: what the adapters were trained for, else what the model's files say.
Head head_of(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& adapters);

// A folder that `train` wrote for several methods lists those of its parts; any other is itself.
std::vector<std::filesystem::path> adapter_folders(const std::vector<std::filesystem::path>& given);

// Of an adapter that is attached after `others` ones: what messages call it.
std::string attachment_name(const std::filesystem::path& folder, std::size_t others);

// Positions of the model that prefixes and prompts among the adapters take.
Index positions_taken_by(const std::vector<std::filesystem::path>& adapters);

// Names of the classes: from an adapter's labels.json, else from the model's config, else numbered.
std::vector<std::string> label_names(const std::vector<std::string>& of_model, Index classes, const std::vector<std::filesystem::path>& adapters);

// The trained output layer of an adapter, else of the model: classes that the file holds weights for, and their names.
struct OwnHead {
  Index num_labels = 0;  // 0: none
  std::vector<std::string> labels;
};
OwnHead own_head(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& adapters);

// What a classifier's outputs are.
enum class Output {
  one_label,       // scores, of which the largest wins
  several_labels,  // of each label whether it applies (transformers' multi_label_classification)
  numbers          // regression
};
Output output_of(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& adapters, Index classes);
// As transformers names it.
std::string problem_type_of(Output output);

template <class Model>
struct LoadedModel {
  std::unique_ptr<Model> model;  // stays where it is: adapters point into it
  std::vector<Adapter<typename Model::Tensor>> adapters;
  std::vector<std::string> labels;  // one name per class
};

// The model of a folder, everything frozen, or with adapters, whose parameters then train. rounds_layers: as Transformer::load() takes it.
template <class Model>
LoadedModel<Model> load_model(typename Model::Context& ctx, const std::filesystem::path& folder, const std::vector<std::filesystem::path>& given,
                              bool rounds_layers = false) {
  LoadedModel<Model> loaded{std::make_unique<Model>(Model::load(ctx, folder, head_of(folder, given), 0, rounds_layers)), {}, {}};
  freeze_base(*loaded.model);
  for (const std::string& note : run_notes(folder, given)) std::cerr << "note: " << note << "\n";
  for (const std::filesystem::path& adapter : adapter_folders(given)) {
    loaded.adapters.push_back(load_adapter_beside(ctx, *loaded.model, adapter, attachment_name(adapter, loaded.adapters.size())));
    for (const std::string& note : loaded.adapters.back().notes) std::cerr << "note: " << note << "\n";
  }
  loaded.labels = label_names(loaded.model->architecture().labels, loaded.model->num_labels(), given);
  return loaded;
}

// Merges the adapters and detaches them, in the order given, but for those that another one has to go before. Throws Error where one cannot be merged.
template <class Model>
void merge_adapters(typename Model::Context& ctx, LoadedModel<Model>& loaded) {
  using X = typename Model::Tensor;
  std::vector<Attachment<X>*> left;
  for (auto& adapter : loaded.adapters)
    if (adapter.attachment.has_deltas()) left.push_back(&adapter.attachment);
  while (!left.empty()) {
    auto next = std::find_if(left.begin(), left.end(), [](Attachment<X>* attachment) { return attachment->in_the_way().empty(); });
    if (next == left.end()) next = left.begin();  // which says what is in its way
    (*next)->merge(ctx);
    (*next)->detach();  // gives back the bits that were kept for unmerge()
    left.erase(next);
  }
}

template <class Model>
ModelInfo info_of(Model& model, std::vector<std::string> labels) {
  const Architecture& architecture = model.architecture();
  const LayerSpec& layer = architecture.stack.layers.front();
  ModelInfo info;
  info.family = family_of(model);
  info.is_language_model = model.is_language_model();
  info.is_encoder_decoder = model.is_encoder_decoder();
  info.num_labels = model.num_labels();
  info.vocab_size = architecture.vocab_size;
  info.max_position_embeddings = architecture.max_position_embeddings;
  info.type_vocab_size = architecture.type_vocab_size;
  info.hidden_size = architecture.hidden_size;
  info.layers = architecture.layers();
  info.heads = layer.attention.heads;
  info.intermediate_size = layer.feed_forward.intermediate_size;
  info.taken = model.layout().counted + model.layout().shift;
  info.labels = std::move(labels);
  return info;
}

// "full", "bitfit", "bitfit_query_ffn", "head" or "layer_norm".
Selection selection_of(const std::string& name, const ModelFamily& family);

}  // namespace deltatune::cli
