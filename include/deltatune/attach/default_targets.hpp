// Where a method's deltas go when nobody says: PEFT's table, by model family.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "deltatune/attach/targets.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune {

// A row of the table: method and family as PEFT calls them.
struct DefaultTargets {
  std::string_view method;
  std::string_view family;
  std::vector<std::string> names;
  std::vector<std::string> feed_forward = {};  // those of (IA)3 that are scaled at their input
};

DELTATUNE_FUNCTION const std::vector<DefaultTargets>& default_targets_table() {
  static const std::vector<DefaultTargets> table{
      {"LORA", "bert", {"query", "value"}},
      {"LORA", "gpt2", {"c_attn"}},
      {"ADALORA", "bert", {"query", "value"}},
      {"ADALORA", "gpt2", {"c_attn"}},
      {"VERA", "bert", {"query", "value"}},
      {"VERA", "gpt2", {"c_attn"}},
      {"IA3", "bert", {"key", "value", "output.dense"}, {"output.dense"}},
      {"IA3", "gpt2", {"c_attn", "mlp.c_proj"}, {"mlp.c_proj"}},
      {"LN_TUNING", "bert", {"LayerNorm"}},  // which PEFT wants to be told
      {"LN_TUNING", "gpt2", {"ln_1", "ln_2", "ln_f"}},
  };
  return table;
}

// Throws Error where there is no default.
DELTATUNE_FUNCTION const DefaultTargets& default_targets(std::string_view method, std::string_view family, const std::string& where) {
  for (const DefaultTargets& row : default_targets_table())
    if (row.method == method && row.family == family) return row;
  throw Error(where + ": target_modules", "must be given: there is no default for " + std::string(method) + " on " + std::string(family));
}

// The targets of a plan of PEFT type `method`, or those by default where it names none.
template <class Model>
Targets targets_or_default(const Targets& targets, std::string_view method, const std::string& where) {
  if (!targets.empty()) return targets;
  Targets chosen = targets;
  chosen.include.names = default_targets(method, Model::kFamily, where).names;
  return chosen;
}

}  // namespace deltatune
