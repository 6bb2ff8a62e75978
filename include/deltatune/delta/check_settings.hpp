// Checks of settings that several methods have. Each throws Error unless the value makes sense; `where` names it: "plan: dropout".
#pragma once

#include <string>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune::detail {

DELTATUNE_FUNCTION void check_rank(const std::string& where, Index rank) {
  if (rank < 1) throw Error(where, "is not a rank", {.expected = "at least 1", .got = std::to_string(rank)});
}
DELTATUNE_FUNCTION void check_dropout(const std::string& where, double probability) {
  if (!(probability >= 0.0 && probability < 1.0)) throw Error(where, "is not a probability", {.expected = "0 <= p < 1", .got = std::to_string(probability)});
}

}  // namespace deltatune::detail
