// One direction of one LSTM layer over one sequence, from a state of zeros; gates in PyTorch's order. Hochreiter and Schmidhuber 1997.
//
//   (i, f, g, o) = x_t·W_xᵀ + b_x + h·W_hᵀ + b_h,   c_t = σ(f)·c + σ(i)·tanh(g),   h_t = σ(o)·tanh(c_t),   h and c of the row before
//   (reversed: of the row behind)
#pragma once

#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

template <class T>
struct LstmWeights {
  View<T> input;        // (4H, C)
  View<T> hidden;       // (4H, H)
  View<T> input_bias;   // (4H)
  View<T> hidden_bias;  // (4H)
};

namespace detail {

// Row t: from the gates' arguments to the gates, the cell and h.
template <class T>
struct LstmStepRow {
  View<T> gates_io;  // (N, 4H)
  View<T> cells;     // (N, H)
  View<T> h;         // (N, H)
  Index t;
  Index before;  // row, or -1
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index) const {
    const Index width = h.cols;
    team.each(width, [=, gates = gates_io.row(t), cell = cells.row(t), to = h.row(t), last = before < 0 ? nullptr : cells.row(before)](Index j) {
      using math::exp;
      using math::tanh;
      const T i = T(1) / (T(1) + exp(-gates[j]));
      const T f = T(1) / (T(1) + exp(-gates[width + j]));
      const T g = tanh(gates[2 * width + j]);
      const T o = T(1) / (T(1) + exp(-gates[3 * width + j]));
      gates[j] = i;
      gates[width + j] = f;
      gates[2 * width + j] = g;
      gates[3 * width + j] = o;
      cell[j] = i * g + (last == nullptr ? T(0) : f * last[j]);
      to[j] = o * tanh(cell[j]);
    });
  }
};

// Row t: from dh to the gradient of the gates' arguments, and of the cell before.
template <class T>
struct LstmStepBackwardRow {
  View<const T> gates;
  View<const T> cells;
  View<const T> dh;   // (N, H) of row t: all of it
  View<T> d_cell_io;  // (1, H): of this row's cell, from the row behind; becomes the one for the row before
  View<T> d_gates;    // (N, 4H)
  Index t;
  Index before;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index) const {
    const Index width = dh.cols;
    team.each(width, [=, gate = gates.row(t), cell = cells.row(t), d_h = dh.row(t), d_cell = d_cell_io.row(0), to = d_gates.row(t),
                      last = before < 0 ? nullptr : cells.row(before)](Index j) {
      using math::tanh;
      const T i = gate[j], f = gate[width + j], g = gate[2 * width + j], o = gate[3 * width + j];
      const T squashed = tanh(cell[j]);
      const T dc = d_cell[j] + d_h[j] * o * (T(1) - squashed * squashed);
      to[j] = dc * g * i * (T(1) - i);
      to[width + j] = (last == nullptr ? T(0) : dc * last[j]) * f * (T(1) - f);
      to[2 * width + j] = dc * i * (T(1) - g * g);
      to[3 * width + j] = d_h[j] * squashed * o * (T(1) - o);
      d_cell[j] = dc * f;
    });
  }
};

// f(row, row before it in the order of reading, or -1), first row first.
template <class F>
void visit_in_order(Index rows, bool reversed, const F& f) {
  for (Index i = 0; i < rows; ++i) f(reversed ? rows - 1 - i : i, i == 0 ? Index{-1} : reversed ? rows - i : i - 1);
}

}  // namespace detail

// x (N, C) -> h (N, H); for backward gates (N, 4H) and cells (N, H).
template <class B, class T>
void lstm_forward(typename B::Context& ctx, bool reversed, View<const T> x, const LstmWeights<const T>& weights, View<T> h, View<T> gates, View<T> cells) {
  B::gemm(ctx, Gemm<T>{.a = x, .b = weights.input, .c = gates, .transpose_b = true});
  add_bias<B, T>(ctx, weights.input_bias, gates);
  add_bias<B, T>(ctx, weights.hidden_bias, gates);
  detail::visit_in_order(x.rows, reversed, [&](Index t, Index before) {
    if (before >= 0) B::gemm(ctx, Gemm<T>{.a = h.row_range(before, 1), .b = weights.hidden, .c = gates.row_range(t, 1), .transpose_b = true, .beta = T(1)});
    B::for_each_row(ctx, 1, h.cols, detail::LstmStepRow<T>{gates, cells, h, t, before});
  });
}

// dh_io (N, H): used up. d_gates (N, 4H) and d_cell (1, H): scratch. Adds to gradients (those that are empty are left out); dx (N, C) = or, with
// accumulate, +=; may be empty.
template <class B, class T>
void lstm_backward(typename B::Context& ctx, bool reversed, View<const T> x, const LstmWeights<const T>& weights, View<const T> h, View<const T> gates,
                   View<const T> cells, View<T> dh_io, View<T> d_gates, View<T> d_cell, const LstmWeights<T>& gradients_io, View<T> dx, bool accumulate) {
  B::fill(ctx, d_cell, T(0));
  // In the order of reading this one's rows come last to first: the order of reading in the other direction.
  detail::visit_in_order(x.rows, !reversed, [&](Index t, Index behind) {
    if (behind >= 0) B::gemm(ctx, Gemm<T>{.a = d_gates.row_range(behind, 1), .b = weights.hidden, .c = dh_io.row_range(t, 1), .beta = T(1)});
    const Index before = reversed ? (t + 1 < x.rows ? t + 1 : -1) : t - 1;
    B::for_each_row(ctx, 1, h.cols, detail::LstmStepBackwardRow<T>{gates, cells, dh_io, d_cell, d_gates, t, before});
  });
  if (gradients_io.input) B::gemm(ctx, Gemm<T>{.a = d_gates, .b = x, .c = gradients_io.input, .transpose_a = true, .beta = T(1)});
  if (gradients_io.hidden && x.rows > 1) {
    const Index steps = x.rows - 1;
    B::gemm(ctx, Gemm<T>{.a = d_gates.row_range(reversed ? 0 : 1, steps),
                         .b = h.row_range(reversed ? 1 : 0, steps),
                         .c = gradients_io.hidden,
                         .transpose_a = true,
                         .beta = T(1)});
  }
  if (gradients_io.input_bias) column_sum<B, T>(ctx, d_gates, gradients_io.input_bias);
  if (gradients_io.hidden_bias) column_sum<B, T>(ctx, d_gates, gradients_io.hidden_bias);
  if (dx) B::gemm(ctx, Gemm<T>{.a = d_gates, .b = weights.input, .c = dx, .beta = accumulate ? T(1) : T(0)});
}

}  // namespace deltatune::ops
