// Adapter folders of Hugging Face PEFT, read (written: attach/save_adapter.hpp, which says what they hold): adapter_config.json and
// adapter_model.safetensors or .bin. Needs deltatune::regex: configurations may hold regular expressions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "deltatune/attach/adapter_reader.hpp"
#include "deltatune/attach/any_plan.hpp"
#include "deltatune/attach/peft_keys.hpp"
#include "deltatune/attach/prompt_learning.hpp"
#include "deltatune/attach/read_pattern.hpp"
#include "deltatune/attach/save_adapter.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

namespace detail {

// Fields of PEFT's configurations that are set in every file, or say how an adapter was made and not what it computes.
DELTATUNE_FUNCTION const std::set<std::string, std::less<>>& fields_without_effect() {
  static const std::set<std::string, std::less<>> fields{"auto_mapping",
                                                         "base_model_name_or_path",
                                                         "corda_config",
                                                         "encoder_hidden_size",
                                                         "eva_config",
                                                         "fan_in_fan_out",
                                                         "inference_mode",
                                                         "init_ia3_weights",
                                                         "init_lora_weights",
                                                         "init_weights",
                                                         "lora_ga_config",
                                                         "loftq_config",
                                                         "megatron_config",
                                                         "megatron_core",
                                                         "num_attention_heads",
                                                         "num_layers",
                                                         "peft_type",
                                                         "peft_version",
                                                         "qalora_group_size",
                                                         "r",
                                                         "revision",
                                                         "token_dim",
                                                         "tokenizer_kwargs",
                                                         "total_step"};
  return fields;
}

inline bool same_values(const TensorInfo& a, const TensorInfo& b) {
  std::vector<double> x(static_cast<std::size_t>(element_count(a.shape))), y(static_cast<std::size_t>(element_count(b.shape)));
  read_floats(a, std::span<double>(x));
  read_floats(b, std::span<double>(y));
  return x == y;
}

// The names under which a file may hold a parameter of the model, which are the head's as well for the table that it is tied to.
template <class Model, class Plan, class X>
std::vector<std::string> keys_of(Model& model, const Plan& plan, const Parameter<X>& parameter, const std::vector<std::string>& paths) {
  std::vector<std::string> keys = peft_names(plan, parameter, paths);
  if constexpr (requires { model.tied_head(); }) {
    if (model.tied_head() == nullptr || &parameter != &model.word_table()) return keys;
    for (const std::string& key : peft_names(plan, *model.tied_head(), paths)) keys.push_back(key);
  }
  return keys;
}

// Brings the model to the number of words of a table in a file; returns whether it had another one. has_head: the file holds the head's weight, too.
template <class Model>
bool fit_vocabulary(typename Model::Context& ctx, Model& model, const TensorInfo& table, bool has_head, const std::string& in_file,
                    std::vector<std::string>& notes_io) {
  const Index words = model.word_table().shape().at(0);
  if (table.shape.size() != 2 || table.shape[0] == words || table.shape[1] != model.word_table().shape().at(1)) return false;
  if constexpr (requires { model.tied(); }) {
    if (model.is_language_model() && !model.tied() && !has_head)
      throw Error(in_file, "has a table of " + std::to_string(table.shape[0]) + " words and no lm_head.weight for them", {.remedy = "is the file complete?"});
  }
  model.resize_vocabulary(ctx, table.shape[0]);
  notes_io.push_back(in_file + ": the vocabulary has " + std::to_string(table.shape[0]) + " words instead of the model's " + std::to_string(words));
  return true;
}

// The same for a file of PEFT, which saves the tables where the vocabulary was resized.
template <class Model, class Plan>
bool fit_vocabulary(typename Model::Context& ctx, Model& model, const Plan& plan, const TensorFile& file, const std::string& in_file,
                    std::vector<std::string>& notes_io) {
  const std::string path = model.word_table().path(), site = path.substr(0, path.rfind('.'));
  const TensorInfo* table = nullptr;
  for (const std::string& key : keys_of(model, plan, model.word_table(), {site, "lm_head"}))
    if (table == nullptr) table = file.find(key);
  const auto is_head = [](const auto& entry) { return entry.first.ends_with("lm_head.weight") || entry.first.ends_with("lm_head.base_layer.weight"); };
  return table != nullptr && fit_vocabulary(ctx, model, *table, std::any_of(file.tensors().begin(), file.tensors().end(), is_head), in_file, notes_io);
}

// A folder's adapter_config.json as a plan of its method.
template <class Plan>
Plan read_plan(const JsonConfig& json) {
  Plan plan;
  bool own = false;
  if constexpr (requires { Plan::kOwnType; }) own = json.get<std::string>("peft_type") == Plan::kOwnType;
  if constexpr (requires { plan.read_more(json); }) plan.read_more(json);
  read_settings(json, plan.settings(), !is_peft_type<Plan>(), own);
  if constexpr (requires { plan.validate(json.name()); }) plan.validate(json.name());
  read_base(json, plan);
  plan.unread = json.unread(fields_without_effect());
  return plan;
}

// The plan whose kPeftType is `type`, out of the alternatives of AnyPlan.
template <std::size_t At = 0>
AnyPlan read_any_plan(const JsonConfig& json, const std::string& type) {
  if constexpr (At == std::variant_size_v<AnyPlan>) {
    std::string known;
    [&]<std::size_t... J>(std::index_sequence<J...>) {
      const auto add = [&]<class P>(std::type_identity<P>) {
        if constexpr (requires { P::kPeftType; }) known += (known.empty() ? "" : ", ") + std::string(P::kPeftType);
      };
      (add(std::type_identity<std::variant_alternative_t<J, AnyPlan>>{}), ...);
    }
    (std::make_index_sequence<std::variant_size_v<AnyPlan>>());
    throw Error(json.name() + ": peft_type", "is not supported", {.expected = "one of " + known, .got = "\"" + type + "\""});
  } else {
    using Plan = std::variant_alternative_t<At, AnyPlan>;
    if constexpr (requires { Plan::kPeftType; }) {
      if (type == Plan::kPeftType) return read_plan<Plan>(json);
    }
    if constexpr (requires { Plan::kOwnType; }) {
      if (type == Plan::kOwnType) return read_plan<Plan>(json);
    }
    return read_any_plan<At + 1>(json, type);
  }
}

// Buffers that checkpoints of older versions hold, and that are computed here.
DELTATUNE_FUNCTION bool is_buffer(const std::string& key) {
  return key.ends_with(".position_ids") || key.ends_with(".attn.bias") || key.ends_with(".attn.masked_bias");
}

// The file of tensors in a folder.
DELTATUNE_FUNCTION std::filesystem::path tensors_file(const std::filesystem::path& folder) {
  const std::filesystem::path binary = folder / "adapter_model.bin";
  return !std::filesystem::exists(folder / "adapter_model.safetensors") && std::filesystem::exists(binary) ? binary : folder / "adapter_model.safetensors";
}

// The sites that a file holds tensors for.
template <class Plan>
std::vector<std::string> sites_in(const TensorFile& file, const std::string& in_file) {
  const std::string prefix = is_peft_type<Plan>() ? kPeftPrefix : "";
  std::set<std::string> found;
  const std::vector<std::string> ends = Plan::site_tensors();
  for (const auto& [name, tensor] : file.tensors())
    for (const std::string& end : ends)
      if (name.starts_with(prefix) && name.ends_with(end)) found.insert(name.substr(prefix.size(), name.size() - prefix.size() - end.size()));
  if (found.empty() && !ends.empty()) throw Error(in_file, "holds no tensors of this method", {.expected = "names that end in " + ends.front()});
  return {found.begin(), found.end()};
}

}  // namespace detail

// Reads a folder that holds the plan's method and attaches it beside what the model has, under the plan's name. Throws Error for a tensor that is
// missing, and for one that is neither of this adapter nor of the model; what PEFT leaves out is left out and noted. What else trained goes on training.
template <class Model, class Plan>
Adapter<typename Model::Tensor, Plan> load_adapter_as(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder, const Plan& plan) {
  using X = typename Model::Tensor;
  const std::filesystem::path tensors_path = detail::tensors_file(folder);
  const std::string in_file = tensors_path.string(), in_config = (folder / "adapter_config.json").string();
  TensorFile file = TensorFile::open(tensors_path);
  std::vector<std::string> notes;
  if constexpr (detail::is_peft_type<Plan>()) {
    const std::string note =
        detail::use_peft_keys(file, in_file, model.architecture(), detail::base_prefix(model), std::is_base_of_v<PromptLearningPlan, Plan>);
    if (!note.empty()) notes.push_back(note);
  }
  detail::note_unread(in_config, plan.unread, notes);
  bool resized = false;
  if constexpr (detail::is_peft_type<Plan>()) resized = detail::fit_vocabulary(ctx, model, plan, file, in_file, notes);
  Plan placed = plan;
  if constexpr (requires { placed.targets; }) {
    placed.targets.paths = detail::sites_in<Plan>(file, in_file);
  }
  if constexpr (requires { placed.fit(file); }) placed.fit(file);
  Adapter<X, Plan> adapter{plan, attach_beside(ctx, model, placed, 0, in_config)};
  adapter.notes = std::move(notes);
  or_detach(adapter.attachment, [&] {
    const std::vector<std::string>& paths = adapter.attachment.paths();
    detail::FileEntries entries;
    for (const auto& [key, tensor] : file.tensors()) entries[key] = {key, &tensor};
    detail::AdapterReader<X, Plan> reader(ctx, in_file, std::move(entries), adapter);
    detail::visit_saved(model, plan, adapter.attachment, [&](Parameter<X>& parameter) {
      const std::vector<std::string> names = detail::peft_names(plan, parameter, paths);
      // Biases that a file of an old PEFT left out keep the base model's values.
      if (parameter.role() == Role::delta || !detail::is_peft_type<Plan>() || plan.saves(parameter.path())) {
        reader.require(parameter, names, names.front());
      } else if (!reader.take(parameter, names)) {
        adapter.keys[parameter.path()] = names.front();
      }
    });
    // Weights of the model that the file holds besides, whatever its configuration says: biases, tables of embeddings.
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() == Role::delta || !detail::is_peft_type<Plan>()) return;
      const auto read_before = adapter.keys.find(parameter.path());
      const TensorInfo* taken = read_before == adapter.keys.end() ? nullptr : file.find(read_before->second);
      for (const std::string& key : detail::keys_of(model, plan, parameter, paths)) {
        if (!reader.rest().contains(key)) continue;
        const TensorInfo& tensor = file.at(key);
        if (taken == nullptr) {
          const bool is_words = &parameter == &model.word_table() || parameter.path() == "lm_head.weight";
          reader.take_unasked(parameter, key, resized && is_words);
          taken = &tensor;
          continue;
        }
        check_fits(tensor, parameter);  // a table under the name of the head that is tied to it
        if (!detail::same_values(*taken, tensor))
          throw Error(in_file + ": " + key, "differs from " + taken->name + ", and the model has one table for both",
                      {.remedy = "name one of the two in modules_to_save, or use a model with tie_word_embeddings false"});
        reader.leave_out(key);
      }
    });
    std::vector<std::string> left_out;
    reader.finish([&](const std::string& key, const detail::FileEntry&) {
      // Copies that PEFT writes and does not read, and tensors of places that the configuration does not choose.
      const bool is_copy = key.find(".modules_to_save.") != std::string::npos || key.find(".original_module.") != std::string::npos;
      const std::vector<std::string> ends = Plan::site_tensors();
      const bool of_method = std::any_of(ends.begin(), ends.end(), [&](const std::string& end) { return key.ends_with(end); });
      if (!is_copy && !of_method && !detail::is_buffer(key)) throw Error(in_file + ": " + key, "belongs neither to this adapter nor to the model");
      if (!is_copy) left_out.push_back(key);
    });
    if (!left_out.empty()) adapter.notes.push_back(in_file + ": not used, as the configuration does not ask for it: " + detail::shortened_list(left_out));
  });
  return adapter;
}

// The same for a folder of any method that the library knows.
template <class Model>
Adapter<typename Model::Tensor> load_peft(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder,
                                          const std::string& name = "default") {
  const JsonConfig json = JsonConfig::open(folder / "adapter_config.json");
  AnyPlan any = detail::read_any_plan(json, json.get<std::string>("peft_type"));
  base_of(any).name = name;
  return std::visit(
      [&]<class P>(const P& plan) -> Adapter<typename Model::Tensor> {
        if constexpr (requires { P::kPeftType; }) {
          return with_plan(load_adapter_as(ctx, model, folder, plan), AnyPlan(plan));
        } else {
          throw Error(json.name(), "is not an adapter folder of PEFT");
        }
      },
      any);
}

}  // namespace deltatune
