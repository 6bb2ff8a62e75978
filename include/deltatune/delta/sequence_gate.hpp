// A gate for each sequence: how far a delta is open, read from the rows that it sees. Mao et al. 2022, arXiv 2110.07577 (UniPELT).
//
//   g_b = mean over the rows x_t of sequence b of σ(x_t·Wᵀ + c)
//   backward:  dz_t = dg_b / length · σ'(z_t),   dW += dzᵀ·x,   dc += Σ_rows dz,   dx += dz·W
//
// The mean is over the rows that are there: batches have no padding here. Libraries that pad take the mean over the padding, too, and agree
// with this where the sequences of a batch have one length.
//
// Shapes      W (G, in), c (G), for G gates
#pragma once

#include <string>
#include <utility>

#include "deltatune/core/scalar.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/pool.hpp"

namespace deltatune::detail {

// z_io (N, G): σ(z + bias).
template <class T>
struct GateRow {
  const T* bias;
  View<T> z_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(z_io.cols, [b = bias, z = z_io.row(i)](Index k) { z[k] = T(1) / (T(1) + exp(-(z[k] + b[k]))); });
  }
};

// dz (N, G): of σ's argument, from the gradient of the mean over a sequence.
template <class T>
struct GateBackwardRow {
  Sequences sequences;
  View<const T> d_gates;  // (B, G)
  View<const T> opened;
  View<T> dz;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index b = sequences.row_sequence[i];
    const T share = T(1) / T(static_cast<double>(sequences.length(b)));
    team.each(dz.cols, [=, s = opened.row(i), d = d_gates.row(b), to = dz.row(i)](Index k) { to[k] = d[k] * share * s[k] * (T(1) - s[k]); });
  }
};

// d_gates (B, G): Σ over the rows of a sequence and the columns of a gate of a ∘ b. rows: first(b) and length(b) of a sequence.
template <class T, class Rows>
struct GateGradientRow {
  Rows rows;
  View<const T> a, b;  // (N, G·w)
  View<T> d_gates;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index s) const {
    const Index width = a.cols / d_gates.cols, first = rows.first(s);
    for (Index k = 0; k < d_gates.cols; ++k) {
      const T sum = team.sum(rows.length(s) * width, [=, *this](Index e) {
        const Index row = first + e / width, column = k * width + e % width;
        return a(row, column) * b(row, column);
      });
      team.each(1, [=, to = d_gates.row(s)](Index) { to[k] = sum; });
    }
  }
};

template <class X>
class SequenceGate {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    View<const T> opened;  // (N, G) σ of each row
    View<const T> gates;   // (B, G)
  };

  SequenceGate() = default;  // none
  template <class WeightStart, class BiasStart>
  SequenceGate(context_of<X>& ctx, const std::string& path, Index in, Index gates, const WeightStart& weight, const BiasStart& bias)
      : weight_(ctx, path + ".weight", {gates, in}, weight), bias_(ctx, path + ".bias", {gates}, bias) {}

  explicit operator bool() const { return static_cast<bool>(weight_); }
  template <class F>
  void visit(const F& f) {
    if (!weight_) return;
    f(*weight_);
    f(*bias_);
  }
  // Whether backward reads x.
  bool needs_input() const { return weight_ && weight_->trains(); }

  // x (N, in). Result: gates (B, G), kept.
  Saved forward(Pass<X>& pass, View<const T> x) const {
    const Index count = weight_->shape().at(0);
    const View<T> opened = pass.keep(x.rows, count), gates = pass.keep(pass.sequences->count, count);
    B::gemm(pass.ctx, Gemm<T>{.a = x, .b = weight_->value(), .c = opened, .transpose_b = true});
    B::for_each_row(pass.ctx, opened.rows, opened.cols, GateRow<T>{bias_->value().data, opened});
    ops::mean_rows<B, T>(pass.ctx, opened, pass.sequences->offsets, gates);
    return {opened, gates};
  }
  // Whether backward has anything to do.
  bool wants_gradient(const GradientSink<T>& dx) const { return weight_->trains() || bias_->trains() || dx.wanted(); }
  // d_gates (B, G). x is read where needs_input().
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<const T> d_gates, GradientSink<T>& dx) {
    const auto scope = pass.scope();
    const View<T> dz = pass.take(saved.opened.rows, saved.opened.cols);
    B::for_each_row(pass.ctx, dz.rows, dz.cols, GateBackwardRow<T>{*pass.sequences, d_gates, saved.opened, dz});
    if (const View<T> dw = weight_->gradient()) B::gemm(pass.ctx, Gemm<T>{.a = dz, .b = x, .c = dw, .transpose_a = true, .beta = T(1)});
    if (const View<T> db = bias_->gradient()) ops::column_sum<B, T>(pass.ctx, dz, db);
    if (dx.wanted()) B::gemm(pass.ctx, Gemm<T>{.a = dz, .b = weight_->value(), .c = dx.view(), .beta = dx.next_beta()});
  }

 private:
  OwnParameter<X> weight_, bias_;
};

}  // namespace deltatune::detail
