// Status codes of the CUDA runtime and of cuBLAS as Errors.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <string>

#include "deltatune/core/error.hpp"

namespace deltatune::detail {

// `what`: the call that answered. Failures of a kernel come up at a later call: the message says where they were seen.
inline void cuda_check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::string remedy;
  if (status == cudaErrorMemoryAllocation) remedy = "use a smaller batch or max_length, or free memory of the device";
  if (status == cudaErrorNoDevice) remedy = "this machine has no CUDA device; use the CPU";
  if (status == cudaErrorInsufficientDriver) remedy = "no NVIDIA driver, or one too old for this CUDA runtime; use the CPU or update the driver";
  throw Error("CUDA", std::string(what) + " failed", {.got = std::string(cudaGetErrorName(status)) + ", " + cudaGetErrorString(status), .remedy = remedy});
}

inline void cublas_check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error("cuBLAS", std::string(what) + " failed", {.got = cublasGetStatusString(status)});
}

}  // namespace deltatune::detail
