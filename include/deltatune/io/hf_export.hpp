// A whole model as a Hugging Face folder: config.json, model.safetensors, and the tokenizer's files of the folder it came from.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/io/hf_checkpoint.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/result_files.hpp"
#include "deltatune/io/staged_folder.hpp"

namespace deltatune {

// float32, what the model computes with; as_source, rounded to the types of the checkpoint that it was loaded from, each parameter to its own (what the
// checkpoint has no tensor for, a new output layer, to the one that most have); or all of it rounded to one type.
enum class SavedDtype { float32, as_source, float16, bfloat16 };

// How a model is written.
struct HfExport {
  std::vector<std::string> labels = {};  // names of the classes, or empty
  std::string problem_type = {};         // what a new output layer was trained for, as transformers names it; empty: as the source says
  SavedDtype dtype = SavedDtype::float32;
  Index max_shard_bytes = 5'000'000'000;  // of the tensors in a file; a tensor that is larger has a file of its own
};

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

// The tensors of a checkpoint, in the order of writing, spread over files.
class ShardPlan {
 public:
  explicit ShardPlan(Index max_bytes) : max_bytes_(max_bytes) {}

  DELTATUNE_FUNCTION void add(const std::string& name, Index bytes) {
    if (shards_.empty() || (held_ > 0 && held_ + bytes > max_bytes_)) {
      shards_.emplace_back();
      held_ = 0;
    }
    shards_.back().insert(name);
    held_ += bytes;
    total_ += bytes;
  }
  const std::vector<std::set<std::string>>& shards() const { return shards_; }

  // model.safetensors, or as transformers names one of several: model-00002-of-00003.safetensors.
  DELTATUNE_FUNCTION std::string file(std::size_t shard) const {
    if (shards_.size() == 1) return "model.safetensors";
    const auto digits = [](std::size_t number) {
      const std::string text = std::to_string(number);
      return std::string(text.size() < 5 ? 5 - text.size() : 0, '0') + text;
    };
    return "model-" + digits(shard + 1) + "-of-" + digits(shards_.size()) + ".safetensors";
  }
  // model.safetensors.index.json. parameters: the number of numbers.
  DELTATUNE_FUNCTION std::string index(Index parameters) const {
    nlohmann::json map = nlohmann::json::object();
    for (std::size_t i = 0; i < shards_.size(); ++i)
      for (const std::string& name : shards_[i]) map[name] = file(i);
    return nlohmann::json{{"metadata", {{"total_parameters", parameters}, {"total_size", total_}}}, {"weight_map", map}}.dump(2) + "\n";
  }

 private:
  Index max_bytes_, held_ = 0, total_ = 0;
  std::vector<std::set<std::string>> shards_;
};

}  // namespace detail

// Writes the base parameters (merge deltas first: what is attached is not written), with the memory of one file of them. source: the folder the model was
// loaded from. Throws Error when the folder can't be written, or is the source itself, when a number does not fit into its type, and for a head of its own
// where the family knows none.
template <class Model>
void save_hf_checkpoint(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, const std::filesystem::path& source,
                        const HfExport& how = {}) {
  using X = typename Model::Tensor;
  std::error_code is_new;
  if (std::filesystem::equivalent(folder, source, is_new)) throw Error(folder.string(), "is the model's own folder", {.remedy = "write to another one"});
  if (how.max_shard_bytes < 1) throw Error("max_shard_bytes", "wrong value", {.expected = "at least 1", .got = std::to_string(how.max_shard_bytes)});
  if constexpr (requires { model.tied(); }) {
    if (model.is_language_model() && !model.tied() && model.architecture().head.always_tied)
      throw Error(model.architecture().head.lm_head,
                  "has other values than the word embeddings now, which no folder of " + model.architecture().title + " can hold",
                  {.remedy = "save the adapter instead of merging it"});
  }
  StagedFolder staged(folder);
  std::optional<detail::SourceDtypes> dtypes;
  if (how.dtype == SavedDtype::as_source) dtypes.emplace(HfCheckpoint::open(source));
  const DType one = how.dtype == SavedDtype::float16 ? DType::F16 : how.dtype == SavedDtype::bfloat16 ? DType::BF16 : DType::F32;
  const auto dtype_of = [&](const Parameter<X>& parameter) { return dtypes ? dtypes->of(parameter.path()) : one; };
  detail::ShardPlan plan(how.max_shard_bytes);
  Index parameters = 0;
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.role() == Role::delta) return;
    plan.add(parameter.path(), parameter.size() * size_of(dtype_of(parameter)));
    parameters += parameter.size();
  });
  for (std::size_t i = 0; i < plan.shards().size(); ++i) {
    SafeTensorsWriter writer;
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() == Role::delta || !plan.shards()[i].contains(parameter.path())) return;
      writer.add_rounded(parameter.path(), parameter.file_shape(), download_in_file_order(ctx, parameter, parameter.value()), dtype_of(parameter));
    });
    writer.write(staged.path() / plan.file(i));
  }
  if (plan.shards().size() > 1) write_text_file(staged.path() / "model.safetensors.index.json", plan.index(parameters));

  nlohmann::json config = JsonConfig::open(source / "config.json").raw();
  const DType most = dtypes ? dtypes->most() : one;
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
      const std::string label = how.labels.empty() ? "LABEL_" + number : how.labels.at(static_cast<std::size_t>(id));
      id2label[number] = label;
      label2id[label] = id;
    }
    config["id2label"] = id2label;
    config["label2id"] = label2id;
    if (!how.problem_type.empty()) config["problem_type"] = how.problem_type;
  }
  write_text_file(staged.path() / "config.json", config.dump(2) + "\n");
  copy_tokenizer(source, staged.path());
  staged.commit();
}

}  // namespace deltatune
