// Sums: over rows (the gradient of a bias) and over a list (a loss). The order of additions is fixed.
#pragma once

#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

template <class T>
struct Element {
  View<const T> x;
  DELTATUNE_INLINE T operator()(Index i, Index j) const { return x(i, j); }
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
  B::sum_rows(ctx, x.rows, x.cols, detail::Element<T>{x}, sum_io.data);
}

// total_io (1) += Σ of values (1, n).
template <class B, class T>
void total(typename B::Context& ctx, View<const T> values, View<T> total_io) {
  B::for_each_row(ctx, 1, values.cols, detail::TotalRow<T>{values.data, values.cols, total_io.data});
}

}  // namespace deltatune::ops
