// Loops that must become packed instructions at -O3 with no further flags; check_vectorisation.cmake reads their assembly.
#include "deltatune/core/random.hpp"
#include "deltatune/core/scalar.hpp"

using deltatune::Index;

extern "C" {

void loop_exp(const float* __restrict__ x, float* __restrict__ y, Index n) {
  for (Index i = 0; i < n; ++i) y[i] = deltatune::math::exp(x[i]);
}

void loop_gelu(const float* __restrict__ x, float* __restrict__ y, Index n) {
  for (Index i = 0; i < n; ++i) y[i] = 0.5f * x[i] * (1.0f + deltatune::math::erf(x[i] * 0.70710678f));
}

void loop_gelu_new(const float* __restrict__ x, float* __restrict__ y, Index n) {
  for (Index i = 0; i < n; ++i) {
    y[i] = 0.5f * x[i] * (1.0f + deltatune::math::tanh(0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
  }
}

void loop_sqrt(const float* __restrict__ x, float* __restrict__ y, Index n) {
  for (Index i = 0; i < n; ++i) y[i] = x[i] / (deltatune::math::sqrt(y[i]) + 1e-8f);
}

void loop_dropout(const deltatune::DropoutMask& dropout, const float* __restrict__ x, float* __restrict__ y, Index n) {
  const deltatune::DropoutMask mask = dropout;
  for (Index i = 0; i < n; ++i) y[i] = x[i] * mask.factor<float>(static_cast<std::uint64_t>(i));
}

}  // extern "C"
