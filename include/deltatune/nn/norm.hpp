// LayerNorm over a residual sum, with its parameters (formula: ops/layer_norm.hpp).
#pragma once

#include <string>

#include "deltatune/nn/kept.hpp"
#include "deltatune/ops/layer_norm.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/seam/pass.hpp"
#include "deltatune/seam/sublayer.hpp"

namespace deltatune {

template <class X>
class LayerNorm {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    Kept<X> normalized;   // (N, C)
    View<T> inverse_std;  // (N, 1)
    DropoutMask dropout;  // of the branch
  };

  LayerNorm() = default;
  // bias: false leaves β at 0, which is no parameter then.
  LayerNorm(context_of<X>& ctx, const std::string& path, Index width, double epsilon, bool bias = true)
      : gamma_value_(ctx, {width}),
        beta_value_(ctx, {width}),
        gamma_(path + ".weight", Role::norm_scale, {width}, gamma_value_.view()),
        epsilon_(epsilon),
        has_bias_(bias) {
    if (bias) beta_ = Parameter<X>(path + ".bias", Role::norm_shift, {width}, beta_value_.view());
  }

  template <class F>
  void visit(const F& f) {
    f(gamma_);
    if (has_bias_) f(beta_);
  }

  // For deltas that use this norm themselves.
  ResidualNorm<X> residual_norm() const { return {gamma_.value(), beta(), epsilon_, {}, {}}; }
  ResidualNorm<X> residual_norm_in_backward() { return {gamma_.value(), beta(), epsilon_, gamma_.gradient(), beta_.gradient()}; }

  // y = LN(residual + dropout(branch)), all (N, C); branch may be empty.
  void forward(Pass<X>& pass, View<const T> residual, View<const T> branch, const DropoutMask& dropout, View<T> y, Saved& saved) const {
    const auto scope = pass.scope();
    const View<T> normalized = saved.normalized.start(pass, y.rows, y.cols);
    saved.inverse_std = pass.keep(y.rows, 1);
    saved.dropout = dropout;
    ops::layer_norm_forward<B, T>(pass.ctx, residual, branch, dropout, gamma_.value(), beta(), epsilon_, y, normalized, saved.inverse_std);
    saved.normalized.finish(pass);
  }

  // dy_io (N, C): holds dy, becomes the gradient of the residual. d_branch (N, C): overwritten, or empty where nobody wants it.
  void backward(Pass<X>& pass, const Saved& saved, View<T> dy_io, View<T> d_branch) {
    const auto scope = pass.scope();
    const View<const T> normalized = saved.normalized.read(pass);
    parameter_backward(pass, normalized, dy_io);
    ops::layer_norm_backward<B, T>(pass.ctx, dy_io, normalized, saved.inverse_std, gamma_.value(), saved.dropout, dy_io, d_branch);
  }

  // dx_io (N, C) += the gradient of the input, where there is no branch. dy (N, C).
  void backward_adding(Pass<X>& pass, const Saved& saved, View<const T> dy, View<T> dx_io) {
    const auto scope = pass.scope();
    const View<const T> normalized = saved.normalized.read(pass);
    parameter_backward(pass, normalized, dy);
    ops::layer_norm_backward<B, T>(pass.ctx, dy, normalized, saved.inverse_std, gamma_.value(), saved.dropout, dx_io, {}, true);
  }

  // The gradients of γ and β alone, where nothing below trains.
  void parameter_backward(Pass<X>& pass, const Saved& saved, View<const T> dy) {
    const auto scope = pass.scope();
    if (gamma_.trains() || beta_.trains()) parameter_backward(pass, saved.normalized.read(pass), dy);
  }

  // y again, from what was kept: dropout_after ∘ (γ x̂ + β).
  void rebuild(Pass<X>& pass, const Saved& saved, const DropoutMask& dropout_after, View<T> y) const {
    const auto scope = pass.scope();
    ops::scale_shift<B, T>(pass.ctx, saved.normalized.read(pass), gamma_.value(), beta(), dropout_after, y);
  }

 private:
  View<const T> beta() const { return has_bias_ ? View<const T>(beta_.value()) : View<const T>(beta_value_.view()); }
  void parameter_backward(Pass<X>& pass, View<const T> normalized, View<const T> dy) {
    if (gamma_.trains() || beta_.trains()) ops::layer_norm_parameter_backward<B, T>(pass.ctx, dy, normalized, gamma_.gradient(), beta_.gradient());
  }

  X gamma_value_;  // (C)
  X beta_value_;   // (C)
  Parameter<X> gamma_;
  Parameter<X> beta_;
  double epsilon_ = 0;
  bool has_bias_ = true;
};

}  // namespace deltatune
