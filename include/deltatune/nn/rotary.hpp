// The tables of a rotary position embedding (formula: ops/rotary.hpp), which the layers of a stack share.
#pragma once

#include <span>
#include <vector>

#include "deltatune/ops/rotary.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune {

template <class X>
class Rotary {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  // For the positions below `positions`. frequencies (R/2): rotary_frequencies().
  Rotary(context_of<X>& ctx, std::span<const float> frequencies, double magnitude, Index positions)
      : cos_(ctx, {positions, static_cast<Index>(frequencies.size())}), sin_(ctx, cos_.shape()) {
    const Index half = static_cast<Index>(frequencies.size());
    std::vector<T> cos(static_cast<std::size_t>(positions * half)), sin(cos.size());
    fill_rotary_tables<T>(frequencies, static_cast<float>(magnitude), View<T>(cos.data(), positions, half), View<T>(sin.data(), positions, half));
    B::copy_in(ctx, cos.data(), cos_.view().data, cos_.bytes());
    B::copy_in(ctx, sin.data(), sin_.view().data, sin_.bytes());
  }

  // x_io (N, heads·D), the rows that pass.positions is of; inverse: the pull-back of a gradient.
  void rotate(Pass<X>& pass, Index heads, View<T> x_io, bool inverse = false) const {
    ops::rotate<B, T>(pass.ctx, {cos_.view(), sin_.view(), pass.positions}, heads, x_io, inverse);
  }

 private:
  X cos_, sin_;  // (P, R/2)
};

}  // namespace deltatune
