// A whole model as a Hugging Face folder: config.json, model.safetensors, and the tokenizer's files of the folder it came from.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/model_folder.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/staged_folder.hpp"

namespace deltatune {

// Writes the base parameters (merge deltas first: what is attached is not written). source: the folder the model was loaded from.
// labels: names of the classes, or empty. problem_type: what a new output layer was trained for, as transformers names it; empty: as the source says.
// Throws Error when the folder can't be written, or is the source itself.
template <class Model>
void save_hf_checkpoint(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, const std::filesystem::path& source,
                        const std::vector<std::string>& labels, const std::string& problem_type = "") {
  using X = typename Model::Tensor;
  std::error_code is_new;
  if (std::filesystem::equivalent(folder, source, is_new)) throw Error(folder.string(), "is the model's own folder", {.remedy = "write to another one"});
  StagedFolder staged(folder);
  SafeTensorsWriter writer;
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.role() != Role::delta)
      writer.add_copy(parameter.path(), parameter.file_shape(), download_in_file_order(ctx, parameter, parameter.value()));
  });

  nlohmann::json config = JsonConfig::open(source / "config.json").raw();
  config["torch_dtype"] = "float32";
  config.erase("dtype");
  config["architectures"] = {model.architecture()};
  config["vocab_size"] = model.config().vocab_size;
  if constexpr (requires { model.tied(); }) {
    if (model.is_language_model() && !model.tied()) config["tie_word_embeddings"] = false;
  }
  if (model.has_classifier()) {
    config["num_labels"] = model.classes();
    nlohmann::json id2label = nlohmann::json::object(), label2id = nlohmann::json::object();
    for (Index id = 0; id < model.classes(); ++id) {
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
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json"})
    if (std::filesystem::exists(source / name)) write_text_file(staged.path() / name, MappedFile(source / name).text());
  staged.commit();
}

}  // namespace deltatune
