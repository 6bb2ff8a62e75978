// Whether a model has the adapters that a batch names.
#pragma once

#include <string>

#include "deltatune/core/error.hpp"
#include "deltatune/tensor/routes.hpp"

namespace deltatune::detail {

// Throws Error for a name that no routed attachment has.
template <class Model>
void check_routes(Model& model, const Routes& routes) {
  for (const Route& route : routes) {
    bool found = false;
    model.visit_sites([&](const auto& site) { found = found || site.deltas.is_routed(route.adapter); });
    if (!found)
      throw Error("batch: adapters", "names an adapter that is not attached, or not routed",
                  {.got = "\"" + route.adapter + "\"", .remedy = "attach it under this name and call set_routed(true)"});
  }
}

}  // namespace deltatune::detail
