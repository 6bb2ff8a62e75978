// Learning-rate schedules: a factor on the learning rate for each update.
//
//   update s (from 0), warm-up w, n in all      here             transformers (get_linear_schedule_with_warmup, get_cosine_...): `from_zero`
//   s < w                                       (s + 1)/(w + 1)  s/w: the first update changes nothing
//   s >= w, p = (s - w)/(n - w)                 1 - p, or (1 + cos(pi p))/2, or 1; the same in both. Never 0 before s = n.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

// Warm-up over `warmup` steps, then constant, or down to 0 at `total` along a line or half a cosine.
struct Schedule {
  enum class Kind { constant, linear, cosine };

  Kind kind = Kind::constant;
  Index warmup = 0;
  Index total = 0;
  bool from_zero = false;  // the warm-up begins with the factor 0, as that of transformers

  // step counts from 0: the number of updates already done.
  DELTATUNE_FUNCTION double factor(Index step) const {
    const Index below = from_zero ? 0 : 1;
    if (step < warmup) return static_cast<double>(step + below) / static_cast<double>(warmup + below);
    if (kind == Kind::constant) return 1.0;
    const double progress = static_cast<double>(step - warmup) / static_cast<double>(std::max<Index>(1, total - warmup));
    if (kind == Kind::linear) return std::max(0.0, 1.0 - progress);
    return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
  }
};

}  // namespace deltatune
