// Which rows of a batch go through which of several adapters. On the host: layers choose rows by it, kernels never read it.
#pragma once

#include <string>
#include <vector>

#include "deltatune/core/shape.hpp"

namespace deltatune {

// Adjacent rows with the same adapter.
struct Route {
  std::string adapter;
  Index first = 0;
  Index rows = 0;
};
using Routes = std::vector<Route>;

// Routes of B sequences over their rows: offsets (B + 1). adapters (B) or empty; "" goes through none.
inline Routes routes_of(const std::vector<std::string>& adapters, const std::vector<Index>& offsets) {
  Routes routes;
  for (std::size_t b = 0; b < adapters.size(); ++b) {
    if (adapters[b].empty()) continue;
    if (routes.empty() || routes.back().adapter != adapters[b] || routes.back().first + routes.back().rows != offsets[b])
      routes.push_back({adapters[b], offsets[b], 0});
    routes.back().rows = offsets[b + 1] - routes.back().first;
  }
  return routes;
}

}  // namespace deltatune
