// Adapter folders of Hugging Face PEFT, written: adapter_config.json and adapter_model.safetensors. Methods that PEFT has not are kept in the same two
// files, under a peft_type that PEFT refuses by name. (Read: attach/peft_format.hpp.)
//
//   base_model.model.<parameter>              of a delta, or trained as a whole: modules_to_save, biases
//   base_model.model.<site>.base_layer.bias   the bias of a site that has a delta; so its weight, where the adapter's file brought another one
#pragma once

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/attach/file_tensor.hpp"
#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/plan_json.hpp"
#include "deltatune/io/model_folder.hpp"
#include "deltatune/io/parameter_io.hpp"

namespace deltatune {

namespace detail {

inline constexpr const char* kPeftPrefix = "base_model.model.";

// Whether a plan's folder is one of PEFT's own kinds.
template <class Plan>
constexpr bool is_peft_type() {
  return !std::string_view(Plan::kPeftType).starts_with("DELTATUNE");
}

// Whether the folder of this plan for this model is of its own kind, and not of PEFT's.
template <class Plan, class Model>
bool is_own(const Plan& plan, const Model& model) {
  if constexpr (requires { plan.own(model); }) {
    return plan.own(model);
  } else if constexpr (requires { plan.own(); }) {
    return plan.own();
  } else {
    return !is_peft_type<Plan>();
  }
}

// The names under which PEFT's files may hold a parameter of a model that has deltas at `paths`, the one that is written first.
template <class Plan, class X>
std::vector<std::string> peft_names(const Plan& plan, const Parameter<X>& parameter, const std::vector<std::string>& paths) {
  const std::string& path = parameter.path();
  if constexpr (requires { plan.file_names(parameter); }) {
    if (std::vector<std::string> names = plan.file_names(parameter); !names.empty()) return names;
  }
  if (!is_peft_type<Plan>()) return {path};
  const std::size_t dot = path.rfind('.');
  if (parameter.role() != Role::delta && std::find(paths.begin(), paths.end(), path.substr(0, dot)) != paths.end())
    return {kPeftPrefix + path.substr(0, dot) + ".base_layer" + path.substr(dot), kPeftPrefix + path};
  return {kPeftPrefix + path};
}

// f(parameter) for each parameter that belongs into the method's file: its deltas', what else it lets train, and what its own file brought.
template <class Plan, class Model, class X, class F>
void visit_saved(Model& model, const Plan& plan, Attachment<X>& attachment, const F& f) {
  attachment.visit([&](Parameter<X>& parameter) {
    if constexpr (requires { plan.in_file(parameter); }) {
      if (plan.in_file(parameter)) f(parameter);
    } else {
      if (!parameter.derived()) f(parameter);
    }
  });
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.role() == Role::delta) return;
    if (parameter.brought_by() == attachment.name() || (parameter.updated() && trains_beside(model, plan, parameter, attachment.paths()))) f(parameter);
  });
}

// The modules that a file lists: PEFT's names of classifiers, whichever the model has, but the head of a classifier with a decoder only where there is one.
template <class Model, class Plan>
std::vector<std::string> listed_modules(const Model& model, const Plan& plan) {
  std::vector<std::string> modules = plan.modules_to_save;
  if (!model.has_classifier() || model.architecture().head.output_module() != kDecoderClassifier) std::erase(modules, kDecoderClassifier);
  return modules;
}

}  // namespace detail

// Writes the folder of a method. base_model: the name PEFT will show. Throws Error when the folder can't be written.
template <class Model, class Plan>
void save_adapter(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, const Plan& plan,
                  Attachment<typename Model::Tensor>& attachment, const std::string& base_model) {
  using X = typename Model::Tensor;
  attachment.evaluate(ctx);
  // With SEQ_CLS PEFT would look for an output layer in the file.
  const bool names_task = !model.has_classifier() || plan.saves(model.architecture().head.classifier);
  nlohmann::json config = {
      {"peft_type", Plan::kPeftType},
      {"task_type", names_task ? nlohmann::json(model.task_type()) : nlohmann::json(nullptr)},
      {"base_model_name_or_path", base_model},
      {"inference_mode", true},
      {"modules_to_save", detail::list_or_null(detail::listed_modules(model, plan))},
      {"bias", plan.bias == BiasTraining::all       ? "all"
               : plan.bias == BiasTraining::targets ? "lora_only"
                                                    : "none"},
  };
  if (plan.ensure_weight_tying) config["ensure_weight_tying"] = true;
  const bool own = detail::is_own(plan, model);
  if constexpr (requires { Plan::kOwnType; }) {
    if (own) config["peft_type"] = Plan::kOwnType;
  }
  detail::write_settings(config, Plan(plan).settings(), attachment.paths(), own);
  if constexpr (requires { plan.write_more(config, attachment.paths(), model); }) plan.write_more(config, attachment.paths(), model);
  FileTensors converted;
  if constexpr (requires { plan.convert(ctx, attachment, config); }) converted = plan.convert(ctx, attachment, config);
  SafeTensorsWriter writer;
  detail::visit_saved(model, plan, attachment, [&](Parameter<X>& parameter) {
    const std::string name = detail::peft_names(plan, parameter, attachment.paths()).front();
    const auto other = converted.find(parameter.path());
    if (other == converted.end()) return write_parameter(ctx, name, parameter, writer);
    writer.add_copy(name, other->second.shape, other->second.values);
  });
  write_model_folder(folder, "adapter_model.safetensors", writer, "adapter_config.json", detail::config_text(config));
}

// The same for what attach() returned, in the format that has its method.
template <class Model, class Plan>
void save_adapter(typename Model::Context& ctx, const std::filesystem::path& folder, Model& model, Attached<typename Model::Tensor, Plan>& attached,
                  const std::string& base_model) {
  save_adapter(ctx, folder, model, attached.plan, attached, base_model);
}

}  // namespace deltatune
