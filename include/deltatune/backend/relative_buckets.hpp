// Relative positions in buckets: near keys have one each, far ones share them, ever more to a bucket (T5; Raffel et al. 2019, arXiv 1910.10683).
//
// With n the distance and h the buckets of a direction (half of them when both directions have their own), half of h are exact:
//   n < h/2   n
//   else      min(h - 1, h/2 + ⌊ln(n / (h/2)) / ln(max_distance / (h/2)) · (h - h/2)⌋)
// The quotient is computed in float, each step rounded once, so that the edges lie where those of models trained in PyTorch lie.
#pragma once

#include <cmath>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

// Indices begin, begin + 1, ..., end - 1.
struct IndexRange {
  Index begin = 0;
  Index end = 0;
};

// Distances are the key's place minus the query's. Half of the buckets of a direction must be at least 1 and below max_distance.
struct RelativeBuckets {
  Index buckets = 0;          // 0: no bias
  Index max_distance = 128;   // the last bucket of a direction has all that is as far or farther
  bool bidirectional = true;  // keys after the query (distance > 0) have the second half of the buckets; else they share bucket 0

  DELTATUNE_HD Index bucket(Index distance) const {
    if (!bidirectional) return steps(distance < 0 ? -distance : 0);
    return distance > 0 ? per_direction() + steps(distance) : steps(-distance);
  }

  // The distances that are in a bucket; none at all in some.
  DELTATUNE_HD IndexRange distances(Index bucket) const {
    constexpr Index kFar = Index{1} << 60;
    const Index directed = per_direction();
    const bool after = bucket >= directed;
    const Index step = after ? bucket - directed : bucket;
    const Index nearest = first_of(step);
    const Index beyond = step + 1 < directed ? first_of(step + 1) : kFar;
    if (after) return {nearest < 1 ? 1 : nearest, beyond};
    return {1 - beyond, !bidirectional && step == 0 ? kFar : 1 - nearest};
  }

 private:
  DELTATUNE_HD Index per_direction() const { return bidirectional ? buckets / 2 : buckets; }

  // The bucket of its direction that a distance n >= 0 is in.
  DELTATUNE_HD Index steps(Index n) const {
    const Index all = per_direction();
    const Index exact = all / 2;
    if (n < exact) return n;
    if (n >= max_distance) return all - 1;
    const float ratio = static_cast<float>(n) / static_cast<float>(exact);
    const float whole = static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact)));
    const float part = static_cast<float>(std::log(static_cast<double>(ratio))) / whole;
    const Index step = exact + static_cast<Index>(part * static_cast<float>(all - exact));
    return step < all - 1 ? step : all - 1;
  }

  // The smallest distance whose bucket is step or a later one.
  DELTATUNE_HD Index first_of(Index step) const {
    Index low = 0;
    Index high = max_distance;
    while (low < high) {
      const Index middle = low + (high - low) / 2;
      if (steps(middle) < step)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
};

}  // namespace deltatune
