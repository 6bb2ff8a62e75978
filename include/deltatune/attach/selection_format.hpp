// Folders for methods that select parameters of the model itself (BitFit, head only), which PEFT has no type for. The same two files as PEFT's,
// with a peft_type that PEFT refuses by name; the tensors carry the names of the base checkpoint.
//
//   adapter_config.json        {"peft_type": "DELTATUNE_SELECTION", "method": "bitfit", "trainable": ["**.bias", "classifier.**"], ...}
//   adapter_model.safetensors  the trained parameters
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "deltatune/io/json_config.hpp"
#include "deltatune/io/model_folder.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/seam/selection.hpp"

namespace deltatune {

inline constexpr const char* kSelectionType = "DELTATUNE_SELECTION";

// Writes what trains in the model.
template <class Model>
void save_selection(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, const Selection& selection,
                    const std::string& base_model) {
  using X = typename Model::Tensor;
  SafeTensorsWriter writer;
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.trains()) writer.add_copy(parameter.path(), parameter.shape(), download_floats<X>(ctx, parameter.value()));
  });
  const nlohmann::json config = {{"peft_type", kSelectionType},
                                 {"method", selection.name},
                                 {"trainable", selection.trainable},
                                 {"base_model_name_or_path", base_model},
                                 {"task_type", model.has_classifier() ? "SEQ_CLS" : "FEATURE_EXTRACTION"}};
  write_model_folder(folder, "adapter_model.safetensors", writer, "adapter_config.json", config.dump(2) + "\n");
}

// Freezes the model but for the selection and puts the trained values in place. Throws Error unless the file holds exactly the selection.
template <class Model>
Selection load_selection(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder) {
  using X = typename Model::Tensor;
  const JsonConfig config = JsonConfig::open(folder / "adapter_config.json");
  Selection selection{config.get<std::string>("method"), config.get<std::vector<std::string>>("trainable")};
  apply(model, selection);
  const std::filesystem::path tensors_file = folder / "adapter_model.safetensors";
  const SafeTensors file = SafeTensors::open(tensors_file);
  std::map<std::string, const TensorInfo*> unused;
  for (const auto& [name, tensor] : file.tensors()) unused[name] = &tensor;
  model.visit([&](Parameter<X>& parameter) {
    if (!parameter.trains()) return;
    read_parameter(ctx, file.at(parameter.path()), parameter);
    unused.erase(parameter.path());
  });
  if (!unused.empty()) throw Error(tensors_file.string() + ": " + unused.begin()->first, "is not among the parameters that " + selection.name + " trains");
  return selection;
}

}  // namespace deltatune
