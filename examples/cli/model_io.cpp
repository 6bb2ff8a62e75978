#include "model_io.hpp"

#include <algorithm>
#include <map>

#include "deltatune/delta/selections.hpp"

namespace deltatune::cli {

namespace {

// Classes of the output layer that the model's own file holds; 0 when it holds none.
Index checkpoint_classes(const std::filesystem::path& folder) {
  const HfCheckpoint checkpoint = HfCheckpoint::open(folder);
  const auto weight = checkpoint.tensors().find("classifier.weight");
  if (weight == checkpoint.tensors().end()) return 0;
  const TensorInfo& tensor = weight->second;
  if (tensor.shape.size() != 2)
    throw Error(tensor.file + ": " + tensor.name, "wrong shape", {.expected = "[classes, width]", .got = to_string(tensor.shape)});
  return tensor.shape[0];
}

// An adapter of an encoder without an output layer.
bool is_for_encoder(const std::filesystem::path& adapter) {
  const std::filesystem::path config = adapter / "adapter_config.json";
  return std::filesystem::exists(config) && JsonConfig::open(config).get_or<std::string>("task_type", "") == "FEATURE_EXTRACTION";
}

}  // namespace

Index classes_of(const std::filesystem::path& folder, const std::filesystem::path& adapter) {
  if (adapter.empty()) return checkpoint_classes(folder);
  const Index classes = adapter_classes(adapter);
  return classes > 0 || is_for_encoder(adapter) ? classes : checkpoint_classes(folder);
}

std::vector<std::string> label_names(const BertConfig& config, Index class_count, const std::filesystem::path& adapter) {
  const std::size_t classes = static_cast<std::size_t>(class_count);
  const std::filesystem::path file = adapter / "labels.json";
  if (!adapter.empty() && std::filesystem::exists(file)) {
    const nlohmann::json names = parse_json(MappedFile(file).text(), file.string());
    if (!names.is_array() || names.size() != classes || !std::all_of(names.begin(), names.end(), [](const auto& name) { return name.is_string(); }))
      throw Error(file.string(), "does not name the classes", {.expected = "a list of " + std::to_string(classes) + " strings", .got = describe(names)});
    return names.get<std::vector<std::string>>();
  }
  if (config.labels.size() == classes) return config.labels;
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < classes; ++i) labels.push_back("LABEL_" + std::to_string(i));
  return labels;
}

Selection selection_of(const std::string& name) {
  static const std::map<std::string, Selection> kSelections{
      {"full", full_fine_tuning()}, {"head", head_only()}, {"bitfit", bitfit()}, {"bitfit_query_ffn", bitfit_query_ffn()}};
  const auto found = kSelections.find(name);
  if (found == kSelections.end()) throw Error("selection", "is not known", {.expected = "full, bitfit, bitfit_query_ffn or head", .got = "\"" + name + "\""});
  return found->second;
}

}  // namespace deltatune::cli
