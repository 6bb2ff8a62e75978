// What the device makes of large products alone: the best FLOP/s of square ones in each precision, one JSON object on stdout.
//   deltatune_products [LARGEST_SIZE]    default 8192; sizes are that, a half and a quarter
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>

#include "deltatune/backend/cuda.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/tensor/tensor.hpp"

namespace {

using namespace deltatune;
using X = Tensor<float, Cuda>;

struct FillUniform {
  float* x;
  RandomKey key;
  DELTATUNE_HD void operator()(Index i) const { x[i] = uniform(key, static_cast<std::uint64_t>(i)) - 0.5F; }
};

X random_matrix(Cuda::Context& ctx, Index size, std::uint64_t seed) {
  X matrix(ctx, {size, size});
  Cuda::for_each(ctx, size * size, FillUniform{matrix.view().data, derive(seed)});
  return matrix;
}

// FLOP/s of the fastest of five measurements of several products in a row.
template <class In>
double speed(Cuda::Context& ctx, const Gemm<float, In>& product) {
  constexpr int kInRow = 8;
  const double flops = kInRow * 2.0 * static_cast<double>(product.m()) * static_cast<double>(product.n()) * static_cast<double>(product.k());
  double best = 0;
  for (int i = 0; i < 6; ++i) {
    Cuda::synchronize(ctx);
    const auto start = std::chrono::steady_clock::now();
    for (int j = 0; j < kInRow; ++j) Cuda::gemm(ctx, product);
    Cuda::synchronize(ctx);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (i > 0) best = std::max(best, flops / seconds);
  }
  return best;
}

double best_of(Index largest, bool tf32, bool bf16) {
  Cuda::Context ctx({.device = 0, .tf32 = tf32});
  double best = 0;
  for (const Index size : {largest, largest / 2, largest / 4}) {
    const X a = random_matrix(ctx, size, 1), b = random_matrix(ctx, size, 2);
    X c(ctx, {size, size});
    if (!bf16) {
      best = std::max(best, speed(ctx, Gemm<float>{.a = a.view(), .b = b.view(), .c = c.view(), .transpose_b = true}));
      continue;
    }
    Tensor<Bfloat16, Cuda> a16(ctx, {size, size}), b16(ctx, {size, size});
    ops::round_to_bfloat16<Cuda, float>(ctx, a.view(), a16.view());
    ops::round_to_bfloat16<Cuda, float>(ctx, b.view(), b16.view());
    best = std::max(best, speed(ctx, Gemm<float, Bfloat16>{.a = a16.view(), .b = b16.view(), .c = c.view(), .transpose_b = true}));
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Index largest = std::max<Index>(16, argc > 1 ? std::atol(argv[1]) : 8192);
    std::cout << "{\"float32\": " << best_of(largest, false, false) << ", \"tf32\": " << best_of(largest, true, false)
              << ", \"bf16\": " << best_of(largest, false, true) << "}\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
