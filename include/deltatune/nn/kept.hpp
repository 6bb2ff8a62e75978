// A matrix that forward keeps for backward: as it is, or rounded to bfloat16 where the pass asks for it (Pass::rounds_kept).
#pragma once

#include "deltatune/core/half.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune {

template <class X>
class Kept {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  // Where forward writes the values; with a pass that rounds, scratch: finish() has to come before its scope ends.
  View<T> start(Pass<X>& pass, Index rows, Index cols) { return start(pass.rounds_kept ? pass.take(rows, cols) : pass.keep(rows, cols)); }
  View<T> start(View<T> values) {
    rounded_ = {};
    return values_ = values;
  }
  void finish(Pass<X>& pass) {
    if (!pass.rounds_kept || !values_) return;
    rounded_ = pass.saved.template take<Bfloat16>(values_.rows, values_.cols);
    ops::round_to_bfloat16<B, T>(pass.ctx, values_, rounded_);
    values_ = {};
  }

  explicit operator bool() const { return values_ || rounded_; }
  Index rows() const { return rounded_ ? rounded_.rows : values_.rows; }
  // The values again; rounded ones in scratch of the present scope.
  View<T> read(Pass<X>& pass) const {
    if (!rounded_) return values_;
    const View<T> values = pass.take(rounded_.rows, rounded_.cols);
    ops::widen_from_bfloat16<B, T>(pass.ctx, rounded_, values);
    return values;
  }

 private:
  View<T> values_;
  View<Bfloat16> rounded_;
};

}  // namespace deltatune
