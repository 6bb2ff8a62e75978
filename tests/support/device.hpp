// The backend that a test program is about: the CPU, or CUDA where DELTATUNE_TEST_CUDA is defined (tests/cuda: the same tests, compiled by nvcc).
#pragma once

#include <vector>

#include "deltatune/tensor/tensor_trait.hpp"
#ifdef DELTATUNE_TEST_CUDA
#include "deltatune/backend/cuda.hpp"
#else
#include "deltatune/backend/cpu.hpp"
#endif

namespace deltatune::test {

#ifdef DELTATUNE_TEST_CUDA
using Device = Cuda;
#else
using Device = DefaultCpu;
#endif
using DeviceTensor = Tensor<float, Device>;

// A context for so many threads, where the backend has threads.
struct DeviceContext : Device::Context {
#ifdef DELTATUNE_TEST_CUDA
  explicit DeviceContext(int = 0) {}
#else
  explicit DeviceContext(int threads = 0) : Device::Context(threads) {}
#endif
};

// A matrix of a backend on the host, row-major.
template <class X>
std::vector<scalar_of<X>> on_host(context_of<X>& ctx, View<const scalar_of<X>> values) {
  using T = scalar_of<X>;
  std::vector<T> host(static_cast<std::size_t>(values.size()));
  for (Index i = 0; i < values.rows; ++i)
    backend_of<X>::copy_out(ctx, values.row(i), host.data() + i * values.cols, values.cols * static_cast<Index>(sizeof(T)));
  backend_of<X>::synchronize(ctx);
  return host;
}

// And back.
template <class X>
void from_host(context_of<X>& ctx, const std::vector<scalar_of<X>>& host, View<scalar_of<X>> values) {
  for (Index i = 0; i < values.rows; ++i)
    backend_of<X>::copy_in(ctx, host.data() + i * values.cols, values.row(i), values.cols * static_cast<Index>(sizeof(scalar_of<X>)));
}

}  // namespace deltatune::test
