// Where a method's deltas go when nobody says: the family's table (seam/architecture.hpp).
#pragma once

#include <string>

#include "deltatune/attach/targets.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune {

// Throws Error where there is no default. method: PEFT's name.
DELTATUNE_FUNCTION const DefaultTargets& default_targets(const std::string& method, const Architecture& architecture, const std::string& where) {
  if (const DefaultTargets* const found = architecture.targets_of(method)) return *found;
  throw Error(where + ": target_modules", "must be given: there is no default for " + method + " on " + architecture.title);
}

// The targets of a plan of PEFT type `method`, or those by default where it names none.
DELTATUNE_FUNCTION Targets targets_or_default(const Targets& targets, const std::string& method, const Architecture& architecture, const std::string& where) {
  if (!targets.empty()) return targets;
  Targets chosen = targets;
  chosen.include.names = default_targets(method, architecture, where).names;
  return chosen;
}

}  // namespace deltatune
