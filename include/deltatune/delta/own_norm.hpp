// A LayerNorm that belongs to a delta.
#pragma once

#include <string>

#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/layer_norm.hpp"

namespace deltatune::detail {

// y = γ·(x − mean)/√(variance + 1e-5) + β;  γ starts at 1, β at 0. Backward: ops/layer_norm.hpp, and dγ, dβ accumulate.
template <class X>
class OwnNorm {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    View<const T> normalized, inverse_std;
  };

  OwnNorm() = default;
  OwnNorm(context_of<X>& ctx, const std::string& path, Index width)
      : scale_(ctx, path + ".weight", {width}, [](Index) { return 1.0; }), shift_(ctx, path + ".bias", {width}) {}
  explicit operator bool() const { return static_cast<bool>(scale_); }
  template <class F>
  void visit(const F& f) {
    if (!scale_) return;
    f(*scale_);
    f(*shift_);
  }
  void forward(Pass<X>& pass, View<const T> x, View<T> y, Saved& saved) const {
    const View<T> normalized = pass.keep(x.rows, x.cols), inverse_std = pass.keep(x.rows, 1);
    ops::layer_norm_forward<B, T>(pass.ctx, x, {}, {}, scale_->value(), shift_->value(), 1e-5, y, normalized, inverse_std);
    saved = {normalized, inverse_std};
  }
  // y again.
  void rebuild(Pass<X>& pass, const Saved& saved, View<T> y) const {
    ops::scale_shift<B, T>(pass.ctx, saved.normalized, scale_->value(), shift_->value(), {}, y);
  }
  void backward(Pass<X>& pass, const Saved& saved, View<T> dy_io) {
    ops::layer_norm_parameter_backward<B, T>(pass.ctx, dy_io, saved.normalized, scale_->gradient(), shift_->gradient());
    ops::layer_norm_backward<B, T>(pass.ctx, dy_io, saved.normalized, saved.inverse_std, scale_->value(), {}, dy_io, {});
  }

 private:
  OwnParameter<X> scale_, shift_;
};

}  // namespace deltatune::detail
