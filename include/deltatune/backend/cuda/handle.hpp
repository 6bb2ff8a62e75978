// Owners of what the CUDA runtime and cuBLAS hand out.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "deltatune/backend/cuda/error.hpp"

namespace deltatune::detail {

// A handle that is destroyed once. Destroy: a function of the handle whose status is ignored, as destructors must.
template <class Handle, auto Destroy>
class CudaOwner {
 public:
  CudaOwner() = default;
  explicit CudaOwner(Handle handle) : handle_(handle) {}
  CudaOwner(CudaOwner&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
  CudaOwner& operator=(CudaOwner&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  CudaOwner(const CudaOwner&) = delete;
  CudaOwner& operator=(const CudaOwner&) = delete;
  ~CudaOwner() {
    if (handle_ != Handle{}) static_cast<void>(Destroy(handle_));
  }
  Handle get() const { return handle_; }
  explicit operator bool() const { return handle_ != Handle{}; }

 private:
  Handle handle_{};
};

using CudaStream = CudaOwner<cudaStream_t, cudaStreamDestroy>;
using CudaEvent = CudaOwner<cudaEvent_t, cudaEventDestroy>;
using CudaPool = CudaOwner<cudaMemPool_t, cudaMemPoolDestroy>;
using CudaGraph = CudaOwner<cudaGraph_t, cudaGraphDestroy>;
using CudaGraphExec = CudaOwner<cudaGraphExec_t, cudaGraphExecDestroy>;
using CudaPinned = CudaOwner<void*, cudaFreeHost>;
using CublasHandle = CudaOwner<cublasHandle_t, cublasDestroy>;

inline CudaStream make_stream() {
  cudaStream_t stream{};
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return CudaStream(stream);
}
inline CudaEvent make_event() {
  cudaEvent_t event{};
  cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  return CudaEvent(event);
}
// A pool of this device that keeps what is given back.
inline CudaPool make_pool(int device) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool{};
  cuda_check(cudaMemPoolCreate(&pool, &properties), "cudaMemPoolCreate");
  CudaPool owner(pool);
  unsigned long long keep = ~0ULL;
  cuda_check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
  return owner;
}
inline CudaPinned make_pinned(std::size_t bytes) {
  void* memory = nullptr;
  cuda_check(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "cudaHostAlloc");
  return CudaPinned(memory);
}
inline CublasHandle make_cublas() {
  cublasHandle_t handle{};
  cublas_check(cublasCreate(&handle), "cublasCreate");
  return CublasHandle(handle);
}

}  // namespace deltatune::detail
