// Gated linear units, y = f(a) ∘ g with [a | g] the halves of one row: GLU, GEGLU, SwiGLU and so on by their f (Shazeer 2020, arXiv 2002.05202).
// Pull-back: da = dy ∘ g ∘ f'(a), dg = dy ∘ f(a).
#pragma once

#include "deltatune/core/scalar.hpp"
#include "deltatune/ops/activation.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

template <class F, class T>
struct GatedForwardRow {
  View<const T> u;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T* DELTATUNE_RESTRICT a = u.row(i);
    const T* DELTATUNE_RESTRICT g = a + y.cols;
    T* DELTATUNE_RESTRICT to = y.row(i);
    team.each(y.cols, [=](Index j) { to[j] = F::value(a[j]) * g[j]; });
  }
};

template <class F, class T>
struct GatedBackwardRow {
  View<const T> u;
  View<const T> dy;
  View<T> du;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T* DELTATUNE_RESTRICT a = u.row(i);
    const T* DELTATUNE_RESTRICT g = a + dy.cols;
    const T* DELTATUNE_RESTRICT from = dy.row(i);
    T* DELTATUNE_RESTRICT da = du.row(i);
    T* DELTATUNE_RESTRICT dg = da + dy.cols;
    // Read before da is written, which for all the compiler knows is a: so what f and f' have in common is computed once.
    team.each(dy.cols, [=](Index j) {
      const T u_j = a[j], g_j = g[j], dy_j = from[j];
      da[j] = dy_j * g_j * F::derivative(u_j);
      dg[j] = dy_j * F::value(u_j);
    });
  }
};

}  // namespace detail

// u (N, 2F) = [a | g] -> y (N, F) = f(a) ∘ g.
template <class B, class T>
void gated_activation_forward(typename B::Context& ctx, Activation activation, View<const T> u, View<T> y) {
  detail::with_activation<T>(activation, [&]<class F>(F) { B::for_each_row(ctx, y.rows, u.cols, detail::GatedForwardRow<F, T>{u, y}); });
}

// du (N, 2F) = [da | dg] from u (N, 2F) and dy (N, F).
template <class B, class T>
void gated_activation_backward(typename B::Context& ctx, Activation activation, View<const T> u, View<const T> dy, View<T> du) {
  detail::with_activation<T>(activation, [&]<class F>(F) { B::for_each_row(ctx, dy.rows, u.cols, detail::GatedBackwardRow<F, T>{u, dy, du}); });
}

}  // namespace deltatune::ops
