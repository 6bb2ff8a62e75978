// LayerNorm tuning for a whole model: which norms. The settings of PEFT's LNTuningConfig.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "deltatune/attach/default_targets.hpp"
#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/plan_json.hpp"
#include "deltatune/delta/norm_tuning.hpp"

namespace deltatune {

struct NormTuningPlan : PlanBase {
  static constexpr const char* kMethod = "layer_norm";
  static constexpr const char* kPeftType = "LN_TUNING";
  static std::vector<std::string> site_tensors() { return {".ln_tuning_layers.weight", ".ln_tuning_layers.bias"}; }

  Targets targets = {};  // norms; empty: all of the family's

  static std::vector<std::pair<std::string, NormTuningPlan>> methods() { return {{kMethod, {}}}; }
  DELTATUNE_FUNCTION std::vector<Setting> settings() { return {{"target_modules", &targets}}; }
  template <class Model>
  void write_more(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/, Model& model) const {
    for (const char* const key : {"bias", "layers_to_transform", "layers_pattern"}) config_io.erase(key);  // which PEFT's does not have
    detail::write_modules(config_io, targets, default_targets(kPeftType, model.architecture(), "").names);
    if (!targets.layers.empty()) config_io["target_modules"] = chosen(model, "");
  }

  // Throws Error for targets that match no norm, and for norms that another delta computes.
  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, std::uint64_t, const std::string& where) const {
    if (targets.all_linear) throw Error(where + ": target_modules", "\"all-linear\" names no norms", {.remedy = "leave them out for all norms"});
    const std::vector<std::string> names = chosen(model, where);
    std::vector<Parameter<X>*> parameters;
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() != Role::norm_scale && parameter.role() != Role::norm_shift) return;
      if (std::find(names.begin(), names.end(), norm_of(parameter)) == names.end()) return;
      check_own_values(parameter, where);
      parameters.push_back(&parameter);
    });
    attachment.add(model.derived(), NormTuning<X>(ctx, parameters));
  }

 private:
  // Paths of the norms.
  template <class Model>
  std::vector<std::string> chosen(Model& model, const std::string& where) const {
    using X = typename Model::Tensor;
    std::vector<std::string> norms, reserved;
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() != Role::norm_scale) return;
      norms.push_back(norm_of(parameter));
      if (saves(norms.back())) reserved.push_back(norms.back());
    });
    return choose_targets(targets_or_default(targets, kPeftType, model.architecture(), where), norms, reserved, where);
  }
  template <class X>
  static std::string norm_of(const Parameter<X>& parameter) {
    return parameter.path().substr(0, parameter.path().rfind('.'));
  }
};

}  // namespace deltatune
