// All methods by name, as plans with the settings they start from; a method is there by standing in AnyPlan.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/attach/any_plan.hpp"
#include "deltatune/attach/setting.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune {

struct Method {
  std::string name;
  std::string group;  // of its kind, for a list of settings
  AnyPlan plan;
};

DELTATUNE_FUNCTION std::vector<Method> all_methods() {
  std::vector<Method> all;
  const auto add = [&]<class P>(std::type_identity<P>) {
    for (auto& [name, plan] : P::methods()) all.push_back({name, P::kGroup, std::move(plan)});
  };
  [&]<class... P>(std::type_identity<std::variant<P...>>) { (add(std::type_identity<P>{}), ...); }(std::type_identity<AnyPlan>{});
  return all;
}

// "lora, dora, ..."
DELTATUNE_FUNCTION std::string method_names() {
  std::string names;
  for (const Method& method : all_methods()) names += (names.empty() ? "" : ", ") + method.name;
  return names;
}

// Throws Error for a name that is none; `where` names the place it comes from, `besides` what else may stand there.
DELTATUNE_FUNCTION Method method_named(const std::string& name, const std::string& where = "method", const std::string& besides = "") {
  for (const Method& method : all_methods())
    if (method.name == name) return method;
  throw Error(where, "is not known", {.expected = method_names() + besides, .got = "\"" + name + "\""});
}

// Where the values lie, in `plan`.
DELTATUNE_FUNCTION std::vector<Setting> settings_of(AnyPlan& plan) {
  return std::visit([](auto& known) { return known.settings(); }, plan);
}

// Rows of a prefix or prompt, which take positions of the model.
DELTATUNE_FUNCTION Index virtual_tokens_of(const AnyPlan& plan) {
  if (const PrefixPlan* const prefix = std::get_if<PrefixPlan>(&plan)) return prefix->prefix.shifts_positions ? prefix->prefix.rows : 0;
  if (const PromptPlan* const prompt = std::get_if<PromptPlan>(&plan)) return prompt->prompt.rows;
  if (const PTuningPlan* const p_tuning = std::get_if<PTuningPlan>(&plan)) return p_tuning->p_tuning.rows;
  return 0;
}

}  // namespace deltatune
