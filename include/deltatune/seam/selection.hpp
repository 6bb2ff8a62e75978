// The selection seam: a method that adds nothing and only chooses which of the model's own parameters train.
#pragma once

#include <string>
#include <vector>

#include "deltatune/param/visit.hpp"

namespace deltatune {

// Globs over parameter paths (core/path.hpp); what none of them matches is frozen.
struct Selection {
  std::string name;
  std::vector<std::string> trainable;
};

// Freezes the module but for the selection. Throws Error when a glob matches nothing.
template <class Module>
void apply(Module& module, const Selection& selection) {
  freeze(module, {"**"});
  unfreeze(module, selection.trainable);
}

}  // namespace deltatune
