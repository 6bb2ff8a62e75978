// Matrix products by cuBLAS.
#pragma once

#include <cublas_v2.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include "deltatune/backend/cuda/error.hpp"
#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/half.hpp"

namespace deltatune::detail {

// cuBLAS reads matrices by columns. A row-major (r, c) matrix with rows `stride` apart is the column-major (c, r) one with that leading
// dimension, so c = op(a)·op(b) is asked for as cᵀ = op(b)ᵀ·op(a)ᵀ: operands swapped, m and n swapped, nothing transposed in memory.
template <class In>
void cublas_gemm(cublasHandle_t handle, cublasComputeType_t compute, const Gemm<float, In>& p) {
  constexpr cudaDataType_t kType = std::is_same_v<In, float> ? CUDA_R_32F : CUDA_R_16BF;
  const auto extent = [](Index value) {
    if (value > std::numeric_limits<int>::max()) throw Error("cuBLAS", "a matrix is too large", {.expected = "at most 2^31 - 1 rows, columns and stride"});
    return static_cast<int>(value);
  };
  // A single row may have any stride, but cuBLAS wants one that holds the row.
  const auto leading = [&](const auto& view) { return extent(view.stride > view.cols ? view.stride : view.cols); };
  cublas_check(cublasGemmEx(handle, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, extent(p.n()), extent(p.m()),
                            extent(p.k()), &p.alpha, p.b.data, kType, leading(p.b), p.a.data, kType, leading(p.a), &p.beta, p.c.data, CUDA_R_32F, leading(p.c),
                            compute, CUBLAS_GEMM_DEFAULT),
               "a matrix product");
}

}  // namespace deltatune::detail
