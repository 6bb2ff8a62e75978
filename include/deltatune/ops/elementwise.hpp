// Passes over rows without mathematics of their own: bias, addition, scaling, dropout, copies, gathering and scattering rows.
#pragma once

#include <cstdint>
#include <type_traits>

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

// The same number in another precision.
template <class To, class From>
DELTATUNE_INLINE To converted(const From& x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, Bfloat16>) {
    return To(static_cast<float>(x));
  } else {
    return To(static_cast<float>(value_of(x)));
  }
}

template <class In, class Out, class From, class To>
struct CopyRow {
  View<const In> x;
  From from;
  View<Out> y;
  To to;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(y.cols, [a = x.row(from(i)), b = y.row(to(i))](Index j) { b[j] = converted<Out>(a[j]); });
  }
};

}  // namespace detail

// Where row i of a copy comes from, or goes to.
struct SameRow {
  DELTATUNE_HD Index operator()(Index i) const { return i; }
};
struct ListedRow {
  const Index* rows;
  DELTATUNE_HD Index operator()(Index i) const { return rows[i]; }
};

// Row to(i) of y = row from(i) of x, for i = 0 ... count − 1.
template <class B, class In, class Out, class From, class To>
void copy_rows(typename B::Context& ctx, Index count, View<const In> x, const From& from, View<Out> y, const To& to) {
  B::for_each_row(ctx, count, y.cols, detail::CopyRow<In, Out, From, To>{x, from, y, to});
}

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
  copy_rows<B>(ctx, y.rows, x, SameRow{}, y, SameRow{});
}

// y (N, C) = x (N, C) rounded to 16 bits.
template <class B, class T>
void round_to_bfloat16(typename B::Context& ctx, View<const T> x, View<Bfloat16> y) {
  copy_rows<B>(ctx, y.rows, x, SameRow{}, y, SameRow{});
}

// y (N, C) = x (N, C) of 16 bits.
template <class B, class T>
void widen_from_bfloat16(typename B::Context& ctx, View<const Bfloat16> x, View<T> y) {
  copy_rows<B>(ctx, y.rows, x, SameRow{}, y, SameRow{});
}

// y (B, C) = the rows rows[0..B) of x (N, C).
template <class B, class T>
void gather_rows(typename B::Context& ctx, View<const T> x, const Index* rows, View<T> y) {
  copy_rows<B>(ctx, y.rows, x, ListedRow{rows}, y, SameRow{});
}

// Pull-back of gather_rows: x (N, C) = 0 except the rows rows[b] = y (b, C); the rows are distinct.
template <class B, class T>
void scatter_rows(typename B::Context& ctx, View<const T> y, const Index* rows, View<T> x) {
  B::fill(ctx, x, T(0));
  copy_rows<B>(ctx, y.rows, y, SameRow{}, x, ListedRow{rows});
}

}  // namespace deltatune::ops
