// The tables of a rotary position embedding (formula: ops/rotary.hpp), which the layers of a stack share.
#pragma once

#include <algorithm>
#include <vector>

#include "deltatune/ops/rotary.hpp"
#include "deltatune/seam/architecture.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune {

template <class X>
class Rotary {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  // For heads of so many columns and positions below `positions`, of which the first few thousand have their tables at once, the others when reserve()
  // asks for them: decoders know of 131,072 positions and more.
  Rotary(context_of<X>& ctx, const RotarySpec& spec, Index head_width, Index positions) : spec_(spec), limit_(positions) {
    if (spec_.width == 0) spec_.width = head_width;
    fill(ctx, std::min(positions, kFirstPositions));
  }

  // Room for so many positions, or for all that there are.
  void reserve(context_of<X>& ctx, Index positions) {
    const Index known = near_.cos.shape().at(0);
    if (positions > known && known < limit_) fill(ctx, std::min(limit_, std::max(positions, 2 * known)));
  }

  // x_io (N, heads·D), the rows that pass.positions is of; inverse: the pull-back of a gradient.
  void rotate(Pass<X>& pass, Index heads, View<T> x_io, bool inverse = false) const {
    const Tables& tables = far_.cos && pass.last_position >= spec_.long_from ? far_ : near_;
    ops::rotate<B, T>(pass.ctx, {tables.cos.view(), tables.sin.view(), pass.positions}, heads, x_io, inverse);
  }

 private:
  static constexpr Index kFirstPositions = 4096;
  struct Tables {
    X cos, sin;  // (P, R/2)
  };

  void fill(context_of<X>& ctx, Index positions) {
    near_ = tables(ctx, spec_.frequency_scale, positions);
    if (!spec_.long_frequency_scale.empty()) far_ = tables(ctx, spec_.long_frequency_scale, positions);
  }
  Tables tables(context_of<X>& ctx, const std::vector<double>& frequency_scale, Index positions) const {
    const std::vector<float> scale(frequency_scale.begin(), frequency_scale.end());
    const std::vector<float> frequencies = rotary_frequencies(spec_.theta, spec_.width, scale);
    const Index half = static_cast<Index>(frequencies.size());
    std::vector<T> cos(static_cast<std::size_t>(positions * half)), sin(cos.size());
    fill_rotary_tables<T>(frequencies, static_cast<float>(spec_.magnitude), View<T>(cos.data(), positions, half), View<T>(sin.data(), positions, half));
    Tables tables{X(ctx, {positions, half}), X(ctx, {positions, half})};
    B::copy_in(ctx, cos.data(), tables.cos.view().data, tables.cos.bytes());
    B::copy_in(ctx, sin.data(), tables.sin.view().data, tables.sin.bytes());
    return tables;
  }

  RotarySpec spec_;
  Index limit_ = 0;
  Tables near_, far_;  // far_: of LongRoPE, else empty
};

}  // namespace deltatune
