// LoRA as AdapterHub has it where it differs from PEFT's: parts of a fused weight (GPT-2's query, key and value) with factors of their own,
// and gates. Hu et al. 2021, arXiv 2106.09685; gates: UniPELT, Mao et al. 2022, arXiv 2110.07577.
//
//   for the chosen parts p = 0 … n-1 of the output:  y_p += s·(m∘x)·A_pᵀ·B_pᵀ,   s = α/R
//   gated, for sequence b:                           y_p += g_bp·(m∘x)·A_pᵀ·B_pᵀ,   g: delta/sequence_gate.hpp, of x; there is no s then
//   backward, with x' = m∘x, u_p = x'·A_pᵀ, e_p = dy_p·B_p:
//     dB_p += dy_pᵀ·(g_p∘u_p),   du_p = g_p∘e_p,   dg_bp = Σ over the rows of b of u_p∘e_p,   dA += duᵀ·x',   dx += m∘(du·A)
//
// Shapes      A (n·R, in), B (n·w, R) with w the width of a part; gate (n, in) and (n)
// Start       A uniform in ±1/√in, B = 0: the delta is 0; or both normal · 0.02. Gate: weight normal · 0.02, bias uniform in ±1/√in
// Parameters  n·R·(in + w) a site, and n·(in + 1) for the gate
// Seam        weight; query and value
// Merge       exact without gates: W_p + s·B_p·A_p; none with gates
// Files       AdapterHub: <site>.loras.NAME.lora_A, .lora_B, .gate.weight, .gate.bias
#pragma once

#include <cmath>
#include <string>

#include "deltatune/delta/lora.hpp"
#include "deltatune/delta/output_parts.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/delta/sequence_gate.hpp"
#include "deltatune/seam/weight.hpp"

namespace deltatune {

struct AdapterHubLoraConfig {
  LoraConfig lora = {};
  bool gated = false;
  bool normal_start = false;  // of A and B
  OutputParts parts = {};
};

namespace detail {

// y (N, G·w) = x with the columns of gate k times that gate of the row's sequence; y may be x.
template <class T>
struct GateColumnsRow {
  const std::int32_t* row_sequence;
  View<const T> gates;  // (B, G)
  View<const T> x;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index width = x.cols / gates.cols;
    team.each(x.cols, [=, g = gates.row(row_sequence[i]), from = x.row(i), to = y.row(i)](Index j) { to[j] = from[j] * g[j / width]; });
  }
};

}  // namespace detail

template <class X>
class AdapterHubLora {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kIsSum = true;

  struct Saved {
    View<const T> u;  // (N, n·R)
    typename detail::SequenceGate<X>::Saved gate;
    DropoutMask dropout;
  };

  // For a site with this path and an (out, in) weight.
  AdapterHubLora(Context& ctx, const std::string& site, Index in, Index out, AdapterHubLoraConfig config, RandomKey key) : config_(std::move(config)) {
    const Index n = config_.parts.chosen_count(), rank = config_.lora.rank;
    const double bound = 1.0 / std::sqrt(static_cast<double>(in));
    const Shape a{n * rank, in}, b{n * config_.parts.width(out), rank};
    if (config_.normal_start) {
      a_ = {ctx, site + ".lora_A.weight", a, detail::normal_start(derive(key, 0), 0.02)};
      b_ = {ctx, site + ".lora_B.weight", b, detail::normal_start(derive(key, 1), 0.02)};
    } else {
      a_ = {ctx, site + ".lora_A.weight", a, detail::uniform_start(derive(key, 0), bound)};
      b_ = {ctx, site + ".lora_B.weight", b};
    }
    if (config_.gated) gate_ = {ctx, site + ".lora_gate", in, n, detail::normal_start(derive(key, 2), 0.02), detail::uniform_start(derive(key, 3), bound)};
  }

  template <class F>
  void visit(const F& f) {
    f(*a_);
    f(*b_);
    gate_.visit(f);
  }

  bool needs_input() const { return a_->trains() || gate_.needs_input(); }
  bool mixes_rows() const { return config_.gated; }

  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    const View<T> u = pass.keep(x.rows, a_->shape().at(0));
    saved = {u, {}, pass.dropout(config_.lora.dropout)};
    if (gate_) saved.gate = gate_.forward(pass, x);
    const auto scope = pass.scope();
    B::gemm(pass.ctx, Gemm<T>{.a = detail::dropped(pass, saved.dropout, x), .b = a_->value(), .c = u, .transpose_b = true});
    const View<const T> gated_u = gated(pass, saved, u);
    config_.parts.visit_columns(y_io, [&](Index j, View<T> y) {
      B::gemm(pass.ctx, Gemm<T>{.a = of_part(gated_u, j), .b = rows_of_part(b_->value(), j), .c = y, .transpose_b = true, .alpha = scale(), .beta = T(1)});
    });
  }

  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) {
    const auto scope = pass.scope();
    if (const View<T> db = b_->gradient()) {
      const auto inner = pass.scope();
      const View<const T> gated_u = gated(pass, saved, saved.u);
      config_.parts.visit_columns(dy_io, [&](Index j, View<T> dy) {
        B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = of_part(gated_u, j), .c = rows_of_part(db, j), .transpose_a = true, .alpha = scale(), .beta = T(1)});
      });
    }
    const bool into_gate = gate_ && gate_.wants_gradient(dx);
    if (!a_->trains() && !dx.wanted() && !into_gate) return;
    const View<T> du = pass.take(dy_io.rows, saved.u.cols);
    config_.parts.visit_columns(
        dy_io, [&](Index j, View<T> dy) { B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = rows_of_part(b_->value(), j), .c = of_part(du, j), .alpha = scale()}); });
    if (into_gate) {
      const View<T> d_gates = pass.take(saved.gate.gates.rows, saved.gate.gates.cols);
      B::for_each_row(pass.ctx, d_gates.rows, pass.sequences->max_length * du.cols,
                      detail::GateGradientRow<T, Sequences>{*pass.sequences, saved.u, du, d_gates});
      gate_.backward(pass, saved.gate, x, d_gates, dx);
    }
    if (gate_) scale_by_gates(pass, saved, du, du);
    if (const View<T> da = a_->gradient())
      B::gemm(pass.ctx, Gemm<T>{.a = du, .b = detail::dropped(pass, saved.dropout, x), .c = da, .transpose_a = true, .beta = T(1)});
    detail::dropped_backward(pass, saved.dropout, du, a_->value(), dx);
  }

  // Only without gates.
  void merge(Context& ctx, View<T> w_io, View<T> /*b_io*/) const {
    const Index width = config_.parts.width(w_io.rows);
    for (Index j = 0; j < config_.parts.chosen_count(); ++j)
      B::gemm(ctx, Gemm<T>{.a = rows_of_part(b_->value(), j),
                           .b = a_->value().row_range(j * config_.lora.rank, config_.lora.rank),
                           .c = w_io.row_range(config_.parts.chosen[static_cast<std::size_t>(j)] * width, width),
                           .alpha = scale(),
                           .beta = T(1)});
  }

 private:
  T scale() const { return gate_ ? T(1) : T(config_.lora.scale()); }
  // Columns of u, rows of B.
  template <class E>
  View<E> of_part(View<E> u, Index j) const {
    return u.column_range(j * config_.lora.rank, config_.lora.rank);
  }
  template <class E>
  View<E> rows_of_part(View<E> b, Index j) const {
    const Index rows = b.rows / config_.parts.chosen_count();
    return b.row_range(j * rows, rows);
  }
  View<const T> gated(Pass<X>& pass, const Saved& saved, View<const T> u) const {
    if (!gate_) return u;
    const View<T> result = pass.take(u.rows, u.cols);
    scale_by_gates(pass, saved, u, result);
    return result;
  }
  void scale_by_gates(Pass<X>& pass, const Saved& saved, View<const T> u, View<T> result) const {
    B::for_each_row(pass.ctx, u.rows, u.cols, detail::GateColumnsRow<T>{pass.sequences->row_sequence, saved.gate.gates, u, result});
  }

  AdapterHubLoraConfig config_;
  detail::OwnParameter<X> a_, b_;
  detail::SequenceGate<X> gate_;  // or none
};

}  // namespace deltatune
