// Index type and shapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"

namespace deltatune {

using Index = std::int64_t;  // signed, so that differences and downward loops are safe

// Extents of a tensor, outermost first: {out, in} for a weight, {C} for a bias.
using Shape = std::vector<Index>;

// Number of elements. The empty shape is a scalar: 1.
DELTATUNE_FUNCTION Index element_count(const Shape& shape) {
  Index count = 1;
  for (const Index extent : shape) count *= extent;
  return count;
}

// "[384, 1536]"
DELTATUNE_FUNCTION std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace deltatune
