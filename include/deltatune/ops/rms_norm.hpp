// Root mean square normalisation of G groups of D columns: a whole row as in Llama (G = 1), or every head of it as in Qwen 3.
// Zhang and Sennrich 2019, arXiv 1910.07467; the offset o of the weight is 1 in Gemma, else 0.
//
//   x̂ = x / √(mean(x²) + ε),   y = (o + γ) ∘ x̂
// Backward keeps x̂ and 1/√(mean(x²) + ε), not x and not y:
//   dx = (dx̂ − x̂ · mean(dx̂ ∘ x̂)) / √(mean(x²) + ε),  dx̂ = (o + γ) ∘ dy;   dγ = Σ over rows and groups of dy ∘ x̂
#pragma once

#include "deltatune/core/random.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

// γ, what is added to it, and how many groups of columns a row has.
template <class T>
struct RmsWeight {
  View<const T> gamma;  // (D)
  double offset = 0;
  Index groups = 1;  // G
};

namespace detail {

template <class T>
struct RmsNormForwardRow {
  View<const T> x;  // (N, G·D)
  RmsWeight<T> weight;
  double epsilon;
  View<T> normalized;  // (N, G·D) x̂
  View<T> inverse;     // (N, G)
  View<T> y;           // (N, G·D)

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index width = weight.gamma.cols;
    const T* scale = weight.gamma.data;
    const T offset = T(weight.offset);
    for (Index g = 0; g < weight.groups; ++g) {
      const T* from = x.row(i) + g * width;
      T* hat = normalized.row(i) + g * width;
      T* to = y.row(i) + g * width;
      const T mean = team.sum(width, [=](Index j) { return from[j] * from[j]; }) / T(static_cast<double>(width));
      const T factor = T(1) / sqrt(mean + T(epsilon));
      team.each(width, [=](Index j) {
        const T value = from[j] * factor;
        hat[j] = value;
        to[j] = (offset + scale[j]) * value;
      });
      team.each(1, [&](Index) { inverse(i, g) = factor; });
    }
  }
};

template <class T>
struct RmsNormBackwardRow {
  View<const T> dy;          // (N, G·D)
  View<const T> normalized;  // (N, G·D)
  View<const T> inverse;     // (N, G)
  RmsWeight<T> weight;
  View<T> dx;  // (N, G·D), may be dy itself
  bool accumulate;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index width = weight.gamma.cols;
    const T* scale = weight.gamma.data;
    const T offset = T(weight.offset);
    for (Index g = 0; g < weight.groups; ++g) {
      const T* dout = dy.row(i) + g * width;
      const T* hat = normalized.row(i) + g * width;
      T* to = dx.row(i) + g * width;
      const T factor = inverse(i, g);
      const T slope = team.sum(width, [=](Index j) { return (offset + scale[j]) * dout[j] * hat[j]; }) / T(static_cast<double>(width));
      if (accumulate) {
        team.each(width, [=](Index j) { to[j] = to[j] + ((offset + scale[j]) * dout[j] - hat[j] * slope) * factor; });
      } else {
        team.each(width, [=](Index j) { to[j] = ((offset + scale[j]) * dout[j] - hat[j] * slope) * factor; });
      }
    }
  }
};

template <class T>
struct RmsScaleRow {
  View<const T> normalized;
  RmsWeight<T> weight;
  View<T> y;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index width = weight.gamma.cols;
    const T* scale = weight.gamma.data;
    const T offset = T(weight.offset);
    for (Index g = 0; g < weight.groups; ++g)
      team.each(width, [=, hat = normalized.row(i) + g * width, to = y.row(i) + g * width](Index j) { to[j] = (offset + scale[j]) * hat[j]; });
  }
};

// Group g of row i is row i·G + g.
template <class T>
struct GroupProductElement {
  View<const T> a, b;
  Index groups, width;
  DELTATUNE_INLINE T operator()(Index i, Index j) const {
    const Index row = i / groups, col = i % groups * width + j;
    return a(row, col) * b(row, col);
  }
};

}  // namespace detail

// x (N, G·D) -> y (N, G·D), which may be x; keeps normalized (N, G·D) and inverse (N, G) for backward.
template <class B, class T>
void rms_norm_forward(typename B::Context& ctx, View<const T> x, const RmsWeight<T>& weight, double epsilon, View<T> y, View<T> normalized, View<T> inverse) {
  B::for_each_row(ctx, y.rows, y.cols, detail::RmsNormForwardRow<T>{x, weight, epsilon, normalized, inverse, y});
}

// dy (N, G·D) -> dx (N, G·D), overwritten, may be dy. accumulate: dx is added to, and is another one than dy.
template <class B, class T>
void rms_norm_backward(typename B::Context& ctx, View<const T> dy, View<const T> normalized, View<const T> inverse, const RmsWeight<T>& weight, View<T> dx,
                       bool accumulate = false) {
  B::for_each_row(ctx, dx.rows, dx.cols, detail::RmsNormBackwardRow<T>{dy, normalized, inverse, weight, dx, accumulate});
}

// dgamma_io (D): accumulated. Run before rms_norm_backward where dx is dy.
template <class B, class T>
void rms_norm_parameter_backward(typename B::Context& ctx, View<const T> dy, View<const T> normalized, Index groups, View<T> dgamma_io) {
  B::sum_rows(ctx, dy.rows * groups, dgamma_io.cols, detail::GroupProductElement<T>{dy, normalized, groups, dgamma_io.cols}, dgamma_io.data);
}

// y = (o + γ) ∘ x̂: what forward handed on, rebuilt from what it kept.
template <class B, class T>
void rms_scale(typename B::Context& ctx, View<const T> normalized, const RmsWeight<T>& weight, View<T> y) {
  B::for_each_row(ctx, y.rows, y.cols, detail::RmsScaleRow<T>{normalized, weight, y});
}

}  // namespace deltatune::ops
