// AdamW: Adam with weight decay taken off the parameter itself. Loshchilov and Hutter 2019, arXiv 1711.05101; PyTorch's order of operations.
// η is the learning rate times the factor of the parameter.
//
//   p ← p (1 − η λ);   m ← β₁ m + (1 − β₁) g;   v ← β₂ v + (1 − β₂) g²
//   p ← p − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
#pragma once

#include "deltatune/core/scalar.hpp"
#include "deltatune/ops/chunk.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

// The numbers of one update, the same for all parameters.
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

// The same numbers as an element needs them.
template <class T>
struct AdamWChunk {
  ParameterChunks<T> chunks;
  const T* gradient_scale;  // one value: clipping; NaN: no update
  T* first_io;
  T* second_io;
  double learning_rate, weight_decay, correction1;
  T beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, correction2_root;

  AdamWChunk(const AdamWStep& step, const ParameterChunks<T>& all, const T* scale, T* first, T* second)
      : chunks(all),
        gradient_scale(scale),
        first_io(first),
        second_io(second),
        learning_rate(step.learning_rate),
        weight_decay(step.weight_decay),
        correction1(step.correction1),
        beta1(T(step.beta1)),
        one_minus_beta1(T(1.0 - step.beta1)),
        beta2(T(step.beta2)),
        one_minus_beta2(T(1.0 - step.beta2)),
        epsilon(T(step.epsilon)),
        correction2_root(T(step.correction2_root)) {}

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index c) const {
    const T scale = *gradient_scale;
    if (!isfinite(scale)) return;
    const ParameterChunk<T> chunk = chunks.data[c];
    const double eta = learning_rate * chunk.rate_factor;
    const T keep = chunk.decays ? T(1.0 - eta * weight_decay) : T(1);
    const T rate = T(eta / correction1);
    T* DELTATUNE_RESTRICT value = chunk.value;
    T* DELTATUNE_RESTRICT first = first_io + chunk.flat;
    T* DELTATUNE_RESTRICT second = second_io + chunk.flat;
    const T* DELTATUNE_RESTRICT gradient = chunk.gradient;
    const AdamWChunk& a = *this;
    const auto updated = [=, &a](Index j) {
      const T g = gradient[j] * scale;
      const T m = a.beta1 * first[j] + a.one_minus_beta1 * g;
      const T v = a.beta2 * second[j] + a.one_minus_beta2 * g * g;
      first[j] = m;
      second[j] = v;
      return value[j] * keep - rate * m / (sqrt(v) / a.correction2_root + a.epsilon);
    };
    if (chunk.mask == nullptr) {
      team.each(chunk.count, [=](Index j) { value[j] = updated(j); });
    } else {
      team.each(chunk.count, [=](Index j) {
        const T moved = updated(j);
        value[j] = chunk.trains(j) ? moved : value[j];
      });
    }
  }
};

}  // namespace detail

// One update of the values of all chunks. first_io, second_io: the moments of all elements, where ParameterChunk::flat says. gradient_scale (1);
// where it is NaN nothing changes. Elements that a mask freezes keep their bits.
template <class B, class T>
void adamw(typename B::Context& ctx, const AdamWStep& step, const ParameterChunks<T>& chunks, View<const T> gradient_scale, View<T> first_io,
           View<T> second_io) {
  B::for_each_row(ctx, chunks.count, ParameterChunk<T>::kElements, detail::AdamWChunk<T>(step, chunks, gradient_scale.data, first_io.data, second_io.data));
}

}  // namespace deltatune::ops
