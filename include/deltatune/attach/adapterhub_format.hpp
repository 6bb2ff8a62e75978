// Adapter folders of AdapterHub's library `adapters`, read and written.
//
//   adapter_config.json   {"config": {...}, "name": NAME, "model_class": ..., "version": "adapters.1.3.0", ...}
//   adapter.safetensors, or pytorch_adapter.bin (read only): tensors under the names that they have in the model, NAME among them
//   head_config.json with model_head.safetensors, or pytorch_model_head.bin: the output layer, where it trained
#pragma once

#include <concepts>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/attach/adapterhub_json.hpp"
#include "deltatune/attach/peft_format.hpp"
#include "deltatune/attach/union_plan.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

// Whether a folder's adapter_config.json is of this library and not of PEFT.
inline bool is_adapterhub_config(const JsonConfig& json) {
  return !json.has("peft_type") && json.has("config") && (json.has("model_class") || json.has("model_type") || json.has("model_name"));
}

namespace detail {

// The file of a folder with one of two names, where it is.
DELTATUNE_FUNCTION std::optional<std::filesystem::path> either_file(const std::filesystem::path& folder, const char* first, const char* second) {
  for (const char* name : {first, second})
    if (std::filesystem::exists(folder / name)) return folder / name;
  return std::nullopt;
}
DELTATUNE_FUNCTION std::filesystem::path adapterhub_tensors_file(const std::filesystem::path& folder) {
  const auto file = either_file(folder, "adapter.safetensors", "pytorch_adapter.bin");
  if (!file) throw Error(folder.string(), "holds no tensors", {.expected = "adapter.safetensors or pytorch_adapter.bin"});
  return *file;
}
inline std::optional<std::filesystem::path> adapterhub_head_file(const std::filesystem::path& folder) {
  return either_file(folder, "model_head.safetensors", "pytorch_model_head.bin");
}

// The name that the library has for a parameter, without the model's prefix.
template <class X>
std::string adapterhub_name(const Architecture& architecture, const Parameter<X>& parameter, const std::string& name) {
  const std::string path = architecture.without_prefix(parameter.path());
  if (parameter.role() != Role::delta) return path;
  const auto spliced = [&](std::string_view part, const std::string& with) -> std::optional<std::string> {
    const std::size_t at = path.find(part);
    if (at == std::string::npos) return std::nullopt;
    return path.substr(0, at) + with + path.substr(at + part.size());
  };
  const std::string lora = ".loras." + name + ".";
  // Of an encoder-decoder, prefixes have a place in front of their names.
  const bool placed = path.starts_with("encoder_prefix.") || path.starts_with("cross_prefix.");
  const std::string place = placed ? path.substr(0, path.find('.')) : architecture.adapterhub_prefix;
  const std::string inner = placed ? path.substr(path.find('.') + 1) : path;
  const std::string prefix = "prefix_tuning.prefix_tunings." + name + "." + place + ".";
  if (inner == "prompt_embeddings")  // in a flat prefix a list of numbers
    return parameter.file_shape().size() == 1 ? prefix + "control_trans" : "prompt_tuning.prompt_tunings." + name + ".prompt_embedding.weight";
  for (const auto& [of_encoder, with] : {std::pair{"prompt_encoder.embedding.weight", "wte.weight"}, std::pair{"prompt_encoder.transform.", "control_trans."}})
    if (inner.starts_with(of_encoder)) return prefix + with + inner.substr(std::string_view(of_encoder).size());
  const std::pair<const char*, std::string> parts[] = {
      {".adapters.", ".adapters." + name + "."},
      {"shared_parameters.", "shared_parameters." + name + "."},
      {".lora_A.weight", lora + "lora_A"},
      {".lora_B.weight", lora + "lora_B"},
      {".ia3_l", lora + "lora_B"},
      {".lora_magnitude_vector", lora + "m.weight"},
      {".lora_gate.", lora + "gate."},
      {".prefix_gate.", ".prefix_tuning.prefix_gates." + name + "."},
  };
  for (const auto& [part, with] : parts)
    if (const auto result = spliced(part, with)) return *result;
  return path;
}

// Names of older versions as today's.
DELTATUNE_FUNCTION std::string without_legacy(std::string name) {
  for (const char* const old : {"attention_text_task_adapters", "attention_text_lang_adapters", "layer_text_task_adapters", "layer_text_lang_adapters"})
    if (const std::size_t at = name.find(old); at != std::string::npos) name.replace(at, std::string_view(old).size(), "adapters");
  return name;
}

// A head that the library added to the model itself has numbers for names; the heads that are like the model's own, under the names of its
// layers.
DELTATUNE_FUNCTION std::map<std::string, std::string> adapterhub_head_names(const JsonConfig& json, const Architecture& architecture) {
  if (!json.has("config")) return {};
  const JsonConfig config = json.object("config");
  const std::string type = config.get<std::string>("head_type"), heads = "heads." + json.get_or<std::string>("name", "");
  const std::int64_t layers = config.get_or<std::int64_t>("layers", 2);
  const bool pools = config.get_or<bool>("use_pooler", false);
  const std::string activation = config.get_or<std::string>("activation_function", "tanh");
  const bool plain = type == "classification" && config.get_or<bool>("bias", true);
  const HeadSpec& head = architecture.head;
  const std::string& dense = head.dense.empty() ? head.pooler : head.dense;
  const bool is_tanh = !dense.empty() && head.activation == ops::Activation::tanh;
  if (plain && layers == 1 && pools && head.dense.empty() && is_tanh)
    return {{heads + ".1.weight", head.classifier + ".weight"}, {heads + ".1.bias", head.classifier + ".bias"}};
  if (plain && layers == 2 && !pools && activation == "tanh" && is_tanh)
    return {{heads + ".1.weight", dense + ".weight"},
            {heads + ".1.bias", dense + ".bias"},
            {heads + ".4.weight", head.classifier + ".weight"},
            {heads + ".4.bias", head.classifier + ".bias"}};
  throw Error(config.name(), "a head of this kind is not supported",
              {.expected = "classification with 2 layers and tanh, or with 1 layer and the pooler",
               .got = type + " with " + std::to_string(layers) + " layers" + (pools ? " and the pooler" : "")});
}

// The tensors of an adapter folder by the names of this library's parameters.
class AdapterHubTensors {
 public:
  AdapterHubTensors(const std::filesystem::path& folder, const Architecture& architecture) : path_(adapterhub_tensors_file(folder)) {
    take(path_, architecture, {});
    const auto head = adapterhub_head_file(folder);
    if (!head) return;
    std::map<std::string, std::string> names;
    if (std::filesystem::exists(folder / "head_config.json")) names = adapterhub_head_names(JsonConfig::open(folder / "head_config.json"), architecture);
    take(*head, architecture, names);
  }

  const FileEntries& entries() const { return entries_; }
  bool has(const std::string& name) const { return entries_.contains(name); }
  const std::filesystem::path& path() const { return path_; }

 private:
  DELTATUNE_FUNCTION void take(const std::filesystem::path& path, const Architecture& architecture, const std::map<std::string, std::string>& renamed) {
    files_.push_back(TensorFile::open(path));
    for (const auto& [key, tensor] : files_.back().tensors()) {
      const auto other = renamed.find(key);
      const std::string name = other != renamed.end() ? other->second : architecture.without_prefix(without_legacy(key));
      const auto [at, is_new] = entries_.emplace(name, FileEntry{key, &tensor});
      if (is_new) continue;
      // Where the model has no prefix, the head's file repeats the prefixes.
      const TensorInfo& first = *at->second.tensor;
      if (first.file == tensor.file) throw Error(path.string() + ": " + key, "occurs twice, under two names");
      if (first.shape != tensor.shape || !same_values(first, tensor)) throw Error(path.string() + ": " + key, "has other values in " + first.file);
    }
  }

  std::filesystem::path path_;
  std::list<TensorFile> files_;
  FileEntries entries_;
};

// What the library writes twice: a prefix for each layer that uses it, and a norm as the first module of a bottleneck.
DELTATUNE_FUNCTION bool written_twice(const AdapterHubTensors& tensors, const std::string& name) {
  if (name.find(".prefix_tuning.pool.") != std::string::npos) return true;
  const std::size_t at = name.find(".adapter_down.0.");
  return at != std::string::npos && tensors.has(name.substr(0, at) + ".adapter_norm_before." + name.substr(at + std::string_view(".adapter_down.0.").size()));
}

// The weight of a language model's head: the table of word embeddings where the two are tied, as the library's file has it. Null for other models.
template <class Model>
auto* language_model_head(Model& model) {
  Parameter<typename Model::Tensor>* head = nullptr;
  if (!model.is_language_model()) return head;
  head = &model.word_table();
  model.visit([&](Parameter<typename Model::Tensor>& parameter) {
    if (parameter.path() == model.architecture().head.lm_head + ".weight") head = &parameter;
  });
  return head;
}

// The plan with leave_out as the attachment is now: see Attachment::drop_first_layers().
template <class Model, class X>
UnionPlan as_attached(Model& model, const UnionPlan& plan, const Attachment<X>& attachment) {
  UnionPlan now = plan;
  for (UnionMember& member : now.members) {
    BottleneckPlan* const method = std::get_if<BottleneckPlan>(&member);
    if (method == nullptr) continue;
    model.visit_sublayers([&](SublayerSite<X>& site) {
      if (method->stands_after(site.sublayer) && !site.deltas.has(attachment.name()) && !holds(method->leave_out, site.layer))
        method->leave_out.push_back(site.layer);
    });
  }
  return now;
}

}  // namespace detail

// Classes of the output layer in a folder; 0 when it has none.
DELTATUNE_FUNCTION Index adapterhub_classes(const std::filesystem::path& folder, const Architecture& architecture) {
  const auto file = detail::adapterhub_head_file(folder);
  if (!file) return 0;
  const detail::AdapterHubTensors tensors(folder, architecture);
  const std::string name = architecture.head.classifier + ".weight";
  return tensors.has(name) ? tensors.entries().at(name).tensor->shape.at(0) : 0;
}

// Writes the folder of an adapter as the library's load_adapter(folder, use_safetensors=True) reads it. base_model: the name it will show.
template <class Model>
void save_adapter(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, const UnionPlan& plan,
                  Attachment<typename Model::Tensor>& attachment, const std::string& base_model) {
  using X = typename Model::Tensor;
  SafeTensorsWriter adapter, head;
  bool has_head = false;
  const std::string prefix = detail::base_prefix(model);
  const Parameter<X>* const words = detail::language_model_head(model);
  const Architecture& architecture = model.architecture();
  const std::string lm_head = architecture.head.lm_head + ".weight";
  detail::visit_saved(model, plan, attachment, [&](Parameter<X>& parameter) {
    const std::string name = &parameter == words ? lm_head : detail::adapterhub_name(architecture, parameter, plan.name_in_file);
    const bool in_head = parameter.role() != Role::delta;
    has_head = has_head || in_head;
    write_parameter(ctx, architecture.is_head(name) ? name : prefix + name, parameter, in_head ? head : adapter);
  });
  const nlohmann::json common = {{"hidden_size", architecture.hidden_size},
                                 {"model_class", model.class_name()},
                                 {"model_name", base_model},
                                 {"model_type", architecture.family},
                                 {"version", detail::kAdapterHubVersion}};
  nlohmann::json config = common;
  config["config"] = adapterhub_config_json(detail::as_attached(model, plan, attachment));
  config["name"] = plan.name_in_file;
  StagedFolder staged(folder);
  adapter.write(staged.path() / "adapter.safetensors");
  if (has_head) {
    nlohmann::json labels = nlohmann::json::object();
    for (Index c = 0; c < model.num_labels(); ++c) labels["LABEL_" + std::to_string(c)] = c;
    nlohmann::json head_config = common;
    head_config.update({{"config", nullptr}, {"name", nullptr}, {"num_labels", model.num_labels()}, {"label2id", labels}});
    head.write(staged.path() / "model_head.safetensors");
    write_text_file(staged.path() / "head_config.json", head_config.dump(2, ' ', true) + "\n");
  }
  write_text_file(staged.path() / "adapter_config.json", config.dump(2, ' ', true) + "\n");
  staged.commit();
}

// Attaches what the folder holds beside what the model has; every tensor is used or the call throws. What trained goes on training. The
// plan's settings count, but for modules_to_save: the output layer trains where the folder holds one.
template <class Model>
Adapter<typename Model::Tensor, UnionPlan> load_adapter_as(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder,
                                                           const UnionPlan& plan) {
  using X = typename Model::Tensor;
  const Architecture& architecture = model.architecture();
  const std::string lm_head = architecture.head.lm_head + ".weight";
  const detail::AdapterHubTensors tensors(folder, architecture);
  UnionPlan placed = plan;
  placed.modules_to_save.clear();
  if (model.has_classifier())
    for (const std::string& module : {architecture.head.classifier, architecture.head.dense, architecture.head.dense.empty() ? architecture.head.pooler : ""})
      if (tensors.has(module + ".weight")) placed.modules_to_save.emplace_back(module);
  const std::string in_config = (folder / "adapter_config.json").string();
  std::vector<std::string> notes;
  for (UnionMember& member : placed.members) {
    BottleneckPlan* const method = std::get_if<BottleneckPlan>(&member);
    if (method == nullptr || !method->after_cross_attention || architecture.encoder) continue;
    method->after_cross_attention = false;
    placed.unread.emplace_back("cross_adapter");
  }
  detail::note_unread(in_config, placed.unread, notes);
  bool resized = false;
  if (model.is_language_model() && tensors.has(lm_head)) {
    const TensorInfo& head = *tensors.entries().at(lm_head).tensor;
    resized = detail::fit_vocabulary(ctx, model, head, true, head.file, notes);
  }
  Adapter<X, UnionPlan> adapter{placed, attach_beside(ctx, model, placed, 0, in_config)};
  adapter.notes = std::move(notes);

  or_detach(adapter.attachment, [&] {
    detail::AdapterReader<X, UnionPlan> reader(ctx, tensors.path().string(), tensors.entries(), adapter);
    detail::visit_saved(model, placed, adapter.attachment, [&](Parameter<X>& parameter) {
      const std::string name = detail::adapterhub_name(architecture, parameter, placed.name_in_file);
      reader.require(parameter, {name}, architecture.is_head(name) ? name : detail::base_prefix(model) + name,
                     !name.starts_with("shared_parameters.") ? "is the file complete?"
                     : architecture.prefix.empty()
                         ? "adapters leaves it out, but reads it where it is there: put it into the file from the model's state_dict()"
                         : "adapters leaves it out where it saves from a model without a head: save from one with a head");
    });
    if (Parameter<X>* const head = detail::language_model_head(model); head != nullptr && reader.rest().contains(lm_head))
      reader.take_unasked(*head, lm_head, resized);
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.path() == architecture.head.logits_bias && reader.rest().contains(parameter.path()))
        reader.take_unasked(parameter, parameter.path(), resized);
    });
    reader.finish([&](const std::string& name, const detail::FileEntry& entry) {
      const bool of_pooler = !architecture.head.pooler.empty() && name.starts_with(architecture.head.pooler + ".");
      const bool of_head = architecture.is_head(name) || of_pooler || name.starts_with("lm_head.");
      if (!detail::written_twice(tensors, name) && !(of_head && (!model.has_classifier() || name.starts_with("lm_head."))))
        throw Error(entry.tensor->file + ": " + entry.key, "belongs neither to this adapter nor to the model");
    });
  });
  return adapter;
}

// One method alone: the same, as a union of one.
template <class Plan>
concept AdapterHubMethod = std::same_as<Plan, BottleneckPlan> || std::same_as<Plan, AdapterHubLoraPlan>;

template <class Model, AdapterHubMethod Plan>
void save_adapter(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, const Plan& plan,
                  Attachment<typename Model::Tensor>& attachment, const std::string& base_model) {
  save_adapter(ctx, folder, model, UnionPlan::of(plan), attachment, base_model);
}
template <class Model, AdapterHubMethod Plan>
Adapter<typename Model::Tensor, Plan> load_adapter_as(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder, const Plan& plan) {
  Adapter<typename Model::Tensor, UnionPlan> adapter = load_adapter_as(ctx, model, folder, UnionPlan::of(plan));
  Plan placed = plan;
  placed.modules_to_save = adapter.plan.modules_to_save;
  return with_plan(std::move(adapter), std::move(placed));
}

namespace detail {

template <>
inline UnionPlan read_plan<UnionPlan>(const JsonConfig& json) {
  return read_adapterhub_plan(json);
}
// Throws Error for a union of several, or of something else; `where` names the file.
template <AdapterHubMethod Plan>
Plan only_member(const UnionPlan& of, const std::string& where) {
  if (of.members.size() != 1 || !std::holds_alternative<Plan>(of.members[0]))
    throw Error(where + ": config", "is not one configuration of this method", {.got = of.method()});
  Plan plan = std::get<Plan>(of.members.at(0));
  static_cast<PlanBase&>(plan) = of;
  plan.name_in_file = of.name_in_file;
  return plan;
}
template <>
inline BottleneckPlan read_plan<BottleneckPlan>(const JsonConfig& json) {
  return only_member<BottleneckPlan>(read_adapterhub_plan(json), json.name());
}
template <>
inline AdapterHubLoraPlan read_plan<AdapterHubLoraPlan>(const JsonConfig& json) {
  return only_member<AdapterHubLoraPlan>(read_adapterhub_plan(json), json.name());
}

}  // namespace detail

// The same for a folder of any configuration.
template <class Model>
Adapter<typename Model::Tensor> load_adapterhub(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder,
                                                const std::string& name = "default") {
  const JsonConfig json = JsonConfig::open(folder / "adapter_config.json");
  UnionPlan plan = read_adapterhub_plan(json);
  plan.name = name;
  const auto as = [&](const auto& chosen) {
    auto adapter = load_adapter_as(ctx, model, folder, chosen);
    AnyPlan any = adapter.plan;
    return with_plan(std::move(adapter), std::move(any));
  };
  if (plan.members.size() == 1 && std::holds_alternative<BottleneckPlan>(plan.members[0])) return as(detail::only_member<BottleneckPlan>(plan, json.name()));
  if (plan.members.size() == 1 && std::holds_alternative<AdapterHubLoraPlan>(plan.members[0]))
    return as(detail::only_member<AdapterHubLoraPlan>(plan, json.name()));
  return as(plan);
}

}  // namespace deltatune
