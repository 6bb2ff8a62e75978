// Pooling: one row for each sequence from all of its rows, y_b = 1/n_b · Σ over the n_b rows of sequence b. A sentence embedding
// (Reimers and Gurevych 2019, arXiv 1908.10084).
#pragma once

#include "deltatune/tensor/sequence.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

template <class T>
struct MeanRow {
  View<const T> x;
  const Index* offsets;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index b) const {
    const Index begin = offsets[b];
    const Index end = offsets[b + 1];
    const View<const T> from = x;
    T* to = y.row(b);
    team.each(y.cols, [=](Index j) { to[j] = T(0); });
    for (Index i = begin; i < end; ++i) team.each(y.cols, [to, row = from.row(i)](Index j) { to[j] = to[j] + row[j]; });
    const T scale = T(1) / T(static_cast<double>(end - begin));
    team.each(y.cols, [=](Index j) { to[j] = to[j] * scale; });
  }
};

template <class T>
struct MeanBackwardRow {
  View<const T> dy;
  Sequences sequences;
  View<T> dx;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index b = sequences.row_sequence[i];
    const T scale = T(1) / T(static_cast<double>(sequences.length(b)));
    team.each(dx.cols, [to = dx.row(i), from = dy.row(b), scale](Index j) { to[j] = from[j] * scale; });
  }
};

}  // namespace detail

// y (B, C) = mean over the rows of each sequence of x (N, C).
template <class B, class T>
void mean_rows(typename B::Context& ctx, View<const T> x, const Index* offsets, View<T> y) {
  B::for_each_row(ctx, y.rows, x.rows * x.cols, detail::MeanRow<T>{x, offsets, y});
}

// dx (N, C) = dy (B, C) of the row's sequence, divided by the rows it has.
template <class B, class T>
void mean_rows_backward(typename B::Context& ctx, View<const T> dy, const Sequences& sequences, View<T> dx) {
  B::for_each_row(ctx, dx.rows, dx.cols, detail::MeanBackwardRow<T>{dy, sequences, dx});
}

}  // namespace deltatune::ops
