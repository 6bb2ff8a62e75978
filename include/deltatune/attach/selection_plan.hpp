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
#include "deltatune/attach/setting.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/seam/selection.hpp"

namespace deltatune {

struct SelectionPlan : PlanBase {
  static constexpr const char* kGroup = "Other methods";
  static constexpr const char* kMethod = "selection";
  static constexpr const char* kPeftType = "DELTATUNE_SELECTION";
  static std::vector<std::string> site_tensors() { return {}; }

  Selection selection;
  Index last = 1;  // of last_layers

  SelectionPlan() = default;
  SelectionPlan(Selection chosen) : selection(std::move(chosen)) { modules_to_save = {}; }

  // By name alone: choose() tells what that is in a model.
  DELTATUNE_FUNCTION static std::vector<std::pair<std::string, SelectionPlan>> methods() {
    std::vector<std::pair<std::string, SelectionPlan>> named;
    for (const char* const name : {"bitfit", "bitfit_query_ffn", "last_layers", "head", "full"}) named.emplace_back(name, SelectionPlan({name, {}}));
    return named;
  }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    std::vector<Setting> all{{"method", &selection.name}, {"trainable", &selection.trainable}};
    if (selection.name == "last_layers") all.push_back({"", &last, "--last-layers", "how many"});
    return all;
  }
  // The selection of this name in a model.
  DELTATUNE_FUNCTION void choose(const ModelFamily& family) {
    const std::string method = selection.name;
    selection = method == "bitfit"             ? bitfit(family)
                : method == "bitfit_query_ffn" ? bitfit_query_ffn(family)
                : method == "last_layers"      ? last_layers(last, family)
                : method == "head"             ? head_only(family)
                : method == "full"             ? full_fine_tuning()
                                               : throw Error(method, "is not the name of a selection", {.expected = "one of SelectionPlan::methods()"});
  }

  template <class X>
  bool trains_too(const Parameter<X>& parameter) const {
    return std::any_of(selection.trainable.begin(), selection.trainable.end(), [&](const std::string& glob) { return matches(glob, parameter.path()); });
  }
  // Throws Error for a glob that matches nothing.
  template <class Model, class X>
  void place(context_of<X>&, Model& model, Attachment<X>&, std::uint64_t, const std::string&) const {
    detail::visit_matching(model, selection.trainable, [](auto&) {});  // attach() lets them train: trains_too()
  }
};

}  // namespace deltatune
