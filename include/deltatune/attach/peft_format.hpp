// Adapter folders of Hugging Face PEFT, read (written: attach/save_adapter.hpp, which says what they hold): adapter_config.json and
// adapter_model.safetensors or .bin. Needs deltatune::regex: configurations may hold regular expressions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "deltatune/attach/any_plan.hpp"
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
  std::map<std::string, std::string> keys;   // path of a parameter that is saved -> its name in the file
  std::vector<std::string> ignored = {};     // tensors of the file that the library writes and does not read
  std::map<std::string, std::vector<std::string>> columns = {};  // in place of keys: names of several tensors that lie side by side in one parameter
};

namespace detail {

template <class Plan>
Plan read_plan(const JsonConfig& json) {
  Plan plan = Plan::read(json);
  read_base(json, plan);
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
    }(std::make_index_sequence<std::variant_size_v<AnyPlan>>());
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

// Reads a folder that holds the plan's method and attaches it beside what the model has, under the plan's name: every tensor is used or the call
// throws. What else trained goes on training.
template <class Model, class Plan>
Adapter<typename Model::Tensor, Plan> load_adapter_as(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder, const Plan& plan) {
  using X = typename Model::Tensor;
  const std::filesystem::path tensors_path = detail::tensors_file(folder);
  const TensorFile file = TensorFile::open(tensors_path);
  Plan placed = plan;
  if constexpr (requires { placed.targets; }) {
    placed.targets.paths = detail::sites_in<Plan>(file, tensors_path.string());
  }
  if constexpr (requires { placed.fit(file); }) placed.fit(file);
  Adapter<X, Plan> adapter{plan, attach_beside(ctx, model, placed, 0, (folder / "adapter_config.json").string()), {}, {}};
  or_detach(adapter.attachment, [&] {
    const std::vector<std::string>& paths = adapter.attachment.paths();

    std::set<std::string> unused;
    for (const auto& [key, tensor] : file.tensors()) unused.insert(key);
    std::vector<std::function<void()>> reads;  // made when all is known to fit
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
        reads.emplace_back([&ctx, &parameter, tensor] { read_parameter(ctx, *tensor, parameter); });
        adapter.keys[parameter.path()] = key;
        unused.erase(key);
        return;
      }
      if (required) throw Error(tensors_path.string(), "has no tensor for " + parameter.path(), {.expected = names.front(), .remedy = "is the file complete?"});
      adapter.keys[parameter.path()] = names.front();
    };
    detail::visit_saved(model, plan, adapter.attachment, [&](Parameter<X>& parameter) {
      // Biases that a file of an old PEFT left out keep the base model's values.
      read(parameter, parameter.role() == Role::delta || !detail::is_peft_type<Plan>() || plan.saves(parameter.path()));
    });
    // Biases that the file holds besides, whatever its configuration says.
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() != Role::bias || !detail::is_peft_type<Plan>()) return;
      for (const std::string& key : detail::peft_names(plan, parameter, paths))
        if (unused.erase(key) > 0) {
          check_fits(file.at(key), parameter);
          reads.emplace_back([&ctx, &parameter, &tensor = file.at(key)] { read_parameter(ctx, tensor, parameter); });
        }
    });
    for (const std::string& key : unused) {
      if (key.find(".modules_to_save.") != std::string::npos || key.find(".original_module.") != std::string::npos) {
        adapter.ignored.push_back(key);  // copies that bias="all" makes PEFT write and that it does not read
      } else {
        throw Error(tensors_path.string() + ": " + key, "is no tensor of this adapter and no parameter of the model");
      }
    }
    for (const auto& read_one : reads) read_one();
  });
  return adapter;
}

// The same for a folder of any method that the library knows.
template <class Model>
Adapter<typename Model::Tensor> load_peft(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder, const std::string& name = "default") {
  const JsonConfig json = JsonConfig::open(folder / "adapter_config.json");
  AnyPlan any = detail::read_any_plan(json, json.get<std::string>("peft_type"));
  base_of(any).name = name;
  return std::visit(
      [&]<class P>(const P& plan) -> Adapter<typename Model::Tensor> {
        if constexpr (requires { P::kPeftType; }) {
          auto adapter = load_adapter_as(ctx, model, folder, plan);
          return {std::move(adapter.plan), std::move(adapter.attachment), std::move(adapter.keys), std::move(adapter.ignored)};
        } else {
          throw Error(json.name(), "is no folder of PEFT's kind");
        }
      },
      any);
}

}  // namespace deltatune
