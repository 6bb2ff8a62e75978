// Rows sorted by what they looked up.
#pragma once

#include <cstdint>

#include "deltatune/core/shape.hpp"

namespace deltatune {

// Packed rows grouped by id, so that each row of the table's gradient has one writer: no races, one order of additions.
// Group g holds the rows order[starts[g] .. starts[g + 1]), all of which looked up ids[g].
struct RowGroups {
  const Index* starts = nullptr;      // (count + 1)
  const Index* order = nullptr;       // (N)
  const std::int32_t* ids = nullptr;  // (count)
  Index count = 0;
};

}  // namespace deltatune
