// Adapter folders of Hugging Face PEFT, read and written: adapter_config.json and adapter_model.safetensors (LoRA).
//
//   base_model.model.<site>.lora_A.weight (R, in), .lora_B.weight (out, R)
//   base_model.model.<parameter>              a parameter trained as a whole: modules_to_save, biases
//   base_model.model.<site>.base_layer.bias   the bias of a site that has a delta
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/model_folder.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/safetensors.hpp"

namespace deltatune {

// A LoRA adapter in a model, with the names its tensors have (or will have) in its file.
template <class X>
struct PeftAdapter {
  LoraPlan plan;
  Attachment<X, Lora<X>> attachment;
  std::map<std::string, std::string> keys;  // parameter path -> key in adapter_model.safetensors
  std::vector<std::string> ignored;         // tensors of the file that PEFT writes and does not read
};

namespace detail {

inline constexpr const char* kPeftPrefix = "base_model.model.";

// The key PEFT gives to a parameter of a model that has deltas at `sites`.
inline std::string peft_key(const std::string& path, const std::set<std::string>& sites) {
  const std::string suffix = ".bias";
  if (path.ends_with(suffix)) {
    const std::string module = path.substr(0, path.size() - suffix.size());
    if (sites.contains(module)) return kPeftPrefix + module + ".base_layer.bias";
  }
  return kPeftPrefix + path;
}

template <class X, class Model>
std::map<std::string, std::string> peft_keys(Model& model, const Attachment<X, Lora<X>>& attachment) {
  std::set<std::string> sites;
  for (const auto& entry : attachment.entries()) sites.insert(entry.site->path);
  std::map<std::string, std::string> keys;
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.trains()) keys[parameter.path()] = peft_key(parameter.path(), sites);
  });
  return keys;
}

// A list of strings, or one string, or null.
inline NameRule read_rule(const JsonConfig& json, const char* key) {
  NameRule rule;
  if (!json.has(key)) return rule;
  if (json.raw().at(key).is_string()) {
    rule.pattern = json.get<std::string>(key);
  } else {
    rule.names = json.get<std::vector<std::string>>(key);
  }
  return rule;
}

template <class E>
std::vector<E> one_or_many(const JsonConfig& json, const char* key) {
  if (!json.has(key)) return {};
  if (json.raw().at(key).is_array()) return json.get<std::vector<E>>(key);
  return {json.get<E>(key)};
}

inline LoraPlan read_peft_config(const JsonConfig& json) {
  const std::string type = json.get<std::string>("peft_type");
  if (type != "LORA") throw Error(json.name() + ": peft_type", "is not supported", {.expected = "\"LORA\"", .got = "\"" + type + "\""});
  for (const char* key : {"use_dora", "lora_bias", "use_qalora", "use_bdlora"})
    if (json.get_or<bool>(key, false)) throw Error(json.name() + ": " + key, "is not supported", {.expected = "false", .got = "true"});
  for (const char* key : {"target_parameters", "trainable_token_indices", "layer_replication", "alora_invocation_tokens", "kasa_config", "monteclora_config",
                          "velora_config", "arrow_config"})
    if (json.has(key) && !json.raw().at(key).empty()) throw Error(json.name() + ": " + key, "is not supported", {.expected = "null"});
  // Other starts change the base weights as well, so that the adapter alone does not say what the model is.
  if (json.has("init_lora_weights") && json.raw().at("init_lora_weights").is_string()) {
    const std::string start = json.get<std::string>("init_lora_weights");
    if (start != "gaussian" && start != "orthogonal" && start != "eva")
      throw Error(json.name() + ": init_lora_weights", "\"" + start + "\" changes the base weights and is not supported",
                  {.remedy = "save it in PEFT with path_initial_model_for_weight_conversion"});
  }

  LoraPlan plan;
  plan.lora.rank = json.get_or<std::int64_t>("r", 8);
  plan.lora.alpha = json.get_or<double>("lora_alpha", 8);
  plan.lora.dropout = json.get_or<double>("lora_dropout", 0);
  plan.lora.rank_stabilized = json.get_or<bool>("use_rslora", false);
  plan.lora.validate(json.name());
  plan.targets = {};
  plan.targets.include = read_rule(json, "target_modules");
  if (plan.targets.include.pattern == "all-linear") {
    plan.targets.include = {};
    plan.targets.all_linear = true;
  }
  plan.targets.exclude = read_rule(json, "exclude_modules");
  plan.targets.layers = one_or_many<std::int64_t>(json, "layers_to_transform");
  plan.targets.layers_patterns = one_or_many<std::string>(json, "layers_pattern");
  if (json.has("rank_pattern")) {
    const JsonConfig patterns = json.object("rank_pattern");
    for (const auto& [key, unused] : patterns.raw().items()) plan.rank_pattern.emplace_back(key, patterns.get<std::int64_t>(key));
  }
  if (json.has("alpha_pattern")) {
    const JsonConfig patterns = json.object("alpha_pattern");
    for (const auto& [key, unused] : patterns.raw().items()) plan.alpha_pattern.emplace_back(key, patterns.get<double>(key));
  }
  const std::string bias = json.get_or<std::string>("bias", "none");
  if (bias != "none" && bias != "all" && bias != "lora_only")
    throw Error(json.name() + ": bias", "unknown value", {.expected = "none, all or lora_only", .got = "\"" + bias + "\""});
  plan.bias = bias == "all" ? BiasTraining::all : bias == "lora_only" ? BiasTraining::lora_only : BiasTraining::none;
  plan.modules_to_save = one_or_many<std::string>(json, "modules_to_save");
  const std::string task = json.get_or<std::string>("task_type", "");
  if (task == "SEQ_CLS" || task == "TOKEN_CLS")
    for (const char* head : {"classifier", "score"})
      if (std::find(plan.modules_to_save.begin(), plan.modules_to_save.end(), head) == plan.modules_to_save.end()) plan.modules_to_save.push_back(head);
  return plan;
}

inline nlohmann::json rule_json(const NameRule& rule) {
  if (!rule.pattern.empty()) return rule.pattern;
  if (!rule.names.empty()) return rule.names;
  return nullptr;
}

// sites: the paths that "all-linear" came to.
inline std::string write_peft_config(const LoraPlan& plan, const std::vector<std::string>& sites, const std::string& base_model, bool is_classifier) {
  nlohmann::json rank_pattern = nlohmann::json::object(), alpha_pattern = nlohmann::json::object();
  for (const auto& [key, rank] : plan.rank_pattern) rank_pattern[key] = rank;
  // Whole numbers as integers, as PEFT's configurations have them.
  const auto number = [](double value) { return value == std::floor(value) ? nlohmann::json(static_cast<std::int64_t>(value)) : nlohmann::json(value); };
  for (const auto& [key, alpha] : plan.alpha_pattern) alpha_pattern[key] = number(alpha);
  const auto list_or_null = [](const auto& list) { return list.empty() ? nlohmann::json(nullptr) : nlohmann::json(list); };
  // nlohmann::json keeps keys sorted, as PEFT writes them.
  const nlohmann::json config = {
      {"peft_type", "LORA"},
      {"task_type", is_classifier ? "SEQ_CLS" : "FEATURE_EXTRACTION"},
      {"base_model_name_or_path", base_model},
      {"inference_mode", true},
      {"r", plan.lora.rank},
      {"lora_alpha", number(plan.lora.alpha)},
      {"lora_dropout", plan.lora.dropout},
      {"use_rslora", plan.lora.rank_stabilized},
      {"use_dora", false},
      {"fan_in_fan_out", false},
      {"init_lora_weights", true},
      {"bias", plan.bias == BiasTraining::all ? "all" : plan.bias == BiasTraining::lora_only ? "lora_only" : "none"},
      {"target_modules", plan.targets.all_linear ? nlohmann::json(sites) : rule_json(plan.targets.include)},
      {"exclude_modules", rule_json(plan.targets.exclude)},
      {"layers_to_transform", list_or_null(plan.targets.layers)},
      {"layers_pattern", list_or_null(plan.targets.layers_patterns)},
      {"rank_pattern", rank_pattern},
      {"alpha_pattern", alpha_pattern},
      {"modules_to_save", list_or_null(plan.modules_to_save)},
  };
  return config.dump(2, ' ', true) + "\n";
}

}  // namespace detail

// Writes the folder. base_model: the name PEFT will show. Throws Error when the folder can't be written.
template <class X, class Model>
void save_peft(context_of<X>& ctx, const std::filesystem::path& folder, Model& model, const LoraPlan& plan, const Attachment<X, Lora<X>>& attachment,
               const std::string& base_model) {
  const std::map<std::string, std::string> keys = detail::peft_keys<X>(model, attachment);
  SafeTensorsWriter writer;
  model.visit([&](Parameter<X>& parameter) {
    const auto key = keys.find(parameter.path());
    if (key != keys.end()) writer.add_copy(key->second, parameter.shape(), download_floats<X>(ctx, parameter.value()));
  });
  std::vector<std::string> sites;
  for (const auto& entry : attachment.entries()) sites.push_back(entry.site->path);
  write_model_folder(folder, "adapter_model.safetensors", writer, "adapter_config.json",
                     detail::write_peft_config(plan, sites, base_model, model.has_classifier()));
}

// Reads the folder and attaches what it holds: every tensor is used or the call throws. The model ends up frozen but for what the adapter trains.
template <class Model>
PeftAdapter<typename Model::Tensor> load_peft(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder) {
  using X = typename Model::Tensor;
  const std::filesystem::path config_file = folder / "adapter_config.json";
  const std::filesystem::path tensors_file = folder / "adapter_model.safetensors";
  const LoraPlan plan = detail::read_peft_config(JsonConfig::open(config_file));
  if (!std::filesystem::exists(tensors_file) && std::filesystem::exists(folder / "adapter_model.bin"))
    throw Error(folder.string(), "holds its tensors as adapter_model.bin only",
                {.expected = "adapter_model.safetensors", .remedy = "load it with PEFT in Python and save it again"});
  const SafeTensors file = SafeTensors::open(tensors_file);
  const std::string in_file = tensors_file.string() + ": ";

  // Sort the tensors: deltas by site, whole parameters by path.
  const auto strip = [](const std::string& text, std::string_view suffix) { return text.substr(0, text.size() - suffix.size()); };
  std::map<std::string, std::pair<const TensorInfo*, const TensorInfo*>> deltas;  // site -> A, B
  std::map<std::string, const TensorInfo*> whole;                                 // parameter path -> values
  std::vector<std::string> ignored;
  for (const auto& [name, tensor] : file.tensors()) {
    if (!name.starts_with(detail::kPeftPrefix)) throw Error(in_file + name, "is no tensor of a LoRA adapter", {.expected = "a name that begins with base_model.model."});
    const std::string path = name.substr(std::string_view(detail::kPeftPrefix).size());
    if (path.ends_with(".lora_A.weight")) {
      deltas[strip(path, ".lora_A.weight")].first = &tensor;
    } else if (path.ends_with(".lora_B.weight")) {
      deltas[strip(path, ".lora_B.weight")].second = &tensor;
    } else if (path.find(".modules_to_save.") != std::string::npos || path.find(".original_module.") != std::string::npos) {
      ignored.push_back(name);  // copies that bias="all" makes PEFT write and that it does not read
    } else if (const std::size_t infix = path.find(".base_layer."); infix != std::string::npos) {
      whole[path.substr(0, infix) + path.substr(infix + std::string_view(".base_layer").size())] = &tensor;
    } else {
      whole[path] = &tensor;
    }
  }
  std::vector<std::string> sites;
  for (const auto& [site, pair] : deltas) {
    if (pair.first == nullptr || pair.second == nullptr)
      throw Error(in_file + detail::kPeftPrefix + site, "has only one of lora_A.weight and lora_B.weight", {.remedy = "is the file complete?"});
    sites.push_back(site);
  }
  if (sites.empty()) throw Error(tensors_file.string(), "holds no LoRA tensors");
  std::set<std::string> known;
  std::string example;
  model.visit_sites([&](LinearSite<X>& site) {
    known.insert(site.path);
    if (example.empty()) example = site.path;
  });
  for (const std::string& site : sites)
    if (!known.contains(site))
      throw Error(in_file + detail::kPeftPrefix + site + ".lora_A.weight", "the model has no such layer",
                  {.expected = "a layer such as " + example, .remedy = "was the adapter trained on this architecture, with a head of the same kind?"});

  PeftAdapter<X> adapter{plan, attach_at(ctx, model, plan, sites, 0, config_file.string()), {}, std::move(ignored)};
  for (const auto& entry : adapter.attachment.entries()) {
    const auto& [a, b] = deltas.at(entry.site->path);
    read_parameter(ctx, *a, entry.delta->a());
    read_parameter(ctx, *b, entry.delta->b());
    adapter.keys[entry.delta->a().path()] = a->name;
    adapter.keys[entry.delta->b().path()] = b->name;
  }
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.role() == Role::delta) return;
    const auto tensor = whole.find(parameter.path());
    if (tensor != whole.end()) {
      read_parameter(ctx, *tensor->second, parameter);
      adapter.keys[parameter.path()] = tensor->second->name;
      whole.erase(tensor);
    } else if (parameter.trains() && plan.saves(parameter.path())) {
      throw Error(tensors_file.string(), "has no tensor for " + parameter.path(), {.remedy = "modules_to_save names it in adapter_config.json"});
    }
  });
  if (!whole.empty()) throw Error(in_file + whole.begin()->second->name, "is no parameter of this model");
  // Parameters that train but that the file left out (biases of a file written by an old PEFT) keep the base model's values.
  for (const auto& [path, key] : detail::peft_keys<X>(model, adapter.attachment)) adapter.keys.emplace(path, key);
  return adapter;
}

}  // namespace deltatune
