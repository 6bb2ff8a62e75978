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

#include "deltatune/attach/any_plan.hpp"
#include "deltatune/attach/peft_keys.hpp"
#include "deltatune/attach/prompt_learning.hpp"
#include "deltatune/attach/save_adapter.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/lora_start.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/regex.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

// What plans find here while they are read (attach/plan_json.hpp).
inline Pattern read_pattern(const JsonConfig& json, const char* key) { return regex(json.get<std::string>(key), json.name() + ": " + key); }
inline Pattern read_key_pattern(const JsonConfig& json, const std::string& key) { return regex(key, json.name()); }
inline LoraStart read_lora_start(const JsonConfig&, const std::string& name) { return name == "pissa" ? pissa() : olora(); }

// A method in a model, with the names its tensors have (or will have) in its file.
template <class X, class Plan = AnyPlan>
struct Adapter {
  Plan plan;
  Attachment<X> attachment;
  std::map<std::string, std::string> keys;                       // path of a parameter that is saved -> its name in the file
  std::vector<std::string> ignored = {};                         // tensors of the file that the library writes and does not read
  std::map<std::string, std::vector<std::string>> columns = {};  // in place of keys: names of several tensors that lie side by side in one parameter
  std::vector<std::string> notes = {};  // what a user should know: settings and tensors that have no effect, values that replace the model's
};

template <class X, class Plan>
Adapter<X> of_any_plan(Adapter<X, Plan> adapter) {
  return {std::move(adapter.plan),    std::move(adapter.attachment), std::move(adapter.keys),
          std::move(adapter.ignored), std::move(adapter.columns),    std::move(adapter.notes)};
}

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

// "a, b, c and 4 more"
DELTATUNE_FUNCTION std::string shortened_list(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kShown; ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kShown ? text + " and " + std::to_string(names.size() - kShown) + " more" : text;
}
inline void note_unread(const std::string& file, const std::vector<std::string>& fields, std::vector<std::string>& notes_io) {
  if (!fields.empty()) notes_io.push_back(file + ": not known here and without effect: " + shortened_list(fields));
}

// Whether a tensor holds the numbers that a parameter has already.
template <class X>
bool holds_values_of(context_of<X>& ctx, const TensorInfo& tensor, const Parameter<X>& parameter) {
  std::vector<float> values(static_cast<std::size_t>(parameter.size()));
  read_floats(tensor, std::span<float>(values));
  return values == download_in_file_order<X>(ctx, parameter, parameter.value());
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

// What a file brings of the model itself.
template <class X>
class BroughtValues {
 public:
  BroughtValues(context_of<X>& ctx, std::string in_file, std::string attachment)
      : ctx_(&ctx), in_file_(std::move(in_file)), attachment_(std::move(attachment)) {}

  // Whether the tensor, which fits, changes anything. expected: the adapter's configuration says that it is there.
  bool add(const TensorInfo& tensor, Parameter<X>& parameter, bool expected) {
    const bool changes = !holds_values_of(*ctx_, tensor, parameter);
    if (!changes && !expected) return false;
    if (changes && !parameter.brought_by().empty() && parameter.brought_by() != attachment_) twice_.push_back(parameter.path());
    if (changes && !expected) unexpected_.push_back(parameter.path());
    parameters_.push_back(&parameter);
    return true;
  }
  // When all has been read.
  void note(std::vector<std::string>& notes_io) const {
    for (Parameter<X>* const parameter : parameters_) parameter->set_brought_by(attachment_);
    if (!unexpected_.empty()) notes_io.push_back(in_file_ + ": replaces weights of the model: " + shortened_list(unexpected_));
    if (!twice_.empty()) notes_io.push_back(in_file_ + ": replaces what another adapter brought, with other values: " + shortened_list(twice_));
  }

 private:
  context_of<X>* ctx_;
  std::string in_file_, attachment_;
  std::vector<Parameter<X>*> parameters_;
  std::vector<std::string> unexpected_, twice_;
};

template <class Plan>
Plan read_plan(const JsonConfig& json) {
  Plan plan = Plan::read(json);
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
  Adapter<X, Plan> adapter{plan, attach_beside(ctx, model, placed, 0, in_config), {}};
  adapter.notes = std::move(notes);
  or_detach(adapter.attachment, [&] {
    const std::vector<std::string>& paths = adapter.attachment.paths();

    std::set<std::string> unused;
    for (const auto& [key, tensor] : file.tensors()) unused.insert(key);
    std::vector<std::function<void()>> reads;  // made when all is known to fit
    detail::BroughtValues<X> brought(ctx, in_file, plan.name);
    const auto read = [&](Parameter<X>& parameter, bool required) {
      const std::vector<std::string> names = detail::peft_names(plan, parameter, paths);
      for (const std::string& key : names) {
        const TensorInfo* const tensor = file.find(key);
        if (tensor == nullptr && parameter.sparse_in_file() && file.find(key + ".values") != nullptr) {
          reads.emplace_back([&ctx, &parameter, &indices = file.at(key + ".indices"), &values = file.at(key + ".values")] {
            read_sparse_parameter(ctx, indices, values, parameter);
          });
          adapter.keys[parameter.path()] = key;
          unused.erase(key + ".indices");
          unused.erase(key + ".values");
          return;
        }
        if (tensor == nullptr) continue;
        check_fits(*tensor, parameter);
        if (parameter.role() != Role::delta) brought.add(*tensor, parameter, true);
        reads.emplace_back([&ctx, &parameter, tensor] { read_parameter(ctx, *tensor, parameter); });
        adapter.keys[parameter.path()] = key;
        unused.erase(key);
        return;
      }
      if (required) throw Error(in_file, "has no tensor for " + parameter.path(), {.expected = names.front(), .remedy = "is the file complete?"});
      adapter.keys[parameter.path()] = names.front();
    };
    detail::visit_saved(model, plan, adapter.attachment, [&](Parameter<X>& parameter) {
      // Biases that a file of an old PEFT left out keep the base model's values.
      read(parameter, parameter.role() == Role::delta || !detail::is_peft_type<Plan>() || plan.saves(parameter.path()));
    });
    // Weights of the model that the file holds besides, whatever its configuration says: biases, tables of embeddings.
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() == Role::delta || !detail::is_peft_type<Plan>()) return;
      const auto read_before = adapter.keys.find(parameter.path());
      const TensorInfo* taken = read_before == adapter.keys.end() ? nullptr : file.find(read_before->second);
      for (const std::string& key : detail::keys_of(model, plan, parameter, paths)) {
        if (unused.erase(key) == 0) continue;
        const TensorInfo& tensor = file.at(key);
        check_fits(tensor, parameter);
        if (taken != nullptr) {  // a table under the name of the head that is tied to it
          if (!detail::same_values(*taken, tensor))
            throw Error(in_file + ": " + key, "differs from " + taken->name + ", and the model has one table for both",
                        {.remedy = "name one of the two in modules_to_save, or use a model with tie_word_embeddings false"});
          adapter.ignored.push_back(key);
          continue;
        }
        taken = &tensor;
        const bool is_words = &parameter == &model.word_table() || parameter.path() == "lm_head.weight";
        if (brought.add(tensor, parameter, resized && is_words)) {
          reads.emplace_back([&ctx, &parameter, &tensor] { read_parameter(ctx, tensor, parameter); });
        } else {
          adapter.ignored.push_back(key);
        }
      }
    });
    std::vector<std::string> left_out;
    for (const std::string& key : unused) {
      // Copies that PEFT writes and does not read, and tensors of places that the configuration does not choose.
      const bool is_copy = key.find(".modules_to_save.") != std::string::npos || key.find(".original_module.") != std::string::npos;
      const std::vector<std::string> ends = Plan::site_tensors();
      const bool of_method = std::any_of(ends.begin(), ends.end(), [&](const std::string& end) { return key.ends_with(end); });
      if (!is_copy && !of_method && !detail::is_buffer(key)) throw Error(in_file + ": " + key, "belongs neither to this adapter nor to the model");
      adapter.ignored.push_back(key);
      if (!is_copy) left_out.push_back(key);
    }
    if (!left_out.empty()) adapter.notes.push_back(in_file + ": not used, as the configuration does not ask for it: " + detail::shortened_list(left_out));
    for (const auto& read_one : reads) read_one();
    brought.note(adapter.notes);
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
          return of_any_plan(load_adapter_as(ctx, model, folder, plan));
        } else {
          throw Error(json.name(), "is not an adapter folder of PEFT");
        }
      },
      any);
}

}  // namespace deltatune
