// What deltas are built of: a parameter with its values, and a linear layer.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune::detail {

// Start values: element i of a parameter.
inline auto uniform_start(RandomKey key, double bound) {
  return [=](Index i) { return bound * (2.0 * static_cast<double>(uniform(key, static_cast<std::uint64_t>(i))) - 1.0); };
}
inline auto normal_start(RandomKey key, double deviation) {
  return [=](Index i) { return deviation * normal(key, static_cast<std::uint64_t>(i)); };
}
// Drawn again until it lies within two deviations.
inline auto cut_normal_start(RandomKey key, double deviation) {
  return [=](Index i) {
    for (std::uint64_t attempt = 0;; ++attempt) {
      const double draw = normal(derive(key, attempt), static_cast<std::uint64_t>(i));
      if (std::fabs(draw) <= 2) return deviation * draw;
    }
  };
}

// What a delta of few columns keeps for backward.
template <class T>
struct LowRankSaved {
  View<const T> u;  // (N, R)
  DropoutMask dropout;
};

// m∘x in scratch, or x itself without dropout.
template <class X>
View<const scalar_of<X>> dropped(Pass<X>& pass, const DropoutMask& mask, View<const scalar_of<X>> x) {
  if (!mask.active()) return x;
  const View<scalar_of<X>> result = pass.take(x.rows, x.cols);
  ops::dropout<backend_of<X>, scalar_of<X>>(pass.ctx, mask, x, result);
  return result;
}
// And back from u = (m∘x)·Aᵀ: dx += m∘(du·A), where it is wanted.
template <class X>
void dropped_backward(Pass<X>& pass, const DropoutMask& mask, View<const scalar_of<X>> du, View<const scalar_of<X>> a, GradientSink<scalar_of<X>>& dx) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  if (!dx.wanted()) return;
  if (!mask.active()) return B::gemm(pass.ctx, Gemm<T>{.a = du, .b = a, .c = dx.view(), .beta = dx.next_beta()});
  const auto scope = pass.scope();
  const View<T> d_dropped = pass.take(du.rows, a.cols);
  B::gemm(pass.ctx, Gemm<T>{.a = du, .b = a, .c = d_dropped});
  ops::dropout<B, T>(pass.ctx, mask, d_dropped, dx.view(), dx.next_beta() == T(1));
}

// A parameter of a delta; it trains.
template <class X>
class OwnParameter {
 public:
  using T = scalar_of<X>;

  OwnParameter() = default;
  // All values 0.
  OwnParameter(context_of<X>& ctx, std::string path, const Shape& shape)
      : storage_(ctx, shape), parameter_(std::move(path), Role::delta, shape, storage_.view()) {
    parameter_.set_mask(FreezeMask::trainable());
  }
  // start(i): the value of element i.
  template <class Start>
  OwnParameter(context_of<X>& ctx, std::string path, const Shape& shape, const Start& start) : OwnParameter(ctx, std::move(path), shape) {
    std::vector<T> host;
    for (Index i = 0; i < parameter_.size(); ++i) host.push_back(T(start(i)));
    backend_of<X>::copy_in(ctx, host.data(), storage_.view().data, storage_.bytes());
  }

  // The values live there from now on: in storage of a layer, which outlives the delta.
  void move(context_of<X>& ctx, View<T> to) {
    ops::copy<backend_of<X>, T>(ctx, parameter_.value(), to);
    parameter_.set_value(to);
    storage_ = X();
  }

  explicit operator bool() const { return !parameter_.path().empty(); }
  Parameter<X>& operator*() { return parameter_; }
  const Parameter<X>& operator*() const { return parameter_; }
  Parameter<X>* operator->() { return &parameter_; }
  const Parameter<X>* operator->() const { return &parameter_; }

 private:
  X storage_;
  Parameter<X> parameter_;
};

// y = x·Wᵀ + b;  dW += dyᵀ·x,  db += the sum of dy's rows,  dx += dy·W. W (out, in) and b start uniform in ±1/√in, as PyTorch's Linear.
template <class X>
class OwnLinear {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  OwnLinear() = default;
  OwnLinear(Context& ctx, const std::string& path, Index in, Index out, RandomKey weight_key, RandomKey bias_key)
      : weight_(ctx, path + ".weight", {out, in}, uniform_start(weight_key, 1.0 / std::sqrt(static_cast<double>(in)))),
        bias_(ctx, path + ".bias", {out}, uniform_start(bias_key, 1.0 / std::sqrt(static_cast<double>(in)))) {}

  template <class F>
  void visit(const F& f) {
    f(*weight_);
    f(*bias_);
  }
  Index in() const { return weight_->shape().at(1); }
  Index out() const { return weight_->shape().at(0); }
  bool needs_input() const { return weight_->trains(); }

  void forward(Context& ctx, View<const T> x, View<T> y) const {
    B::gemm(ctx, Gemm<T>{.a = x, .b = weight_->value(), .c = y, .transpose_b = true});
    ops::add_bias<B, T>(ctx, bias_->value(), y);
  }
  // x is read where needs_input().
  void backward(Context& ctx, View<const T> x, View<const T> dy, GradientSink<T> dx) {
    if (const View<T> d_weight = weight_->gradient()) B::gemm(ctx, Gemm<T>{.a = dy, .b = x, .c = d_weight, .transpose_a = true, .beta = T(1)});
    if (const View<T> d_bias = bias_->gradient()) ops::column_sum<B, T>(ctx, dy, d_bias);
    if (dx.wanted()) B::gemm(ctx, Gemm<T>{.a = dy, .b = weight_->value(), .c = dx.view(), .beta = dx.next_beta()});
  }

 private:
  OwnParameter<X> weight_, bias_;
};

}  // namespace deltatune::detail
