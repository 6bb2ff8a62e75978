// A whole model as a Hugging Face folder: config.json, model.safetensors, and the tokenizer's files of the folder it came from.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/io/hf_checkpoint.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/model_folder.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/result_files.hpp"
#include "deltatune/io/staged_folder.hpp"

namespace deltatune {

// float32, what the model computes with; or as_source, rounded to the types of the checkpoint that it was loaded from, each parameter to its own (what the
// checkpoint has no tensor for, a new output layer, to the one that most have).
enum class SavedDtype { float32, as_source };

namespace detail {

// The types of a checkpoint's parameters.
class SourceDtypes {
 public:
  DELTATUNE_FUNCTION explicit SourceDtypes(const HfCheckpoint& checkpoint) {
    std::map<DType, Index> sizes;
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      if (tensor.dtype != DType::F32 && tensor.dtype != DType::F16 && tensor.dtype != DType::BF16) continue;
      by_name_[name] = tensor.dtype;
      sizes[tensor.dtype] += element_count(tensor.shape);
    }
    for (const auto& [dtype, size] : sizes)
      if (size > sizes[most_]) most_ = dtype;
  }
  DType most() const { return most_; }
  // path: the parameter's; the checkpoint may have it without its first part, "bert." or "transformer.".
  DELTATUNE_FUNCTION DType of(const std::string& path) const {
    for (const std::string& name : {path, path.substr(path.find('.') + 1)})
      if (const auto found = by_name_.find(name); found != by_name_.end()) return found->second;
    return most_;
  }

 private:
  std::map<std::string, DType> by_name_;
  DType most_ = DType::F32;
};

}  // namespace detail

// Writes the base parameters (merge deltas first: what is attached is not written). source: the folder the model was loaded from.
// labels: names of the classes, or empty. problem_type: what a new output layer was trained for, as transformers names it; empty: as the source says.
// Throws Error when the folder can't be written, or is the source itself, and when a number does not fit into its type.
template <class Model>
void save_hf_checkpoint(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, const std::filesystem::path& source,
                        const std::vector<std::string>& labels, const std::string& problem_type = "", SavedDtype dtype = SavedDtype::float32) {
  using X = typename Model::Tensor;
  std::error_code is_new;
  if (std::filesystem::equivalent(folder, source, is_new)) throw Error(folder.string(), "is the model's own folder", {.remedy = "write to another one"});
  StagedFolder staged(folder);
  std::optional<detail::SourceDtypes> dtypes;
  if (dtype == SavedDtype::as_source) dtypes.emplace(HfCheckpoint::open(source));
  SafeTensorsWriter writer;
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.role() == Role::delta) return;
    writer.add_rounded(parameter.path(), parameter.file_shape(), download_in_file_order(ctx, parameter, parameter.value()),
                       dtypes ? dtypes->of(parameter.path()) : DType::F32);
  });

  nlohmann::json config = JsonConfig::open(source / "config.json").raw();
  const DType most = dtypes ? dtypes->most() : DType::F32;
  config["torch_dtype"] = most == DType::BF16 ? "bfloat16" : most == DType::F16 ? "float16" : "float32";
  config.erase("dtype");
  config["architectures"] = {model.class_name()};
  config["vocab_size"] = model.architecture().vocab_size;
  if constexpr (requires { model.tied(); }) {
    if (model.is_language_model() && !model.tied()) config["tie_word_embeddings"] = false;
  }
  if (model.has_classifier()) {
    config["num_labels"] = model.num_labels();
    nlohmann::json id2label = nlohmann::json::object(), label2id = nlohmann::json::object();
    for (Index id = 0; id < model.num_labels(); ++id) {
      const std::string number = std::to_string(id);
      const std::string label = labels.empty() ? "LABEL_" + number : labels.at(static_cast<std::size_t>(id));
      id2label[number] = label;
      label2id[label] = id;
    }
    config["id2label"] = id2label;
    config["label2id"] = label2id;
    if (!problem_type.empty()) config["problem_type"] = problem_type;
  }
  write_model_folder(staged.path(), "model.safetensors", writer, "config.json", config.dump(2) + "\n");
  copy_tokenizer(source, staged.path());
  staged.commit();
}

}  // namespace deltatune
