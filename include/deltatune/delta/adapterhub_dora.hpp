// DoRA as AdapterHub has it. Liu et al. 2024, arXiv 2402.09353. It differs from the paper and from PEFT (delta/dora.hpp): the gradient goes
// through the length of the rows, that length is taken without α/R, and the bias is scaled as well.
//
//   n_j = ‖(W + B·A)_j‖ (row j),   g = m/n,   z = x·Wᵀ + b + s·(d∘x)·Aᵀ·Bᵀ,   y = g∘z;   d: dropout, s = α/R
//   backward  dg = Σ_rows dy∘z,   dz = g∘dy, which goes on as LoRA's dy,   dm += dg/n,   e = −dg·m/n³ (of n²/2):
//             dB += e∘((W + B·A)·Aᵀ),   dA += (e∘B)ᵀ·(W + B·A)
//
// n comes without W + B·A: n_j² = ‖W_j‖² + B_j·(2·A·W_jᵀ + A·Aᵀ·B_jᵀ), products with R columns.
//
// Shapes      as LoRA, and m (out, 1)
// Start       as LoRA, m = ‖W_j‖: g = 1, the delta changes nothing
// Parameters  R·(in + out) + out a site
// Seam        weight; as LoRA
// Merge       exact: diag(g)·(W + s·B·A), g∘b
// Files       AdapterHub: <site>.loras.NAME.lora_A, .lora_B, .m.weight
#pragma once

#include <string>
#include <utility>

#include "deltatune/delta/dora.hpp"
#include "deltatune/delta/lora.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/scale.hpp"

namespace deltatune {

namespace detail {

// lengths(j) = ‖row j of w + b·a‖ from aw (out, R) = w·aᵀ and aa (R, R) = a·aᵀ, and g = m / n.
template <class T>
struct SumRowLength {
  View<const T> w, b, aw, aa;
  const T* m;
  T* lengths;
  T* factors;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index j) const {
    const T base = team.sum(w.cols, [from = w.row(j)](Index k) { return from[k] * from[k]; });
    const T change = team.sum(b.cols, [=, *this](Index r) {
      T across = T(0);
      for (Index q = 0; q < b.cols; ++q) across = across + aa(r, q) * b(j, q);
      return b(j, r) * (aw(j, r) + aw(j, r) + across);
    });
    team.each(1, [=, *this](Index) {
      lengths[j] = sqrt(max(base + change, T(0)));
      factors[j] = m[j] / lengths[j];
    });
  }
};

// dm += dg/n;  e = −dg·m/n³.
template <class T>
struct LengthBackward {
  const T* dg;
  const T* m;
  const T* lengths;
  T* dm_io;  // or nullptr
  T* e;
  DELTATUNE_HD void operator()(Index j) const {
    if (dm_io != nullptr) dm_io[j] = dm_io[j] + dg[j] / lengths[j];
    e[j] = -dg[j] * m[j] / (lengths[j] * lengths[j] * lengths[j]);
  }
};

}  // namespace detail

template <class X>
class AdapterHubDora {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kReadsWeight = true;

  struct Saved {
    typename Lora<X>::Saved lora;
    View<const T> lengths;  // (1, out) n
    View<const T> factors;  // (1, out) g
    View<const T> z;        // (N, out)
  };

  // weight: the site's, which stays where it is.
  AdapterHubDora(Context& ctx, const std::string& site, Parameter<X>& weight, LoraConfig config, RandomKey key)
      : weight_(&weight),
        lora_(ctx, site, weight.shape().at(1), weight.shape().at(0), config, key),
        m_(ctx, site + ".lora_magnitude_vector", {weight.shape().at(0), 1}) {
    detail::row_lengths<X>(ctx, weight.value(), m_->value());
  }

  template <class F>
  void visit(const F& f) {
    lora_.visit(f);
    f(*m_);
  }

  bool needs_input() const { return lora_.needs_input(); }

  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const { lora_.forward(pass, x, y_io, saved.lora); }
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) { lora_.backward(pass, saved.lora, x, dy_io, dx); }

  // From z to y.
  void after(Pass<X>& pass, View<T> y_io, Saved& saved) const {
    const View<T> lengths = pass.keep(1, y_io.cols), factors = pass.keep(1, y_io.cols), z = pass.keep(y_io.rows, y_io.cols);
    measure(pass.ctx, pass.scratch, weight_->value(), lengths, factors);
    ops::copy<B, T>(pass.ctx, y_io, z);
    ops::scale_columns<B, T>(pass.ctx, y_io, factors, y_io);
    saved.lengths = lengths;
    saved.factors = factors;
    saved.z = z;
  }
  void after_backward(Pass<X>& pass, const Saved& saved, View<T> dy_io) {
    lengths_backward(pass, saved, dy_io);
    ops::scale_columns<B, T>(pass.ctx, dy_io, saved.factors, dy_io);
  }

  void merge(Context& ctx, View<T> w_io, View<T> b_io) const {
    workspace_of<X> scratch(ctx);
    const View<T> lengths = scratch.template take<T>(1, w_io.rows), factors = scratch.template take<T>(1, w_io.rows);
    measure(ctx, scratch, w_io, lengths, factors);
    lora_.merge(ctx, w_io, b_io);
    ops::scale_rows<B, T>(ctx, w_io, factors, w_io);
    if (b_io) ops::scale_columns<B, T>(ctx, b_io, factors, b_io);
  }

 private:
  // n and g.
  void measure(Context& ctx, workspace_of<X>& scratch, View<const T> w, View<T> lengths, View<T> factors) const {
    const View<const T> a = lora_.a().value(), b = lora_.b().value();
    const WorkspaceScope<B> scope(scratch);
    const View<T> aw = scratch.template take<T>(w.rows, b.cols), aa = scratch.template take<T>(b.cols, b.cols);
    B::gemm(ctx, Gemm<T>{.a = w, .b = a, .c = aw, .transpose_b = true});
    B::gemm(ctx, Gemm<T>{.a = a, .b = a, .c = aa, .transpose_b = true});
    B::for_each_row(ctx, w.rows, w.cols, detail::SumRowLength<T>{w, b, aw, aa, m_->value().data, lengths.data, factors.data});
  }

  void lengths_backward(Pass<X>& pass, const Saved& saved, View<const T> dy) {
    const View<T> dm = m_->gradient(), da = lora_.a().gradient(), db = lora_.b().gradient(), dw = weight_->gradient();
    if (!dm && !da && !db && !dw) return;
    const View<const T> w = weight_->value(), a = lora_.a().value(), b = lora_.b().value();
    const auto scope = pass.scope();
    const View<T> dg = pass.take(1, w.rows), e = pass.take(1, w.rows), eb = pass.take(b.rows, b.cols);
    B::fill(pass.ctx, dg, T(0));
    ops::column_dot<B, T>(pass.ctx, dy, saved.z, dg);
    B::for_each(pass.ctx, w.rows, detail::LengthBackward<T>{dg.data, m_->value().data, saved.lengths.data, dm.data, e.data});
    ops::scale_rows<B, T>(pass.ctx, b, e, eb);
    if (db) {
      const View<T> va = pass.take(b.rows, b.cols), aa = pass.take(b.cols, b.cols);  // (W + B·A)·Aᵀ
      B::gemm(pass.ctx, Gemm<T>{.a = w, .b = a, .c = va, .transpose_b = true});
      B::gemm(pass.ctx, Gemm<T>{.a = a, .b = a, .c = aa, .transpose_b = true});
      B::gemm(pass.ctx, Gemm<T>{.a = b, .b = aa, .c = va, .beta = T(1)});
      ops::scale_rows<B, T>(pass.ctx, va, e, va);
      ops::axpy<B, T>(pass.ctx, T(1), va, db);
    }
    if (da) {
      const View<T> bb = pass.take(b.cols, b.cols);
      B::gemm(pass.ctx, Gemm<T>{.a = eb, .b = w, .c = da, .transpose_a = true, .beta = T(1)});
      B::gemm(pass.ctx, Gemm<T>{.a = eb, .b = b, .c = bb, .transpose_a = true});
      B::gemm(pass.ctx, Gemm<T>{.a = bb, .b = a, .c = da, .beta = T(1)});
    }
    if (dw) {
      const View<T> ew = pass.take(w.rows, w.cols);
      ops::scale_rows<B, T>(pass.ctx, w, e, ew);
      B::gemm(pass.ctx, Gemm<T>{.a = eb, .b = a, .c = ew, .beta = T(1)});
      ops::axpy<B, T>(pass.ctx, T(1), ew, dw);
    }
  }

  Parameter<X>* weight_;
  Lora<X> lora_;
  detail::OwnParameter<X> m_;
};

}  // namespace deltatune
