// VeRA: low-rank adaptation with one random pair of factors for the whole model, of which only diagonals are learned. Kopiczko et al. 2023,
// arXiv 2310.11454.
//
//   y = x·Wᵀ + b_λ ∘ ((d_λ ∘ p)·Bᵀ),   p = (m∘x)·Aᵀ;   A and B frozen, of which every site takes the columns and rows that it needs
//   backward, with G = dyᵀ·p:   db_λ(j) += Σ_r B(j,r)·d_λ(r)·G(j,r),   dd_λ(r) += Σ_j b_λ(j)·B(j,r)·G(j,r),
//                               dx += m∘((d_λ ∘ ((b_λ ∘ dy)·B))·A)
//
// Shapes      A (R, largest in), B (largest out, R), shared; d_λ (R), b_λ (out)
// Start       A and B uniform in ±√(6/columns) (Kaiming), d_λ = 0.1, b_λ = 0: the delta is 0
// Parameters  R + out a site
// Seam        weight, with what is shared in the parameter seam; usually query and value
// Merge       exact: W + diag(b_λ)·B·diag(d_λ)·A
// Files       PEFT: <site>.vera_lambda_d, <site>.vera_lambda_b; once vera_A, vera_B
#pragma once

#include <cmath>
#include <string>

#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/delta/check_settings.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/scale.hpp"
#include "deltatune/seam/weight.hpp"

namespace deltatune {

struct VeraConfig {
  Index rank = 256;
  double dropout = 0;
  double d_initial = 0.1;  // d_λ at the start

  void validate(const std::string& where) const {
    detail::check_rank(where + ": rank", rank);
    detail::check_dropout(where + ": dropout", dropout);
    if (!std::isfinite(d_initial)) throw Error(where + ": d_initial", "is not a number", {.expected = "a finite number"});
  }
};

// A and B: a delta of the parameter seam. They are saved and never change.
template <class X>
class VeraProjection {
 public:
  using T = scalar_of<X>;

  VeraProjection(context_of<X>& ctx, Index rank, Index in, Index out, RandomKey key_a, RandomKey key_b)
      : a_(ctx, "vera_A", {rank, in}, detail::uniform_start(key_a, std::sqrt(6.0 / static_cast<double>(in)))),
        b_(ctx, "vera_B", {out, rank}, detail::uniform_start(key_b, std::sqrt(6.0 / static_cast<double>(rank)))) {
    a_->set_constant();
    b_->set_constant();
  }

  template <class F>
  void visit(const F& f) {
    f(*a_);
    f(*b_);
  }
  // What a site of this size takes.
  View<const T> a(Index in) const { return a_->value().column_range(0, in); }
  View<const T> b(Index out) const { return b_->value().row_range(0, out); }

 private:
  detail::OwnParameter<X> a_, b_;
};

namespace detail {

// b_λ(j)·B(j,r)·d_λ(r)
template <class T>
struct VeraUpRow {
  View<const T> b;
  const T* lambda_b;
  const T* lambda_d;
  View<T> up;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index j) const {
    team.each(b.cols, [from = b.row(j), to = up.row(j), scale = lambda_b[j], d = lambda_d](Index r) { to[r] = scale * from[r] * d[r]; });
  }
};

template <class T>
struct VeraBGradientRow {
  View<const T> b, g;
  const T* lambda_d;
  T* gradient_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index j) const {
    const T sum = team.sum(b.cols, [x = b.row(j), y = g.row(j), d = lambda_d](Index r) { return x[r] * y[r] * d[r]; });
    team.each(1, [&](Index) { gradient_io[j] = gradient_io[j] + sum; });
  }
};

template <class T>
struct VeraDGradient {
  View<const T> b, g;
  const T* lambda_b;
  DELTATUNE_INLINE T operator()(Index j, Index r) const { return lambda_b[j] * b(j, r) * g(j, r); }
};

}  // namespace detail

template <class X>
class Vera {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kIsSum = true;

  using Saved = detail::LowRankSaved<T>;

  // For a site with this path and an (out, in) weight. The projection stays where it is.
  Vera(Context& ctx, const std::string& site, Index in, Index out, VeraConfig config, const VeraProjection<X>& projection)
      : in_(in),
        out_(out),
        config_(config),
        projection_(&projection),
        lambda_d_(ctx, site + ".vera_lambda_d", {config.rank}, [&](Index) { return config.d_initial; }),
        lambda_b_(ctx, site + ".vera_lambda_b", {out}) {}

  template <class F>
  void visit(const F& f) {
    f(*lambda_b_);
    f(*lambda_d_);
  }

  bool needs_input() const { return false; }

  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    const View<T> p = pass.keep(x.rows, config_.rank);
    saved = {p, pass.dropout(config_.dropout)};
    const auto scope = pass.scope();
    B::gemm(pass.ctx, Gemm<T>{.a = detail::dropped(pass, saved.dropout, x), .b = a(), .c = p, .transpose_b = true});
    const View<T> up = pass.take(out_, config_.rank);
    scaled_up(pass.ctx, up);
    B::gemm(pass.ctx, Gemm<T>{.a = p, .b = up, .c = y_io, .transpose_b = true, .beta = T(1)});
  }

  void backward(Pass<X>& pass, const Saved& saved, View<const T> /*x*/, View<T> dy_io, GradientSink<T>& dx) {
    const auto scope = pass.scope();
    const View<T> of_b = lambda_b_->gradient(), of_d = lambda_d_->gradient();
    if (of_b || of_d) {
      const View<T> g = pass.take(out_, config_.rank);
      B::gemm(pass.ctx, Gemm<T>{.a = dy_io, .b = saved.u, .c = g, .transpose_a = true});
      if (of_b) B::for_each_row(pass.ctx, out_, config_.rank, detail::VeraBGradientRow<T>{b(), g, lambda_d_->value().data, of_b.data});
      if (of_d) B::sum_rows(pass.ctx, out_, config_.rank, detail::VeraDGradient<T>{b(), g, lambda_b_->value().data}, of_d.data);
    }
    if (!dx.wanted()) return;
    const View<T> up = pass.take(out_, config_.rank), dp = pass.take(dy_io.rows, config_.rank);
    scaled_up(pass.ctx, up);
    B::gemm(pass.ctx, Gemm<T>{.a = dy_io, .b = up, .c = dp});
    detail::dropped_backward(pass, saved.dropout, dp, a(), dx);
  }

  void merge(Context& ctx, View<T> w_io, View<T> /*b_io*/) const {
    X up(ctx, {out_, config_.rank});
    scaled_up(ctx, up.view());
    B::gemm(ctx, Gemm<T>{.a = up.view(), .b = a(), .c = w_io, .beta = T(1)});
  }

 private:
  View<const T> a() const { return projection_->a(in_); }
  View<const T> b() const { return projection_->b(out_); }
  void scaled_up(Context& ctx, View<T> up) const {
    B::for_each_row(ctx, out_, config_.rank, detail::VeraUpRow<T>{b(), lambda_b_->value().data, lambda_d_->value().data, up});
  }

  Index in_, out_;
  VeraConfig config_;
  const VeraProjection<X>* projection_;
  detail::OwnParameter<X> lambda_d_;
  detail::OwnParameter<X> lambda_b_;
};

}  // namespace deltatune
