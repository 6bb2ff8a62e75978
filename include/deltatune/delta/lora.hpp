// LoRA: low-rank adaptation of a frozen weight. Hu et al. 2021, arXiv 2106.09685; rank-stabilised scaling: Kalajdzievski 2023, arXiv 2312.03732.
//
//   y = x·Wᵀ + s·((m∘x)·Aᵀ·Bᵀ + c),   s = α/R, or α/√R when rank-stabilised;   m: dropout on the delta's input only;   c: a bias, seldom wanted
//   backward, with x' = m∘x, u = x'·Aᵀ, du = s·dy·B:
//     dB += s·dyᵀ·u,   dc += s·Σ_rows dy,   dA += duᵀ·x',   dx += m∘(du·A)
//
// Shapes      A (R, in), B (out, R), c (out)
// Start       A uniform in ±1/√in (Kaiming with a = √5), B = 0, c = 0: the delta is 0. Others: delta/lora_start.hpp
// Parameters  R·(in + out) a site, with c and out
// Seam        weight; usually query and value
// Merge       exact: W + s·B·A, b + s·c
// Files       PEFT: <site>.lora_A.weight, <site>.lora_B.weight, <site>.lora_B.bias
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/delta/check_settings.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/seam/weight.hpp"

namespace deltatune {

struct LoraConfig {
  Index rank = 8;
  double alpha = 8;
  double dropout = 0;
  bool rank_stabilized = false;
  bool bias = false;  // c

  double scale() const {
    const double r = static_cast<double>(rank);
    return rank_stabilized ? alpha / std::sqrt(r) : alpha / r;
  }

  // Throws Error; `where` names the place the numbers come from.
  void validate(const std::string& where) const {
    detail::check_rank(where + ": rank", rank);
    if (!std::isfinite(alpha)) throw Error(where + ": alpha", "is not a number", {.expected = "a finite number"});
    detail::check_dropout(where + ": dropout", dropout);
  }
};

namespace detail {
template <class T>
struct ScaledElement {
  View<const T> x;
  T scale;
  DELTATUNE_INLINE T operator()(Index i, Index j) const { return scale * x(i, j); }
};
}  // namespace detail

template <class X>
class Lora {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kIsSum = true;

  using Saved = detail::LowRankSaved<T>;

  // For a site with this path and an (out, in) weight. A and B start as above, drawn from `key`.
  Lora(Context& ctx, const std::string& site, Index in, Index out, LoraConfig config, RandomKey key)
      : config_(config),
        a_(ctx, site + ".lora_A.weight", {config.rank, in}, detail::uniform_start(key, 1.0 / std::sqrt(static_cast<double>(in)))),
        b_(ctx, site + ".lora_B.weight", {out, config.rank}) {
    if (config_.bias) c_ = detail::OwnParameter<X>(ctx, site + ".lora_B.bias", {out});
  }

  const LoraConfig& config() const { return config_; }
  Parameter<X>& a() { return *a_; }
  Parameter<X>& b() { return *b_; }
  const Parameter<X>& a() const { return *a_; }
  const Parameter<X>& b() const { return *b_; }

  template <class F>
  void visit(const F& f) {
    f(*a_);
    f(*b_);
    if (c_) f(*c_);
  }

  bool needs_input() const { return a_->trains(); }

  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    const View<T> u = pass.keep(x.rows, config_.rank);
    saved = {u, pass.dropout(config_.dropout)};
    const auto scope = pass.scope();
    B::gemm(pass.ctx, Gemm<T>{.a = detail::dropped(pass, saved.dropout, x), .b = a_->value(), .c = u, .transpose_b = true});
    add_up_projection(pass, u, y_io);
  }

  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) {
    b_backward(pass, saved, dy_io);
    if (!a_->trains() && !dx.wanted()) return;
    const auto scope = pass.scope();
    const View<T> du = pass.take(dy_io.rows, config_.rank);
    u_backward(pass, dy_io, du);
    if (a_->trains()) a_backward(pass, du, detail::dropped(pass, saved.dropout, x));
    detail::dropped_backward(pass, saved.dropout, du, a_->value(), dx);
  }

  // The layer may multiply with A where no dropout stands before it.
  Index low_rank() const { return config_.dropout == 0 ? config_.rank : 0; }
  void place(Context& ctx, View<T> rows) { a_.move(ctx, rows); }
  void forward(Pass<X>& pass, View<const T> /*x*/, View<const T> u, View<T> y_io, Saved& saved) const {
    saved = {u, pass.dropout(config_.dropout)};  // none, but its stream is counted: masks elsewhere are the same on both paths
    add_up_projection(pass, u, y_io);
  }
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, View<T> du) {
    b_backward(pass, saved, dy_io);
    u_backward(pass, dy_io, du);
    if (a_->trains()) a_backward(pass, du, x);
  }

  // w_io (out, in) += s·B·A, b_io (out) += s·c.
  void merge(Context& ctx, View<T> w_io, View<T> b_io) const {
    B::gemm(ctx, Gemm<T>{.a = b_->value(), .b = a_->value(), .c = w_io, .alpha = scale(), .beta = T(1)});
    if (!c_) return;
    if (!b_io) throw Error(c_->path(), "cannot be merged: the layer has no bias");
    ops::axpy<B, T>(ctx, scale(), c_->value(), b_io);
  }

 private:
  T scale() const { return T(config_.scale()); }

  void add_up_projection(Pass<X>& pass, View<const T> u, View<T> y_io) const {
    B::gemm(pass.ctx, Gemm<T>{.a = u, .b = b_->value(), .c = y_io, .transpose_b = true, .alpha = scale(), .beta = T(1)});
    if (c_) ops::axpy<B, T>(pass.ctx, scale(), View<const T>(c_->value().data, y_io.rows, y_io.cols, 0), y_io);  // the same row for all
  }
  void b_backward(Pass<X>& pass, const Saved& saved, View<const T> dy) {
    if (c_ && c_->trains()) B::sum_rows(pass.ctx, dy.rows, dy.cols, detail::ScaledElement<T>{dy, scale()}, c_->gradient().data);
    if (b_->trains()) B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = saved.u, .c = b_->gradient(), .transpose_a = true, .alpha = scale(), .beta = T(1)});
  }
  void u_backward(Pass<X>& pass, View<const T> dy, View<T> du) const { B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = b_->value(), .c = du, .alpha = scale()}); }
  void a_backward(Pass<X>& pass, View<const T> du, View<const T> x) {
    B::gemm(pass.ctx, Gemm<T>{.a = du, .b = x, .c = a_->gradient(), .transpose_a = true, .beta = T(1)});
  }

  LoraConfig config_;
  detail::OwnParameter<X> a_, b_, c_;  // (R, in), until A is placed in a layer; (out, R); (out) or none
};

}  // namespace deltatune
