// Layer normalisation of a residual sum, over the last dimension. Ba, Kiros and Hinton 2016, arXiv 1607.06450.
//
//   r = residual + m ∘ branch        (m: dropout mask; branch may be absent)
//   x̂ = (r − mean(r)) / √(var(r) + ε),   y = γ x̂ + β
// Backward keeps x̂ and 1/√(var + ε), not r and not y:
//   dr = (dx̂ − mean(dx̂) − x̂ · mean(dx̂ ∘ x̂)) / √(var + ε),  dx̂ = γ dy;   dγ = Σ_rows dy ∘ x̂,  dβ = Σ_rows dy
// dr is the gradient of the residual; that of the branch is m ∘ dr.
#pragma once

#include "deltatune/core/random.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/ops/scale.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

// One value a row and a column, from a matrix of N rows and C columns: the place in a dropout stream.
DELTATUNE_INLINE std::uint64_t element_index(Index row, Index cols, Index col) { return static_cast<std::uint64_t>(row * cols + col); }

namespace detail {

template <class T>
struct LayerNormForwardRow {
  View<const T> residual;  // (N, C)
  View<const T> branch;    // (N, C) or empty
  DropoutMask dropout;
  const T* gamma;  // (C)
  const T* beta;   // (C)
  double epsilon;
  View<T> normalized;  // (N, C) x̂
  T* inverse_std;      // (N)
  View<T> y;           // (N, C)

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index cols = y.cols;
    const T* x = residual.row(i);
    const T* r = x;
    T* hat = normalized.row(i);
    T* out = y.row(i);
    const T* scale = gamma;
    const T* shift = beta;
    if (branch) {
      const T* add = branch.row(i);
      const DropoutMask mask = dropout;
      if (mask.active()) {
        team.each(cols, [=](Index j) { hat[j] = x[j] + add[j] * mask.template factor<T>(element_index(i, cols, j)); });
      } else {
        team.each(cols, [=](Index j) { hat[j] = x[j] + add[j]; });
      }
      r = hat;
    }
    const T mean = team.sum(cols, [=](Index j) { return r[j]; }) / T(static_cast<double>(cols));
    const T variance = team.sum(cols, [=](Index j) { return (r[j] - mean) * (r[j] - mean); }) / T(static_cast<double>(cols));
    const T inverse = T(1) / sqrt(variance + T(epsilon));
    team.each(cols, [=](Index j) {
      const T value = (r[j] - mean) * inverse;
      hat[j] = value;
      out[j] = scale[j] * value + shift[j];
    });
    team.each(1, [&](Index) { inverse_std[i] = inverse; });
  }
};

template <class T>
struct LayerNormBackwardRow {
  View<const T> dy;          // (N, C)
  View<const T> normalized;  // (N, C)
  const T* inverse_std;      // (N)
  const T* gamma;            // (C)
  View<T> dr;                // (N, C), may be dy itself
  View<T> d_branch;          // (N, C) or empty
  DropoutMask dropout;
  bool accumulate;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index cols = dr.cols;
    const T* dout = dy.row(i);
    const T* hat = normalized.row(i);
    const T* scale = gamma;
    T* to = dr.row(i);
    const T inverse = inverse_std[i];
    const T mean = team.sum(cols, [=](Index j) { return scale[j] * dout[j]; }) / T(static_cast<double>(cols));
    const T slope = team.sum(cols, [=](Index j) { return scale[j] * dout[j] * hat[j]; }) / T(static_cast<double>(cols));
    if (accumulate) return team.each(cols, [=](Index j) { to[j] = to[j] + (scale[j] * dout[j] - mean - hat[j] * slope) * inverse; });
    team.each(cols, [=](Index j) { to[j] = (scale[j] * dout[j] - mean - hat[j] * slope) * inverse; });
    if (d_branch) {
      T* branch = d_branch.row(i);
      const DropoutMask mask = dropout;
      team.each(cols, [=](Index j) { branch[j] = to[j] * mask.template factor<T>(element_index(i, cols, j)); });
    }
  }
};

template <class T>
struct ScaleShiftRow {
  View<const T> normalized;
  const T* gamma;
  const T* beta;
  DropoutMask dropout;
  View<T> y;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index cols = y.cols;
    const T* hat = normalized.row(i);
    T* out = y.row(i);
    const T* scale = gamma;
    const T* shift = beta;
    const DropoutMask mask = dropout;
    if (mask.active()) {
      team.each(cols, [=](Index j) { out[j] = (scale[j] * hat[j] + shift[j]) * mask.template factor<T>(element_index(i, cols, j)); });
    } else {
      team.each(cols, [=](Index j) { out[j] = scale[j] * hat[j] + shift[j]; });
    }
  }
};

}  // namespace detail

// residual (N, C), branch (N, C) or empty -> y (N, C); keeps normalized (N, C) and inverse_std (N, 1) for backward.
template <class B, class T>
void layer_norm_forward(typename B::Context& ctx, View<const T> residual, View<const T> branch, const DropoutMask& dropout, View<const T> gamma,
                        View<const T> beta, double epsilon, View<T> y, View<T> normalized, View<T> inverse_std) {
  B::for_each_row(ctx, y.rows, y.cols,
                  detail::LayerNormForwardRow<T>{residual, branch, dropout, gamma.data, beta.data, epsilon, normalized, inverse_std.data, y});
}

// dy (N, C) -> dr (N, C), overwritten, may be dy; d_branch (N, C), overwritten, or empty where there is no branch to go into.
// accumulate: dr is added to; for no branch, and another dr than dy.
template <class B, class T>
void layer_norm_backward(typename B::Context& ctx, View<const T> dy, View<const T> normalized, View<const T> inverse_std, View<const T> gamma,
                         const DropoutMask& dropout, View<T> dr, View<T> d_branch, bool accumulate = false) {
  B::for_each_row(ctx, dr.rows, dr.cols, detail::LayerNormBackwardRow<T>{dy, normalized, inverse_std.data, gamma.data, dr, d_branch, dropout, accumulate});
}

// dgamma (C), dbeta (C): accumulated; either may be empty. Run before layer_norm_backward where dr is dy.
template <class B, class T>
void layer_norm_parameter_backward(typename B::Context& ctx, View<const T> dy, View<const T> normalized, View<T> dgamma, View<T> dbeta) {
  if (dgamma) column_dot<B, T>(ctx, dy, normalized, dgamma);
  if (dbeta) column_sum<B, T>(ctx, dy, dbeta);
}

// y = m ∘ (γ x̂ + β): what forward handed on, rebuilt from what it kept.
template <class B, class T>
void scale_shift(typename B::Context& ctx, View<const T> normalized, View<const T> gamma, View<const T> beta, const DropoutMask& dropout, View<T> y) {
  B::for_each_row(ctx, y.rows, y.cols, detail::ScaleShiftRow<T>{normalized, gamma.data, beta.data, dropout, y});
}

}  // namespace deltatune::ops
