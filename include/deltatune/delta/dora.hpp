// DoRA: the direction of a weight adapted by LoRA, the length of its rows learned apart. Liu et al. 2024, arXiv 2402.09353.
//
//   V = W + s·B·A,   n_j = ‖V_j‖ (row j; no gradient through it),   g = m / n
//   y = g ∘ z,   z = x·Wᵀ + s·x·Aᵀ·Bᵀ        with dropout active, x' = m∘x:   y = x·Wᵀ − x'·Wᵀ + g ∘ z',   z' = x'·Wᵀ + s·x'·Aᵀ·Bᵀ   (as PEFT)
//   backward  dm += (Σ_rows dy∘z) / n,   dz = g∘dy, which goes on as LoRA's dy; with dropout dx += m∘((dz − dy)·W) besides
//
// n comes without V: n_j² = ‖W_j‖² + B_j·(2s·A·W_jᵀ + s²·(A·Aᵀ)·B_jᵀ), products with R columns.
//
// Shapes      as LoRA, and m (out)
// Start       as LoRA, m = ‖W_j‖: g = 1, the delta changes nothing
// Parameters  R·(in + out) + out a site
// Seam        weight; as LoRA
// Merge       exact: diag(m/n)·(W + s·B·A)
// Files       PEFT: <site>.lora_A.weight, <site>.lora_B.weight, <site>.lora_magnitude_vector
#pragma once

#include <string>
#include <utility>

#include "deltatune/delta/lora.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/scale.hpp"

namespace deltatune {

namespace detail {

// squares(j) = ‖row j of w‖².
template <class T>
struct RowSquare {
  View<const T> w;
  T* squares;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index j) const {
    const T sum = team.sum(w.cols, [from = w.row(j)](Index k) { return from[k] * from[k]; });
    team.each(1, [&](Index) { squares[j] = sum; });
  }
};

// x = √x, a constant for derivatives.
template <class T>
struct Root {
  T* x_io;
  DELTATUNE_HD void operator()(Index j) const { x_io[j] = T(value_of(sqrt(x_io[j]))); }
};

// lengths_io(j): from ‖W_j‖² to ‖W_j + s·b_j·A‖, with aw (out, R) = W·Aᵀ and aa (R, R) = A·Aᵀ.
template <class T>
struct AdaptedLength {
  View<const T> b, aw, aa;
  T scale;
  View<T> lengths_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index j) const {
    const T change = team.sum(b.cols, [&](Index r) {
      T across = T(0);
      for (Index q = 0; q < b.cols; ++q) across = across + aa(r, q) * b(j, q);
      return scale * b(j, r) * (aw(j, r) + aw(j, r) + scale * across);
    });
    team.each(1, [&](Index) {
      const T square = lengths_io.data[j] + change;
      lengths_io.data[j] = T(value_of(sqrt(square < T(0) ? T(0) : square)));
    });
  }
};

// y = m / n, element by element.
template <class T>
struct Quotient {
  const T* m;
  const T* n;
  T* y;
  DELTATUNE_HD void operator()(Index j) const { y[j] = m[j] / n[j]; }
};
template <class T>
struct AddQuotient {
  const T* m;
  const T* n;
  T* y_io;
  DELTATUNE_HD void operator()(Index j) const { y_io[j] = y_io[j] + m[j] / n[j]; }
};

// The lengths of the rows of w (out, in).
template <class X>
void row_lengths(context_of<X>& ctx, View<const scalar_of<X>> w, View<scalar_of<X>> lengths) {
  backend_of<X>::for_each_row(ctx, w.rows, w.cols, RowSquare<scalar_of<X>>{w, lengths.data});
  backend_of<X>::for_each(ctx, w.rows, Root<scalar_of<X>>{lengths.data});
}

// dm += (Σ_rows dy∘z) / n, where m trains.
template <class X>
void magnitude_backward(Pass<X>& pass, View<const scalar_of<X>> dy, View<const scalar_of<X>> z, View<const scalar_of<X>> lengths, Parameter<X>& m) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  const View<T> dm = m.gradient();
  if (!dm) return;
  const auto scope = pass.scope();
  const View<T> sum = pass.take(1, dy.cols);
  B::fill(pass.ctx, sum, T(0));
  ops::column_dot<B, T>(pass.ctx, dy, z, sum);
  B::for_each(pass.ctx, dy.cols, AddQuotient<T>{sum.data, lengths.data, dm.data});
}

}  // namespace detail

template <class X>
class Dora {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kReadsWeight = true;

  struct Saved {
    typename Lora<X>::Saved lora;
    View<const T> z;        // (N, out), while m trains
    View<const T> lengths;  // (1, out) n
    View<const T> factors;  // (1, out) g
  };

  // For a site with this path and weight (out, in), which stays the site's: its values are read in every pass.
  Dora(Context& ctx, const std::string& site, Parameter<X>& weight, LoraConfig config, RandomKey key)
      : weight_(&weight),
        lora_(ctx, site, weight.shape().at(1), weight.shape().at(0), config, key),
        m_(ctx, site + ".lora_magnitude_vector", {weight.shape().at(0)}) {
    detail::row_lengths<X>(ctx, weight.value(), m_->value());
  }

  Lora<X>& lora() { return lora_; }
  Parameter<X>& magnitude() { return *m_; }

  template <class F>
  void visit(const F& f) {
    lora_.visit(f);
    f(*m_);
  }

  bool needs_input() const { return lora_.needs_input(); }

  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    measure(pass, saved);
    if (pass.mode == Mode::train && lora_.config().dropout > 0) return forward_dropped(pass, x, y_io, saved);
    lora_.forward(pass, x, y_io, saved.lora);
    scale(pass, y_io, saved);
  }
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) {
    if (saved.lora.dropout.active()) return backward_dropped(pass, saved, x, dy_io, dx);
    scale_backward(pass, saved, dy_io, dy_io);
    lora_.backward(pass, saved.lora, x, dy_io, dx);
  }

  // As LoRA's: the layer may multiply with A where no dropout stands before it.
  Index low_rank() const { return lora_.low_rank(); }
  void place(Context& ctx, View<T> rows) { lora_.place(ctx, rows); }
  void forward(Pass<X>& pass, View<const T> x, View<const T> u, View<T> y_io, Saved& saved) const {
    measure(pass, saved);
    lora_.forward(pass, x, u, y_io, saved.lora);
    scale(pass, y_io, saved);
  }
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, View<T> du) {
    scale_backward(pass, saved, dy_io, dy_io);
    lora_.backward(pass, saved.lora, x, dy_io, du);
  }

  void merge(Context& ctx, View<T> w_io, View<T> b_io) const {
    lora_.merge(ctx, w_io, b_io);
    X factors(ctx, {w_io.rows});
    const View<T> g = factors.view();
    detail::row_lengths<X>(ctx, w_io, g);
    B::for_each(ctx, w_io.rows, detail::Quotient<T>{m_->value().data, g.data, g.data});
    ops::scale_rows<B, T>(ctx, w_io, g, w_io);
  }

 private:
  // n and g.
  void measure(Pass<X>& pass, Saved& saved) const {
    const View<const T> w = weight_->value(), a = lora_.a().value(), b = lora_.b().value();
    const View<T> lengths = pass.keep(1, w.rows), factors = pass.keep(1, w.rows);
    const auto scope = pass.scope();
    const View<T> aw = pass.take(w.rows, b.cols), aa = pass.take(b.cols, b.cols);
    B::gemm(pass.ctx, Gemm<T>{.a = w, .b = a, .c = aw, .transpose_b = true});
    B::gemm(pass.ctx, Gemm<T>{.a = a, .b = a, .c = aa, .transpose_b = true});
    B::for_each_row(pass.ctx, w.rows, w.cols, detail::RowSquare<T>{w, lengths.data});
    B::for_each_row(pass.ctx, w.rows, b.cols * b.cols, detail::AdaptedLength<T>{b, aw, aa, T(lora_.config().scale()), lengths});
    B::for_each(pass.ctx, w.rows, detail::Quotient<T>{m_->value().data, lengths.data, factors.data});
    saved.lengths = lengths;
    saved.factors = factors;
  }
  // From z to y.
  void scale(Pass<X>& pass, View<T> y_io, Saved& saved) const {
    if (m_->trains()) {
      const View<T> z = pass.keep(y_io.rows, y_io.cols);
      ops::copy<B, T>(pass.ctx, y_io, z);
      saved.z = z;
    }
    ops::scale_columns<B, T>(pass.ctx, y_io, saved.factors, y_io);
  }
  void scale_backward(Pass<X>& pass, const Saved& saved, View<const T> dy, View<T> dz) {
    detail::magnitude_backward(pass, dy, saved.z, saved.lengths, *m_);
    ops::scale_columns<B, T>(pass.ctx, dy, saved.factors, dz);
  }

  void forward_dropped(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    const View<T> z = pass.keep(y_io.rows, y_io.cols);
    saved.z = z;
    B::fill(pass.ctx, z, T(0));
    lora_.forward(pass, x, z, saved.lora);
    const auto scope = pass.scope();
    const View<T> product = pass.take(y_io.rows, y_io.cols);
    B::gemm(pass.ctx, Gemm<T>{.a = detail::dropped(pass, saved.lora.dropout, x), .b = weight_->value(), .c = product, .transpose_b = true});
    ops::axpy<B, T>(pass.ctx, T(1), product, z);
    ops::axpy<B, T>(pass.ctx, T(-1), product, y_io);
    ops::scale_columns<B, T>(pass.ctx, z, saved.factors, product);
    ops::axpy<B, T>(pass.ctx, T(1), product, y_io);
  }
  void backward_dropped(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy, GradientSink<T>& dx) {
    const auto scope = pass.scope();
    const View<T> dz = pass.take(dy.rows, dy.cols);
    scale_backward(pass, saved, dy, dz);
    lora_.backward(pass, saved.lora, x, dz, dx);
    ops::axpy<B, T>(pass.ctx, T(-1), dy, dz);
    if (const View<T> dw = weight_->gradient()) {
      const auto inner = pass.scope();
      B::gemm(pass.ctx, Gemm<T>{.a = dz, .b = detail::dropped(pass, saved.lora.dropout, x), .c = dw, .transpose_a = true, .beta = T(1)});
    }
    detail::dropped_backward(pass, saved.lora.dropout, dz, weight_->value(), dx);
  }

  Parameter<X>* weight_;
  Lora<X> lora_;
  detail::OwnParameter<X> m_;
};

}  // namespace deltatune
