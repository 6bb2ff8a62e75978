// Sums: over rows (the gradient of a bias), and of squares over a whole matrix (the norm of a gradient). The order of additions is fixed.
#pragma once

#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

template <class T>
struct ColumnSumBlock {
  static constexpr Index kWidth = 64;  // columns: whole cache lines
  View<const T> x;
  T* sum;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index block) const {
    const Index first = block * kWidth;
    const Index width = x.cols - first < kWidth ? x.cols - first : kWidth;
    T* to = sum + first;
    for (Index i = 0; i < x.rows; ++i) team.each(width, [to, from = x.row(i) + first](Index j) { to[j] = to[j] + from[j]; });
  }
};

template <class T>
struct SquareSumRow {
  View<const T> x;
  T* partial;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T* row = x.row(i);
    const T sum = team.sum(x.cols, [=](Index j) { return row[j] * row[j]; });
    team.each(1, [&](Index) { partial[i] = sum; });
  }
};

template <class T>
struct TotalRow {
  const T* partial;
  Index count;
  T* total_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index) const {
    const T* from = partial;
    const T sum = team.sum(count, [=](Index j) { return from[j]; });
    team.each(1, [&](Index) { *total_io = *total_io + sum; });
  }
};

}  // namespace detail

// sum_io (C) += Σ over rows of x (N, C).
template <class B, class T>
void column_sum(typename B::Context& ctx, View<const T> x, View<T> sum_io) {
  using Block = detail::ColumnSumBlock<T>;
  B::for_each_row(ctx, (x.cols + Block::kWidth - 1) / Block::kWidth, x.rows * Block::kWidth, Block{x, sum_io.data});
}

// total_io (1) += Σ x². partial: scratch, one element a row of x.
template <class B, class T>
void square_sum(typename B::Context& ctx, View<const T> x, View<T> partial, View<T> total_io) {
  B::for_each_row(ctx, x.rows, x.cols, detail::SquareSumRow<T>{x, partial.data});
  B::for_each_row(ctx, 1, x.rows, detail::TotalRow<T>{partial.data, x.rows, total_io.data});
}

// total_io (1) += Σ of values (1, n).
template <class B, class T>
void total(typename B::Context& ctx, View<const T> values, View<T> total_io) {
  B::for_each_row(ctx, 1, values.cols, detail::TotalRow<T>{values.data, values.cols, total_io.data});
}

}  // namespace deltatune::ops
