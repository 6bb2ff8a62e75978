// An adapter folder of any kind: what it is for, and into the model with it.
#pragma once

#include <filesystem>
#include <string>

#include "deltatune/attach/peft_format.hpp"

namespace deltatune {

// Classes of the output layer that the folder carries; 0 when it carries none.
inline Index adapter_classes(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) throw Error(folder.string(), "no such folder", {.expected = "an adapter folder with adapter_config.json"});
  const TensorFile file = TensorFile::open(detail::tensors_file(folder));
  for (const auto& [name, tensor] : file.tensors())
    if (name == "classifier.weight" || name == "score.weight" || name.ends_with(".classifier.weight") || name.ends_with(".score.weight"))
      return tensor.shape.at(0);
  return 0;
}

// Attaches what the folder holds beside what is there, whichever of the known kinds it is; what trained goes on training. name: of the attachment.
template <class Model>
Adapter<typename Model::Tensor> load_adapter_beside(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder,
                                                    const std::string& name = "default") {
  const std::filesystem::path file = folder / "adapter_config.json";
  if (!std::filesystem::exists(file)) throw Error(folder.string(), "has no adapter_config.json", {.expected = "an adapter folder"});
  return load_peft(ctx, model, folder, name);
}

// The same, with everything of the model itself frozen before.
template <class Model>
Adapter<typename Model::Tensor> load_adapter(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder, const std::string& name = "default") {
  freeze_base(model);
  return load_adapter_beside(ctx, model, folder, name);
}

}  // namespace deltatune
