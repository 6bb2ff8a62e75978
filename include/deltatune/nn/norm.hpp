// A norm of rows with its parameters: LayerNorm over a residual sum (formula: ops/layer_norm.hpp), or RMSNorm of each row, or of each of its heads
// (formula: ops/rms_norm.hpp).
#pragma once

#include <string>

#include "deltatune/nn/kept.hpp"
#include "deltatune/ops/layer_norm.hpp"
#include "deltatune/ops/rms_norm.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/seam/architecture.hpp"
#include "deltatune/seam/pass.hpp"
#include "deltatune/seam/sublayer.hpp"

namespace deltatune {

template <class X>
class Norm {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    Kept<X> normalized;   // (N, C)
    View<T> inverse;      // (N, 1), or (N, groups): 1 / √(variance + ε)
    DropoutMask dropout;  // of the branch
  };

  Norm() = default;
  // Of each row, or of `groups` parts of it, each of `width` columns; several for RMSNorm alone. A LayerNorm without a bias leaves β at 0, which is no
  // parameter then; RMSNorm has none.
  Norm(context_of<X>& ctx, const std::string& path, Index width, NormSpec spec, Index groups = 1)
      : gamma_value_(ctx, {width}), gamma_(path + ".weight", Role::norm_scale, {width}, gamma_value_.view()), spec_(spec), groups_(groups) {
    if (is_rms()) return;
    beta_value_ = X(ctx, {width});
    if (spec.bias) beta_ = Parameter<X>(path + ".bias", Role::norm_shift, {width}, beta_value_.view());
  }

  template <class F>
  void visit(const F& f) {
    f(gamma_);
    if (has_bias()) f(beta_);
  }

  // For deltas that use this norm themselves, a LayerNorm.
  ResidualNorm<X> residual_norm() const { return {gamma_.value(), beta(), spec_.epsilon, {}, {}}; }
  ResidualNorm<X> residual_norm_in_backward() { return {gamma_.value(), beta(), spec_.epsilon, gamma_.gradient(), beta_.gradient()}; }

  // y = norm(residual + dropout(branch)), all (N, C); branch may be empty, and is for RMSNorm.
  void forward(Pass<X>& pass, View<const T> residual, View<const T> branch, const DropoutMask& dropout, View<T> y, Saved& saved) const {
    const auto scope = pass.scope();
    const View<T> normalized = saved.normalized.start(pass, y.rows, y.cols);
    saved.inverse = pass.keep(y.rows, groups_);
    saved.dropout = dropout;
    compute(pass, residual, branch, y, normalized, saved);
    saved.normalized.finish(pass);
  }
  // y = norm(x), both (N, C), with what backward reads in scratch of the present scope.
  void forward_in_scratch(Pass<X>& pass, View<const T> x, View<T> y, Saved& saved) const {
    const View<T> normalized = saved.normalized.start(pass.take(y.rows, y.cols));
    saved.inverse = pass.take(y.rows, groups_);
    saved.dropout = {};
    compute(pass, x, {}, y, normalized, saved);
  }

  // dy_io (N, C): holds dy, becomes the gradient of the residual. d_branch (N, C): overwritten, or empty where nobody wants it.
  void backward(Pass<X>& pass, const Saved& saved, View<T> dy_io, View<T> d_branch) {
    const auto scope = pass.scope();
    const View<const T> normalized = saved.normalized.read(pass);
    parameter_backward(pass, normalized, dy_io);
    if (is_rms()) return ops::rms_norm_backward<B, T>(pass.ctx, dy_io, normalized, saved.inverse, weight(), dy_io);
    ops::layer_norm_backward<B, T>(pass.ctx, dy_io, normalized, saved.inverse, gamma_.value(), saved.dropout, dy_io, d_branch);
  }

  // dx_io (N, C) += the gradient of the input, where there is no branch. dy (N, C).
  void backward_adding(Pass<X>& pass, const Saved& saved, View<const T> dy, View<T> dx_io) {
    const auto scope = pass.scope();
    const View<const T> normalized = saved.normalized.read(pass);
    parameter_backward(pass, normalized, dy);
    if (is_rms()) return ops::rms_norm_backward<B, T>(pass.ctx, dy, normalized, saved.inverse, weight(), dx_io, true);
    ops::layer_norm_backward<B, T>(pass.ctx, dy, normalized, saved.inverse, gamma_.value(), saved.dropout, dx_io, {}, true);
  }

  // The gradients of γ and β alone, where nothing below trains.
  void parameter_backward(Pass<X>& pass, const Saved& saved, View<const T> dy) {
    const auto scope = pass.scope();
    if (gamma_.trains() || beta_.trains()) parameter_backward(pass, saved.normalized.read(pass), dy);
  }

  // y again, from what was kept: dropout_after ∘ (γ x̂ + β); there is none after RMSNorm.
  void rebuild(Pass<X>& pass, const Saved& saved, const DropoutMask& dropout_after, View<T> y) const {
    const auto scope = pass.scope();
    const View<const T> normalized = saved.normalized.read(pass);
    if (is_rms()) return ops::rms_scale<B, T>(pass.ctx, normalized, weight(), y);
    ops::scale_shift<B, T>(pass.ctx, normalized, gamma_.value(), beta(), dropout_after, y);
  }

 private:
  void compute(Pass<X>& pass, View<const T> residual, View<const T> branch, View<T> y, View<T> normalized, const Saved& saved) const {
    if (is_rms()) return ops::rms_norm_forward<B, T>(pass.ctx, residual, weight(), spec_.epsilon, y, normalized, saved.inverse);
    ops::layer_norm_forward<B, T>(pass.ctx, residual, branch, saved.dropout, gamma_.value(), beta(), spec_.epsilon, y, normalized, saved.inverse);
  }
  bool is_rms() const { return spec_.kind == NormSpec::Kind::rms_norm; }
  bool has_bias() const { return spec_.bias && !is_rms(); }
  ops::RmsWeight<T> weight() const { return {gamma_.value(), spec_.weight_offset, groups_}; }
  View<const T> beta() const { return has_bias() ? View<const T>(beta_.value()) : View<const T>(beta_value_.view()); }
  void parameter_backward(Pass<X>& pass, View<const T> normalized, View<const T> dy) {
    if (is_rms()) {
      if (gamma_.trains()) ops::rms_norm_parameter_backward<B, T>(pass.ctx, dy, normalized, groups_, gamma_.gradient());
    } else if (gamma_.trains() || beta_.trains()) {
      ops::layer_norm_parameter_backward<B, T>(pass.ctx, dy, normalized, gamma_.gradient(), beta_.gradient());
    }
  }

  X gamma_value_;  // (C)
  X beta_value_;   // (C), or empty
  Parameter<X> gamma_;
  Parameter<X> beta_;
  NormSpec spec_;
  Index groups_ = 1;
};

}  // namespace deltatune
