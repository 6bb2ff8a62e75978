// A plan of any method.
#pragma once

#include <string>
#include <variant>

#include "deltatune/attach/adalora_plan.hpp"
#include "deltatune/attach/adapterhub_lora_plan.hpp"
#include "deltatune/attach/bottleneck_plan.hpp"
#include "deltatune/attach/diff_pruning_plan.hpp"
#include "deltatune/attach/ia3_plan.hpp"
#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/attach/miss_plan.hpp"
#include "deltatune/attach/norm_tuning_plan.hpp"
#include "deltatune/attach/p_tuning_plan.hpp"
#include "deltatune/attach/prefix_plan.hpp"
#include "deltatune/attach/prompt_plan.hpp"
#include "deltatune/attach/selection_plan.hpp"
#include "deltatune/attach/union_plan.hpp"
#include "deltatune/attach/vera_plan.hpp"
#include "deltatune/core/config.hpp"

namespace deltatune {

// In the order in which a program lists their methods.
using AnyPlan = std::variant<LoraPlan, AdaLoraPlan, VeraPlan, MissPlan, Ia3Plan, BottleneckPlan, AdapterHubLoraPlan, PrefixPlan, PromptPlan, PTuningPlan,
                             DiffPruningPlan, UnionPlan, NormTuningPlan, SelectionPlan>;

inline const PlanBase& base_of(const AnyPlan& plan) {
  return std::visit([](const PlanBase& base) -> const PlanBase& { return base; }, plan);
}
inline PlanBase& base_of(AnyPlan& plan) {
  return std::visit([](PlanBase& base) -> PlanBase& { return base; }, plan);
}

// "lora", "bitfit", ...
DELTATUNE_FUNCTION std::string method_of(const AnyPlan& plan) {
  if (const SelectionPlan* const selection = std::get_if<SelectionPlan>(&plan)) return selection->selection.name;
  return std::visit(
      []<class P>(const P& known) -> std::string {
        if constexpr (requires { known.method(); }) {
          return known.method();
        } else {
          return P::kMethod;
        }
      },
      plan);
}

template <class Model>
Attached<typename Model::Tensor, AnyPlan> attach_beside(typename Model::Context& ctx, Model& model, const AnyPlan& plan, std::uint64_t seed = 0,
                                                        const std::string& where = "plan") {
  using X = typename Model::Tensor;
  return {std::visit([&](const auto& known) -> Attachment<X> { return attach_beside(ctx, model, known, seed, where); }, plan), plan};
}

}  // namespace deltatune
