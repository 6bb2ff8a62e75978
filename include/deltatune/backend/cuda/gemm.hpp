// Matrix products by cuBLAS.
#pragma once

#include <cublas_v2.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include "deltatune/backend/cuda/error.hpp"
#include "deltatune/backend/gemm.hpp"

namespace deltatune::detail {

// cuBLAS reads matrices by columns. A row-major (r, c) matrix with rows `stride` apart is the column-major (c, r) one with that leading
// dimension, so c = op(a)·op(b) is asked for as cᵀ = op(b)ᵀ·op(a)ᵀ: operands swapped, m and n swapped, nothing transposed in memory.
inline void cublas_gemm(cublasHandle_t handle, cublasComputeType_t compute, const Gemm<float>& p) {
  const auto extent = [](Index value) {
    if (value > std::numeric_limits<int>::max()) throw Error("cuBLAS", "a matrix is too large", {.expected = "at most 2^31 - 1 rows, columns and stride"});
    return static_cast<int>(value);
  };
  // A single row may have any stride, but cuBLAS wants one that holds the row.
  const auto leading = [&](const auto& view) { return extent(view.stride > view.cols ? view.stride : view.cols); };
  cublas_check(cublasGemmEx(handle, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, extent(p.n()), extent(p.m()),
                            extent(p.k()), &p.alpha, p.b.data, CUDA_R_32F, leading(p.b), p.a.data, CUDA_R_32F, leading(p.a), &p.beta, p.c.data, CUDA_R_32F,
                            leading(p.c), compute, CUBLAS_GEMM_DEFAULT),
               "a matrix product");
}

}  // namespace deltatune::detail
