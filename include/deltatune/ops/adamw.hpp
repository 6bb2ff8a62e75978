// AdamW: Adam with weight decay taken off the parameter itself. Loshchilov and Hutter 2019, arXiv 1711.05101; PyTorch's order of operations.
//
//   p ← p (1 − η λ);   m ← β₁ m + (1 − β₁) g;   v ← β₂ v + (1 − β₂) g²
//   p ← p − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
#pragma once

#include "deltatune/core/scalar.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

// The numbers of one update, the same for all elements of a parameter.
struct AdamWStep {
  double learning_rate;
  double beta1;
  double beta2;
  double epsilon;
  double weight_decay;
  double correction1;       // 1 − β₁ᵗ
  double correction2_root;  // √(1 − β₂ᵗ)
};

namespace detail {

template <class T>
struct AdamWElement {
  AdamWStep step;
  const T* gradient;
  const T* gradient_scale;  // one value: clipping
  const T* mask;            // nullptr: every element trains
  Index mask_span;          // elements that share one mask value
  T* value_io;
  T* first_io;
  T* second_io;

  DELTATUNE_INLINE void operator()(Index i) const {
    const T g = gradient[i] * *gradient_scale;
    const T m = T(step.beta1) * first_io[i] + T(1.0 - step.beta1) * g;
    const T v = T(step.beta2) * second_io[i] + T(1.0 - step.beta2) * g * g;
    const T decayed = value_io[i] * T(1.0 - step.learning_rate * step.weight_decay);
    const T updated = decayed - T(step.learning_rate / step.correction1) * m / (sqrt(v) / T(step.correction2_root) + T(step.epsilon));
    first_io[i] = m;
    second_io[i] = v;
    value_io[i] = mask == nullptr || mask[i / mask_span] != T(0) ? updated : value_io[i];
  }
};

}  // namespace detail

// value_io, first_io, second_io and gradient: the same shape. gradient_scale (1). mask: empty, or one value for every `mask_span` elements;
// where it is 0 the parameter keeps its bits.
template <class B, class T>
void adamw(typename B::Context& ctx, const AdamWStep& step, View<const T> gradient, View<const T> gradient_scale, View<const T> mask, Index mask_span,
           View<T> value_io, View<T> first_io, View<T> second_io) {
  B::for_each(ctx, gradient.size(),
              detail::AdamWElement<T>{step, gradient.data, gradient_scale.data, mask.data, mask_span, value_io.data, first_io.data, second_io.data});
}

}  // namespace deltatune::ops
