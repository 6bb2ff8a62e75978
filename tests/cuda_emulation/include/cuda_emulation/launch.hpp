// Kernel launches: limits, arguments copied at the call, the kernel late.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_emulation/grid.hpp"
#include "cuda_emulation/stream.hpp"

namespace cuda_emulation {

// What cudaFuncSetAttribute has raised the dynamic shared memory of a kernel to.
inline std::map<const void*, std::size_t>& raised_shared() {
  static auto* bytes = new std::map<const void*, std::size_t>;  // like all tables here never destroyed: destructors of static objects may launch
  return *bytes;
}
inline std::size_t allowed_shared(const void* kernel) {
  const auto raised = raised_shared().find(kernel);
  return raised == raised_shared().end() ? kDefaultShared : raised->second;
}

inline cudaError_t check_shape(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3 grid = config.gridDim;
  const dim3 block = config.blockDim;
  if (kernel == nullptr) return fail(cudaErrorInvalidDeviceFunction, "the kernel is null");
  if (config.numAttrs > 0) return fail(cudaErrorNotSupported, "launch attributes are not emulated");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffU || grid.y > 65535 || grid.z > 65535)
    return fail(cudaErrorInvalidConfiguration, "a grid of " + to_string(grid) + " blocks: 1 to (2147483647, 65535, 65535) are allowed");
  if (block.x == 0 || block.y == 0 || block.z == 0 || block.x > 1024 || block.y > 1024 || block.z > 64 ||
      std::size_t{block.x} * block.y * block.z > kMaxThreads)
    return fail(cudaErrorInvalidConfiguration, "a block of " + to_string(block) + " threads: 1 to (1024, 1024, 64), at most 1024 in all, are allowed");
  if (config.dynamicSmemBytes > allowed_shared(kernel))
    return fail(cudaErrorInvalidValue, std::to_string(config.dynamicSmemBytes) + " bytes of dynamic shared memory, where " +
                                           std::to_string(allowed_shared(kernel)) + " are allowed to " + kernel_name(kernel));
  return cudaSuccess;
}

// Pointers among the arguments of a kernel must be to device or pinned memory. (Inside of structs they are not looked for: the padding of a
// struct may hold anything, also addresses of the stack left there by earlier calls.)
template <class T>
cudaError_t check_argument(const T& argument) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>) {
    const void* pointer = argument;
    if (pointer != nullptr && !device_memory().holds(pointer) && pinned_bytes(pointer) == 0)
      return fail(cudaErrorInvalidValue, "a pointer to host memory (" + to_string(pointer) + ") as an argument of a kernel");
  }
  return cudaSuccess;
}

}  // namespace cuda_emulation

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "as many arguments as the kernel has parameters");
  static_assert((std::is_convertible_v<Arguments&&, Parameters> && ...), "arguments convert to the parameters of the kernel");
  static_assert(((!std::is_reference_v<Parameters> && std::is_trivially_copy_constructible_v<Parameters> && std::is_trivially_destructible_v<Parameters>)&&...),
                "parameters of a kernel are copied to the device as bytes");
  static_assert((sizeof(Parameters) + ... + 0) <= 4096, "parameters of a kernel take at most 4 KB");
  using namespace cuda_emulation;
  struct Job {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  };
  const auto lock = enter();
  if (config == nullptr) return fail(cudaErrorInvalidValue, "no launch configuration");
  const void* function = reinterpret_cast<const void*>(kernel);
  if (const cudaError_t error = check_shape(*config, function); error != cudaSuccess) return error;
  cudaStream_t stream = nullptr;
  if (const cudaError_t error = stream_for(config->stream, stream); error != cudaSuccess) return error;
  auto job = std::make_shared<const Job>(Job{kernel, std::tuple<Parameters...>(static_cast<Parameters>(std::forward<Arguments>(arguments))...)});
  const cudaError_t bad = std::apply(
      [](const Parameters&... parameters) {
        cudaError_t first = cudaSuccess;
        ((first = first == cudaSuccess ? check_argument(parameters) : first), ...);
        return first;
      },
      job->arguments);
  if (bad != cudaSuccess) return bad;

  ++counters().kernels;
  if (detail::launch_record().on) detail::launch_record().list.push_back({function, config->gridDim, config->blockDim, config->dynamicSmemBytes});
  Launch launch{function,
                config->gridDim,
                config->blockDim,
                config->dynamicSmemBytes,
                [](const void* j) {
                  const Job& call = *static_cast<const Job*>(j);
                  std::apply(call.kernel, call.arguments);
                },
                job.get()};
  streams().add(stream, {NodeKind::kernel, function, "", [launch, job] {
                           static_cast<void>(job);
                           run_kernel(launch);
                         }});
  return cudaSuccess;
}

template <class T>
cudaError_t cudaFuncSetAttribute(T* kernel, cudaFuncAttribute attribute, int value) {
  using namespace cuda_emulation;
  const auto lock = enter();
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<std::size_t>(value) > shared_limit())
    return fail(cudaErrorInvalidValue, std::to_string(value) + " bytes of dynamic shared memory: the device has " + std::to_string(shared_limit()));
  raised_shared()[reinterpret_cast<const void*>(kernel)] = static_cast<std::size_t>(value);
  return cudaSuccess;
}

template <class T>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, T* kernel) {
  using namespace cuda_emulation;
  const auto lock = enter();
  *attributes = {};
  attributes->maxThreadsPerBlock = static_cast<int>(kMaxThreads);
  attributes->numRegs = 32;
  attributes->ptxVersion = 90;
  attributes->binaryVersion = 90;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(allowed_shared(reinterpret_cast<const void*>(kernel)));
  return cudaSuccess;
}

template <class T>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, T* kernel, int threads, std::size_t shared_bytes) {
  using namespace cuda_emulation;
  const auto lock = enter();
  if (threads <= 0 || threads > static_cast<int>(kMaxThreads)) return fail(cudaErrorInvalidValue, "a block of " + std::to_string(threads) + " threads");
  const int by_threads = 2048 / ((threads + 31) / 32 * 32);
  const int by_shared = static_cast<int>((std::size_t{228} << 10) / (shared_bytes + 1024));
  *blocks = shared_bytes > allowed_shared(reinterpret_cast<const void*>(kernel)) ? 0 : std::min({32, by_threads, by_shared});
  return cudaSuccess;
}
