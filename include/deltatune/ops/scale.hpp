// Products with diagonal matrices: one factor, or one for every column, or for every row; and the gradient of such factors.
#pragma once

#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

template <class T>
struct ScaleColumnsRow {
  View<const T> x;
  const T* factors;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(x.cols, [from = x.row(i), to = y.row(i), f = factors](Index j) { to[j] = from[j] * f[j]; });
  }
};

template <class T>
struct ScaleRowsRow {
  View<const T> x;
  const T* factors;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(x.cols, [from = x.row(i), to = y.row(i), f = factors[i]](Index j) { to[j] = from[j] * f; });
  }
};

template <class T>
struct ScaleAllRow {
  T factor;
  View<const T> x;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(x.cols, [from = x.row(i), to = y.row(i), f = factor](Index j) { to[j] = f * from[j]; });
  }
};

template <class T>
struct ProductElement {
  View<const T> a, b;
  DELTATUNE_INLINE T operator()(Index i, Index j) const { return a(i, j) * b(i, j); }
};

}  // namespace detail

// y (N, C) = factor · x (N, C); y may be x.
template <class B, class T>
void scale(typename B::Context& ctx, T factor, View<const T> x, View<T> y) {
  B::for_each_row(ctx, x.rows, x.cols, detail::ScaleAllRow<T>{factor, x, y});
}

// y (N, C) = x (N, C) with column j times factors[j], C of them; y may be x.
template <class B, class T>
void scale_columns(typename B::Context& ctx, View<const T> x, View<const T> factors, View<T> y) {
  B::for_each_row(ctx, x.rows, x.cols, detail::ScaleColumnsRow<T>{x, factors.data, y});
}

// y (N, C) = x (N, C) with row i times factors[i], N of them; y may be x.
template <class B, class T>
void scale_rows(typename B::Context& ctx, View<const T> x, View<const T> factors, View<T> y) {
  B::for_each_row(ctx, x.rows, x.cols, detail::ScaleRowsRow<T>{x, factors.data, y});
}

// sum_io (C) += Σ over rows of a ∘ b, both (N, C): with a the gradient of scaled columns and b what was scaled, the gradient of the factors.
template <class B, class T>
void column_dot(typename B::Context& ctx, View<const T> a, View<const T> b, View<T> sum_io) {
  B::sum_rows(ctx, a.rows, a.cols, detail::ProductElement<T>{a, b}, sum_io.data);
}

}  // namespace deltatune::ops
