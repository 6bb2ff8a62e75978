#include "model_io.hpp"

#include <algorithm>

#include "deltatune/io/hf_checkpoint.hpp"
#include "deltatune/model/families.hpp"

namespace deltatune::cli {

namespace {

// Classes of the output layer that the model's own file holds; 0 when it holds none.
Index checkpoint_classes(const std::filesystem::path& folder, const Architecture& architecture) {
  const HfCheckpoint checkpoint = HfCheckpoint::open(folder);
  const auto weight = checkpoint.tensors().find(architecture.head.classifier + ".weight");
  if (weight == checkpoint.tensors().end()) return 0;
  const TensorInfo& tensor = weight->second;
  if (tensor.shape.size() != 2) throw Error(tensor.file + ": " + tensor.name, "wrong shape", {.expected = "[classes, width]", .got = to_string(tensor.shape)});
  return tensor.shape[0];
}

// The task that PEFT's configuration names; "" for none.
std::string task_of(const std::filesystem::path& adapter) {
  const std::filesystem::path config = adapter / "adapter_config.json";
  return std::filesystem::exists(config) ? JsonConfig::open(config).get_or<std::string>("task_type", "") : "";
}

}  // namespace

Architecture architecture_in(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder))
    throw Error(folder.string(), "no such folder", {.expected = "a Hugging Face model folder with config.json", .remedy = missing_folder_remedy(folder)});
  if (!std::filesystem::exists(folder / "config.json")) {
    const bool is_adapter = std::filesystem::exists(folder / "adapter_config.json");
    const std::string below = folder_above_remedy(folder, "config.json");
    throw Error(folder.string(), "has no config.json",
                {.expected = "the folder of a base model", .remedy = is_adapter || below.empty() ? "an adapter's folder goes to --adapter" : below});
  }
  return architecture_of(JsonConfig::open(folder / "config.json"));
}

std::vector<std::filesystem::path> adapter_folders(const std::vector<std::filesystem::path>& given) {
  std::vector<std::filesystem::path> folders;
  for (const std::filesystem::path& folder : given) {
    const std::filesystem::path list = folder / "adapters.json";
    if (!std::filesystem::exists(list)) {
      folders.push_back(folder);
      continue;
    }
    for (const std::string& part : JsonConfig::open(list).get<std::vector<std::string>>("adapters")) folders.push_back(folder / part);
  }
  return folders;
}

std::string attachment_name(const std::filesystem::path& folder, std::size_t others) {
  return folder.string() + (others == 0 ? "" : " (adapter " + std::to_string(others + 1) + ")");  // it may be given twice
}

Head head_of(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& adapters) {
  const Architecture architecture = architecture_in(folder);
  const bool writes = !architecture.head.lm_head.empty();
  for (const std::filesystem::path& adapter : adapter_folders(adapters)) {
    // Its output layer replaces the model's own, which may be for other classes.
    if (const Index classes = adapter_classes(adapter, architecture); classes > 0)
      return Head::classifier(classes, classes != checkpoint_classes(folder, architecture));
    if (task_of(adapter) == "FEATURE_EXTRACTION") return Head::none();
    if (const std::string task = task_of(adapter); writes && (task == "CAUSAL_LM" || task == "SEQ_2_SEQ_LM")) return Head::language_model();
  }
  if (const Index classes = checkpoint_classes(folder, architecture); classes > 0) return Head::classifier(classes);
  return writes ? Head::language_model() : Head::none();
}

OwnHead own_head(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& adapters) {
  const Architecture architecture = architecture_in(folder);
  const std::vector<std::string>& names = architecture.labels;
  for (const std::filesystem::path& adapter : adapter_folders(adapters))
    if (const Index classes = adapter_classes(adapter, architecture); classes > 0) return {classes, label_names(names, classes, adapters)};
  return {checkpoint_classes(folder, architecture), names};
}

Output output_of(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& adapters, Index classes) {
  // `train` makes classifiers of one label, and says so by naming the classes; what others made is as the model's configuration says.
  for (const std::filesystem::path& adapter : adapters)
    if (std::filesystem::exists(adapter / "labels.json")) return classes == 1 ? Output::numbers : Output::one_label;
  const std::string type = JsonConfig::open(folder / "config.json").get_or<std::string>("problem_type", "");
  if (type == "multi_label_classification") return Output::several_labels;
  return type == "regression" || classes == 1 ? Output::numbers : Output::one_label;
}

Index positions_taken_by(const std::vector<std::filesystem::path>& adapters) {
  Index taken = 0;
  for (const std::filesystem::path& adapter : adapter_folders(adapters))
    if (std::filesystem::exists(adapter / "adapter_config.json"))
      taken += JsonConfig::open(adapter / "adapter_config.json").get_or<std::int64_t>("num_virtual_tokens", 0);
  return taken;
}

std::string problem_type_of(Output output) {
  return output == Output::numbers ? "regression" : output == Output::several_labels ? "multi_label_classification" : "single_label_classification";
}

std::vector<std::string> label_names(const std::vector<std::string>& of_model, Index class_count, const std::vector<std::filesystem::path>& adapters) {
  const std::size_t classes = static_cast<std::size_t>(class_count);
  for (const std::filesystem::path& adapter : adapters) {
    const std::filesystem::path file = adapter / "labels.json";
    if (classes == 0 || !std::filesystem::exists(file)) continue;
    const nlohmann::json names = parse_json(MappedFile(file).text(), file.string());
    if (!names.is_array() || names.size() != classes || !std::all_of(names.begin(), names.end(), [](const auto& name) { return name.is_string(); }))
      throw Error(file.string(), "does not name the classes", {.expected = "a list of " + std::to_string(classes) + " strings", .got = describe(names)});
    return names.get<std::vector<std::string>>();
  }
  if (of_model.size() == classes) return of_model;
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < classes; ++i) labels.push_back("LABEL_" + std::to_string(i));
  return labels;
}

Selection selection_of(const std::string& name, const ModelFamily& family) {
  if (name == "full") return full_fine_tuning();
  if (name == "head") return head_only(family);
  if (name == "bitfit") return bitfit(family);
  if (name == "layer_norm") return layer_norm_tuning(family);
  if (name == "bitfit_query_ffn") return bitfit_query_ffn(family);
  throw Error("selection", "is not known", {.expected = "full, bitfit, bitfit_query_ffn, head or layer_norm", .got = "\"" + name + "\""});
}

}  // namespace deltatune::cli
