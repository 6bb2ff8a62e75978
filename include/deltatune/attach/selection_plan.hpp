// Methods that only choose among the model's own parameters (BitFit, head only, ...), as a plan. PEFT has no type for them: the folder has one that
// PEFT refuses by name, and its tensors carry the names of the base checkpoint.
//
//   adapter_config.json        {"peft_type": "DELTATUNE_SELECTION", "method": "bitfit", "trainable": ["**.bias", "classifier.**"], ...}
//   adapter_model.safetensors  the trained parameters
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/plan.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/seam/selection.hpp"

namespace deltatune {

struct SelectionPlan : PlanBase {
  static constexpr const char* kMethod = "selection";
  static constexpr const char* kPeftType = "DELTATUNE_SELECTION";
  static std::vector<std::string> site_tensors() { return {}; }

  Selection selection;

  SelectionPlan() = default;
  SelectionPlan(Selection chosen) : selection(std::move(chosen)) { modules_to_save = {}; }

  static SelectionPlan read(const JsonConfig& json) {
    return SelectionPlan({json.get<std::string>("method"), json.get<std::vector<std::string>>("trainable")});
  }
  void write(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/) const {
    config_io["method"] = selection.name;
    config_io["trainable"] = selection.trainable;
  }

  template <class X>
  bool trains_too(const Parameter<X>& parameter) const {
    return std::any_of(selection.trainable.begin(), selection.trainable.end(), [&](const std::string& glob) { return matches(glob, parameter.path()); });
  }
  // Throws Error for a glob that matches nothing.
  template <class Model>
  void place(typename Model::Context&, Model& model, Attachment<typename Model::Tensor>&, std::uint64_t, const std::string&) const {
    detail::visit_matching(model, selection.trainable, [](auto&) {});  // attach() lets them train: trains_too()
  }
};

}  // namespace deltatune
