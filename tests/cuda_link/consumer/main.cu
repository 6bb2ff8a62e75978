#include <cstdio>
#include <deltatune/backend/cuda.hpp>
#include <deltatune/tensor/tensor.hpp>

int main() {
  using deltatune::Cuda;
  try {
    Cuda::Context ctx;
    deltatune::Tensor<float, Cuda> x(ctx, {4});
    Cuda::fill(ctx, x.view(), 42.0F);
    float values[4] = {};
    Cuda::copy_out(ctx, x.view().data, values, x.bytes());
    Cuda::synchronize(ctx);
    std::printf("%g\n", static_cast<double>(values[3]));
    return values[3] == 42.0F ? 0 : 1;
  } catch (const deltatune::Error& error) {
    std::puts(error.what());
    return 1;
  }
}
