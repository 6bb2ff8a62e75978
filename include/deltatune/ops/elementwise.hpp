// Passes over rows without mathematics of their own: bias, addition, scaling, dropout, copies, gathering and scattering rows.
#pragma once

#include <cstdint>

#include "deltatune/core/half.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

template <class T>
struct AddBiasRow {
  const T* bias;
  View<T> y_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    T* to = y_io.row(i);
    const T* from = bias;
    team.each(y_io.cols, [=](Index j) { to[j] = to[j] + from[j]; });
  }
};

template <class T>
struct AxpyRow {
  T alpha;
  View<const T> x;
  View<T> y_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    T* to = y_io.row(i);
    const T* from = x.row(i);
    const T factor = alpha;
    team.each(y_io.cols, [=](Index j) { to[j] = to[j] + factor * from[j]; });
  }
};

template <class T>
struct DropoutRow {
  View<const T> x;
  DropoutMask mask;
  View<T> y;
  bool accumulate;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T* from = x.row(i);
    T* to = y.row(i);
    const Index cols = x.cols;
    const DropoutMask m = mask;
    if (accumulate) {
      team.each(cols, [=](Index j) { to[j] = to[j] + from[j] * m.template factor<T>(static_cast<std::uint64_t>(i * cols + j)); });
    } else {
      team.each(cols, [=](Index j) { to[j] = from[j] * m.template factor<T>(static_cast<std::uint64_t>(i * cols + j)); });
    }
  }
};

template <class T>
struct CopyRow {
  View<const T> x;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T* from = x.row(i);
    T* to = y.row(i);
    team.each(y.cols, [=](Index j) { to[j] = from[j]; });
  }
};

// Rows first[b] of x, b = 0, 1, ...: the row a classifier reads of each sequence.
template <class T>
struct GatherRow {
  View<const T> x;
  const Index* rows;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index b) const {
    const T* from = x.row(rows[b]);
    T* to = y.row(b);
    team.each(y.cols, [=](Index j) { to[j] = from[j]; });
  }
};

template <class T>
struct ScatterRow {
  View<const T> y;
  const Index* rows;
  View<T> x;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index b) const {
    const T* from = y.row(b);
    T* to = x.row(rows[b]);
    team.each(y.cols, [=](Index j) { to[j] = from[j]; });
  }
};

template <class T>
struct RoundRow {
  View<const T> x;
  View<Bfloat16> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(y.cols, [from = x.row(i), to = y.row(i)](Index j) { to[j] = Bfloat16(static_cast<float>(value_of(from[j]))); });
  }
};

template <class T>
struct WidenRow {
  View<const Bfloat16> x;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(y.cols, [from = x.row(i), to = y.row(i)](Index j) { to[j] = T(static_cast<float>(from[j])); });
  }
};

}  // namespace detail

// y_io (N, C) += bias (C) in every row. Its pull-back is column_sum (ops/reduce.hpp).
template <class B, class T>
void add_bias(typename B::Context& ctx, View<const T> bias, View<T> y_io) {
  B::for_each_row(ctx, y_io.rows, y_io.cols, detail::AddBiasRow<T>{bias.data, y_io});
}

// y_io (N, C) += alpha · x (N, C).
template <class B, class T>
void axpy(typename B::Context& ctx, T alpha, View<const T> x, View<T> y_io) {
  B::for_each_row(ctx, y_io.rows, y_io.cols, detail::AxpyRow<T>{alpha, x, y_io});
}

// y (N, C) = m ∘ x (N, C), or += with accumulate; y may be x. Linear with a diagonal matrix: backward is the same call on the gradient.
// Srivastava et al. 2014.
template <class B, class T>
void dropout(typename B::Context& ctx, const DropoutMask& mask, View<const T> x, View<T> y, bool accumulate = false) {
  B::for_each_row(ctx, x.rows, x.cols, detail::DropoutRow<T>{x, mask, y, accumulate});
}

// y (N, C) = x (N, C).
template <class B, class T>
void copy(typename B::Context& ctx, View<const T> x, View<T> y) {
  B::for_each_row(ctx, y.rows, y.cols, detail::CopyRow<T>{x, y});
}

// y (N, C) = x (N, C) rounded to 16 bits.
template <class B, class T>
void round_to_bfloat16(typename B::Context& ctx, View<const T> x, View<Bfloat16> y) {
  B::for_each_row(ctx, y.rows, y.cols, detail::RoundRow<T>{x, y});
}

// y (N, C) = x (N, C) of 16 bits.
template <class B, class T>
void widen_from_bfloat16(typename B::Context& ctx, View<const Bfloat16> x, View<T> y) {
  B::for_each_row(ctx, y.rows, y.cols, detail::WidenRow<T>{x, y});
}

// y (B, C) = the rows rows[0..B) of x (N, C).
template <class B, class T>
void gather_rows(typename B::Context& ctx, View<const T> x, const Index* rows, View<T> y) {
  B::for_each_row(ctx, y.rows, y.cols, detail::GatherRow<T>{x, rows, y});
}

// Pull-back of gather_rows: x (N, C) = 0 except the rows rows[b] = y (b, C); the rows are distinct.
template <class B, class T>
void scatter_rows(typename B::Context& ctx, View<const T> y, const Index* rows, View<T> x) {
  B::fill(ctx, x, T(0));
  B::for_each_row(ctx, y.rows, y.cols, detail::ScatterRow<T>{y, rows, x});
}

}  // namespace deltatune::ops
