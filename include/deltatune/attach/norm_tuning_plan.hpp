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

  template <class Json>
  static NormTuningPlan read(const Json& json) {
    NormTuningPlan plan;
    plan.targets = detail::read_targets(json);
    return plan;
  }
  template <class Model>
  void write(nlohmann::json& config_io, const std::vector<std::string>& /*paths*/, const Model& model) const {
    config_io.erase("bias");
    detail::write_modules(config_io, targets, default_targets(kPeftType, model.architecture(), "").names);
  }

  // Throws Error for targets that match no norm, and for norms that another delta computes.
  template <class Model>
  void place(typename Model::Context& ctx, Model& model, Attachment<typename Model::Tensor>& attachment, std::uint64_t, const std::string& where) const {
    using X = typename Model::Tensor;
    std::vector<std::string> norms, reserved;
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() != Role::norm_scale) return;
      norms.push_back(norm_of(parameter));
      if (saves(norms.back())) reserved.push_back(norms.back());
    });
    const std::vector<std::string> chosen = choose_targets(targets_or_default(targets, kPeftType, model.architecture(), where), norms, reserved, where);
    std::vector<Parameter<X>*> parameters;
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() != Role::norm_scale && parameter.role() != Role::norm_shift) return;
      if (std::find(chosen.begin(), chosen.end(), norm_of(parameter)) == chosen.end()) return;
      check_own_values(parameter, where);
      parameters.push_back(&parameter);
    });
    attachment.add(model.derived(), NormTuning<X>(ctx, parameters));
  }

 private:
  template <class X>
  static std::string norm_of(const Parameter<X>& parameter) {
    return parameter.path().substr(0, parameter.path().rfind('.'));
  }
};

}  // namespace deltatune
