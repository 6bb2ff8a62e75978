// Learning-rate schedules: a factor on the learning rate for each step, as Hugging Face Transformers defines them.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

// Warm-up from 0 over `warmup` steps, then constant, or down to 0 at `total` along a line or half a cosine.
struct Schedule {
  enum class Kind { constant, linear, cosine };

  Kind kind = Kind::constant;
  Index warmup = 0;
  Index total = 0;

  // step counts from 0: the number of updates already done. With a warm-up the first factor is 0.
  DELTATUNE_FUNCTION double factor(Index step) const {
    if (step < warmup) return static_cast<double>(step) / static_cast<double>(std::max<Index>(1, warmup));
    if (kind == Kind::constant) return 1.0;
    const double progress = static_cast<double>(step - warmup) / static_cast<double>(std::max<Index>(1, total - warmup));
    if (kind == Kind::linear) return std::max(0.0, 1.0 - progress);
    return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
  }
};

}  // namespace deltatune
