// How well numbers follow the true ones: the correlations of Pearson and of Spearman, as scipy.stats computes them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune {

// Of x and y, -1 to 1; 0 where one of the two does not vary (scipy: NaN), NaN where a number is not finite. Throws Error unless they are equally many.
DELTATUNE_FUNCTION double pearson_correlation(std::span<const double> x, std::span<const double> y) {
  if (x.size() != y.size())
    throw Error("correlation", "needs two numbers per example", {.expected = std::to_string(x.size()), .got = std::to_string(y.size())});
  const double n = static_cast<double>(x.size());
  const double mean_x = std::accumulate(x.begin(), x.end(), 0.0) / n, mean_y = std::accumulate(y.begin(), y.end(), 0.0) / n;
  double xx = 0, yy = 0, xy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
  }
  return xx == 0 || yy == 0 ? 0.0 : std::clamp(xy / xx * std::sqrt(xx / yy), -1.0, 1.0);
}

// The rank of each value, from 0; equal values share the mean of theirs. NaN has no rank: NaN.
DELTATUNE_FUNCTION std::vector<double> ranks(std::span<const double> values) {
  std::vector<double> result(values.size(), std::numeric_limits<double>::quiet_NaN());
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isnan(values[i])) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  for (std::size_t first = 0, last = 0; first < order.size(); first = last) {
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    for (std::size_t i = first; i < last; ++i) result[order[i]] = 0.5 * static_cast<double>(first + last - 1);
  }
  return result;
}

// Pearson's correlation of the ranks.
DELTATUNE_FUNCTION double spearman_correlation(std::span<const double> x, std::span<const double> y) { return pearson_correlation(ranks(x), ranks(y)); }

}  // namespace deltatune
