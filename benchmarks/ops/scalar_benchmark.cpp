// The elementary functions and the element-wise loops made of them, beside the C library's; items are floats.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "deltatune/core/random.hpp"
#include "deltatune/core/scalar.hpp"

namespace {

constexpr std::size_t kCount = 4096;  // stays in the first cache: arithmetic is measured, not memory

template <class F>
void run(benchmark::State& state, F f) {
  std::vector<float> x(kCount), y(kCount);
  for (std::size_t i = 0; i < kCount; ++i) x[i] = 8.0f * deltatune::uniform(deltatune::RandomKey{1, 2}, i) - 4.0f;
  for (auto _ : state) {
    const float* __restrict__ from = x.data();
    float* __restrict__ to = y.data();
    for (std::size_t i = 0; i < kCount; ++i) to[i] = f(from[i]);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kCount));
}

void bench_exp(benchmark::State& state) {
  run(state, [](float x) { return deltatune::math::exp(x); });
}
void bench_exp_std(benchmark::State& state) {
  run(state, [](float x) { return std::exp(x); });
}
void bench_tanh(benchmark::State& state) {
  run(state, [](float x) { return deltatune::math::tanh(x); });
}
void bench_tanh_std(benchmark::State& state) {
  run(state, [](float x) { return std::tanh(x); });
}
void bench_erf(benchmark::State& state) {
  run(state, [](float x) { return deltatune::math::erf(x); });
}
void bench_erf_std(benchmark::State& state) {
  run(state, [](float x) { return std::erf(x); });
}
void bench_sqrt(benchmark::State& state) {
  run(state, [](float x) { return deltatune::math::sqrt(x * x); });
}
void bench_sqrt_std(benchmark::State& state) {
  run(state, [](float x) { return std::sqrt(x * x); });
}
void bench_gelu(benchmark::State& state) {
  run(state, [](float x) { return 0.5f * x * (1.0f + deltatune::math::erf(x * 0.70710678f)); });
}
void bench_gelu_std(benchmark::State& state) {
  run(state, [](float x) { return 0.5f * x * (1.0f + std::erf(x * 0.70710678f)); });
}

void bench_dropout(benchmark::State& state) {
  const deltatune::DropoutMask mask(deltatune::derive(1, 2), 0.1);
  std::vector<float> x(kCount, 1.0f);
  for (auto _ : state) {
    float* data = x.data();
    for (std::size_t i = 0; i < kCount; ++i) data[i] *= mask.factor<float>(i);
    benchmark::DoNotOptimize(x.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kCount));
}

}  // namespace

BENCHMARK(bench_exp)->Name("exp/deltatune");
BENCHMARK(bench_exp_std)->Name("exp/std");
BENCHMARK(bench_tanh)->Name("tanh/deltatune");
BENCHMARK(bench_tanh_std)->Name("tanh/std");
BENCHMARK(bench_erf)->Name("erf/deltatune");
BENCHMARK(bench_erf_std)->Name("erf/std");
BENCHMARK(bench_sqrt)->Name("sqrt/deltatune");
BENCHMARK(bench_sqrt_std)->Name("sqrt/std");
BENCHMARK(bench_gelu)->Name("gelu/deltatune");
BENCHMARK(bench_gelu_std)->Name("gelu/std");
BENCHMARK(bench_dropout)->Name("dropout/deltatune");
