// One of the two layers of a bottleneck adapter: dense, or as a product of hypercomplex multiplication (delta/phm.hpp).
//
//   y = x·Wᵀ + b,   W (out, in);   backward:  dW += dyᵀ·x,  db += the sum of dy's rows,  dx += dy·W
//   y = x·H + b,    H (in, out);   backward:  dH = xᵀ·dy,   db the same,                 dx += dy·Hᵀ
#pragma once

#include <string>

#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/delta/phm.hpp"

namespace deltatune::detail {

template <class X>
class AdapterLinear {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  AdapterLinear() = default;
  // Dense; start(i): element i of W.
  template <class Start>
  AdapterLinear(context_of<X>& ctx, const std::string& path, Index in, Index out, const Start& start)
      : weight_(ctx, path + ".weight", {out, in}, start), bias_(ctx, path + ".bias", {out}) {}
  // A product, with what is shared.
  AdapterLinear(context_of<X>& ctx, const std::string& path, Index in, Index out, const PhmConfig& config, PhmParameters<X> parameters, RandomKey key) {
    if (!config.shared_rule) factors_.add_rule(ctx, path + ".phm_rule", config, derive(key, 0), parameters);
    if (!config.shared_weight) factors_.add_weight(ctx, path + ".W", in, out, config, derive(key, 1), parameters);
    if (config.bias) bias_ = {ctx, path + ".b", {out}};
    product_ = PhmProduct<X>(in, out, config, parameters);
  }

  template <class F>
  void visit(const F& f) {
    if (weight_) f(*weight_);
    factors_.visit(f);
    if (bias_) f(*bias_);
  }
  // Whether backward reads x.
  bool needs_input() const { return weight_ ? weight_->trains() : product_.trains(); }

  void forward(Pass<X>& pass, View<const T> x, View<T> y) const {
    const auto scope = pass.scope();
    B::gemm(pass.ctx, Gemm<T>{.a = x, .b = matrix(pass), .c = y, .transpose_b = static_cast<bool>(weight_)});
    if (bias_) ops::add_bias<B, T>(pass.ctx, bias_->value(), y);
  }
  void backward(Pass<X>& pass, View<const T> x, View<const T> dy, GradientSink<T> dx) {
    const auto scope = pass.scope();
    if (bias_ && bias_->trains()) ops::column_sum<B, T>(pass.ctx, dy, bias_->gradient());
    if (weight_) {
      if (weight_->trains()) B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = x, .c = weight_->gradient(), .transpose_a = true, .beta = T(1)});
    } else if (product_.trains()) {
      const View<T> dh = pass.take(product_.in(), product_.out());
      B::gemm(pass.ctx, Gemm<T>{.a = x, .b = dy, .c = dh, .transpose_a = true});
      product_.backward(pass, dh);
    }
    if (dx.wanted()) B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = matrix(pass), .c = dx.view(), .transpose_b = !weight_, .beta = dx.next_beta()});
  }

 private:
  // W, or H in scratch.
  View<const T> matrix(Pass<X>& pass) const {
    if (weight_) return weight_->value();
    const View<T> h = pass.take(product_.in(), product_.out());
    product_.forward(pass.ctx, h);
    return h;
  }

  OwnParameter<X> weight_, bias_;
  PhmOwner<X> factors_;
  PhmProduct<X> product_;
};

}  // namespace deltatune::detail
