// The one place that starts kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "deltatune/backend/cuda/error.hpp"

namespace deltatune::detail {

inline constexpr std::size_t kDefaultSharedBytes = 48 * 1024;  // more must be asked for, kernel by kernel

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
};

// Queues kernel(arguments...) on the stream. Every kernel is known to the runtime by its function, so any number of translation units and
// shared libraries may hold the same one.
template <class... Parameters, class... Arguments>
void launch(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (shape.shared_bytes > kDefaultSharedBytes)
    cuda_check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
               "raising a kernel's shared memory");
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  cuda_check(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), "a kernel launch");
}

}  // namespace deltatune::detail
