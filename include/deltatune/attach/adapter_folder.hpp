// An adapter folder of any kind: what it is for, and into the model with it.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "deltatune/attach/peft_format.hpp"
#include "deltatune/attach/selection_format.hpp"

namespace deltatune {

template <class X>
struct LoadedAdapter {
  std::string method;                       // "lora", "bitfit", "head", ...
  std::map<std::string, std::string> keys;  // trainable parameter's path -> its name in the adapter's file
  std::optional<PeftAdapter<X>> peft;       // set for PEFT folders
};

// Classes of the output layer that the folder carries; 0 when it carries none.
inline Index adapter_classes(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) throw Error(folder.string(), "no such folder", {.expected = "an adapter folder with adapter_config.json"});
  const SafeTensors file = SafeTensors::open(folder / "adapter_model.safetensors");
  for (const char* name : {"base_model.model.classifier.weight", "classifier.weight"})
    if (const TensorInfo* tensor = file.find(name)) return tensor->shape.at(0);
  return 0;
}

// Attaches what the folder holds, whichever of the known kinds it is.
template <class Model>
LoadedAdapter<typename Model::Tensor> load_adapter(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder) {
  using X = typename Model::Tensor;
  const std::filesystem::path file = folder / "adapter_config.json";
  if (!std::filesystem::exists(file)) throw Error(folder.string(), "has no adapter_config.json", {.expected = "an adapter folder"});
  if (JsonConfig::open(file).get<std::string>("peft_type") == kSelectionType) {
    LoadedAdapter<X> adapter{load_selection(ctx, model, folder).name, {}, std::nullopt};
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.trains()) adapter.keys[parameter.path()] = parameter.path();
    });
    return adapter;
  }
  PeftAdapter<X> peft = load_peft(ctx, model, folder);
  std::map<std::string, std::string> keys = peft.keys;
  return {"lora", std::move(keys), std::move(peft)};
}

}  // namespace deltatune
