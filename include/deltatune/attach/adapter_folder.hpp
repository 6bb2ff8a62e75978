// An adapter folder of any kind: what it is for, into the model with it, and out again.
//
//   adapter_config.json with peft_type: PEFT's, and this library's own kinds;  with config and model_class: AdapterHub's
//   config.json with delta_type: OpenDelta's
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <variant>

#include "deltatune/attach/adapterhub_format.hpp"
#include "deltatune/attach/opendelta_format.hpp"
#include "deltatune/attach/peft_format.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/io/folder_remedy.hpp"

namespace deltatune {

namespace detail {

// Throws Error unless the folder is that of an adapter, of any kind.
DELTATUNE_FUNCTION void check_adapter_folder(const std::filesystem::path& folder) {
  const std::string expected = "an adapter's folder, with adapter_config.json";
  if (!std::filesystem::is_directory(folder)) throw Error(folder.string(), "no such folder", {.expected = expected, .remedy = missing_folder_remedy(folder)});
  if (std::filesystem::exists(folder / "adapter_config.json") || is_opendelta_folder(folder)) return;
  const std::string below = folder_above_remedy(folder, "adapter_config.json");
  const bool is_model = std::filesystem::exists(folder / "config.json");
  throw Error(folder.string(), "has no adapter_config.json",
              {.expected = "an adapter's folder", .remedy = below.empty() && is_model ? "this is a model: it goes to --model, or is loaded as it is" : below});
}

inline bool is_adapterhub_folder(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "adapter_config.json") && is_adapterhub_config(JsonConfig::open(folder / "adapter_config.json"));
}

}  // namespace detail

// Classes of the output layer that the folder carries; 0 when it carries none.
DELTATUNE_FUNCTION Index adapter_classes(const std::filesystem::path& folder, const Architecture& architecture) {
  detail::check_adapter_folder(folder);
  if (detail::is_adapterhub_folder(folder)) return adapterhub_classes(folder, architecture);
  const TensorFile file = TensorFile::open(detail::is_opendelta_folder(folder) ? folder / "pytorch_model.bin" : detail::tensors_file(folder));
  for (const auto& [name, tensor] : file.tensors()) {
    const std::string path = detail::PeftKey::of(name).path;
    if (path == architecture.head.classifier + ".weight") return tensor.shape.at(0);
  }
  return 0;
}

// Attaches what the folder holds beside what is there, whichever of the known kinds it is; what trained goes on training. name: of the
// attachment.
template <class Model>
Adapter<typename Model::Tensor> load_adapter_beside(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder,
                                                    const std::string& name = "default") {
  detail::check_adapter_folder(folder);
  if (detail::is_opendelta_folder(folder)) return load_opendelta(ctx, model, folder, name);
  if (!detail::is_adapterhub_folder(folder)) return load_peft(ctx, model, folder, name);
  return load_adapterhub(ctx, model, folder, name);
}

// The same, with everything of the model itself frozen before.
template <class Model>
Adapter<typename Model::Tensor> load_adapter(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder,
                                             const std::string& name = "default") {
  freeze_base(model);
  return load_adapter_beside(ctx, model, folder, name);
}

// Writes an adapter in the format of the library that has its method. base_model: the name that the library will show.
template <class Model>
void save_adapter(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, const AnyPlan& plan,
                  Attachment<typename Model::Tensor>& attachment, const std::string& base_model) {
  std::visit([&](const auto& known) { save_adapter(ctx, folder, model, known, attachment, base_model); }, plan);
}

// The same for what load_adapter() returned.
template <class Model, class Plan>
void save_adapter(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, Adapter<typename Model::Tensor, Plan>& adapter,
                  const std::string& base_model) {
  save_adapter(ctx, folder, model, adapter.plan, adapter.attachment, base_model);
}

}  // namespace deltatune
