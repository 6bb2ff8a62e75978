// Diff pruning for a whole model: which of its parameters get a sparse difference.
//
//   adapter_config.json        {"peft_type": "DELTATUNE_DIFF_PRUNING", "parameters": ["**.layer.**"], "density": 0.005, ...}
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/plan.hpp"
#include "deltatune/attach/setting.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/core/path.hpp"
#include "deltatune/delta/diff_pruning.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

struct DiffPruningPlan : PlanBase {
  static constexpr const char* kGroup = "Other methods";
  static constexpr const char* kMethod = "diff_pruning";
  static constexpr const char* kPeftType = "DELTATUNE_DIFF_PRUNING";
  static std::vector<std::string> site_tensors() { return {}; }

  DiffPruningConfig diff = {};
  std::vector<std::string> parameters = {};  // globs; empty: all of the Transformer blocks
  bool pruned = false;                       // differences that are found already

  static std::vector<std::pair<std::string, DiffPruningPlan>> methods() { return {{kMethod, {}}}; }
  DELTATUNE_FUNCTION std::vector<Setting> settings() {
    return {{"density", &diff.density, "--density", "share of the weights that differ in the end"},
            {"penalty", &diff.penalty, "--penalty", "weight of the L0 penalty"},
            {"structured", &diff.structured, "--structured", "one more gate for each parameter"},
            {"prune_at", &diff.prune_at, "--prune-at", "updates before the others are dropped", "half of the run"},
            {"parameters", &parameters}};
  }
  void validate(const std::string& where) const { diff.validate(where); }
  void fit(const TensorFile& file) {
    pruned = std::none_of(file.tensors().begin(), file.tensors().end(), [](const auto& tensor) { return tensor.first.ends_with(".log_alpha"); });
  }

  // Throws Error for a glob that matches nothing, and for parameters that another delta computes.
  template <class Model, class X>
  void place(context_of<X>& ctx, Model& model, Attachment<X>& attachment, std::uint64_t, const std::string& where) const {
    diff.validate(where);
    const std::vector<std::string> globs = parameters.empty() ? std::vector<std::string>{"**.layer.**", "**.h.**"} : parameters;
    std::vector<Parameter<X>*> chosen;
    std::vector<bool> matched(globs.size(), false);
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() == Role::delta || parameter.constant() || saves(parameter.path())) return;
      bool any = false;
      for (std::size_t i = 0; i < globs.size(); ++i)
        if (matches(globs[i], parameter.path())) matched[i] = any = true;
      if (!any) return;
      check_own_values(parameter, where);
      chosen.push_back(&parameter);
    });
    for (std::size_t i = 0; i < globs.size(); ++i)
      if (!matched[i] && !parameters.empty()) throw Error(where + ": parameters", "\"" + globs[i] + "\" matches nothing");
    if (chosen.empty()) throw Error(where + ": parameters", "match no parameter of this model");
    attachment.add(model.derived(), DiffPruning<X>(ctx, chosen, diff, pruned));
  }
};

}  // namespace deltatune
