// The part of cuBLAS that the library uses: its signatures, its checks of arguments, and more checks than it has. See gemm.hpp for the
// sums.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cuda_emulation/gemm.hpp"

// X(name, value)
#define CUBLAS_EMULATION_STATUSES(X)    \
  X(CUBLAS_STATUS_SUCCESS, 0)           \
  X(CUBLAS_STATUS_NOT_INITIALIZED, 1)   \
  X(CUBLAS_STATUS_ALLOC_FAILED, 3)      \
  X(CUBLAS_STATUS_INVALID_VALUE, 7)     \
  X(CUBLAS_STATUS_ARCH_MISMATCH, 8)     \
  X(CUBLAS_STATUS_MAPPING_ERROR, 11)    \
  X(CUBLAS_STATUS_EXECUTION_FAILED, 13) \
  X(CUBLAS_STATUS_INTERNAL_ERROR, 14)   \
  X(CUBLAS_STATUS_NOT_SUPPORTED, 15)    \
  X(CUBLAS_STATUS_LICENSE_ERROR, 16)

enum cublasStatus_t {
#define CUBLAS_EMULATION_ENUMERATOR(name, value) name = value,
  CUBLAS_EMULATION_STATUSES(CUBLAS_EMULATION_ENUMERATOR)
#undef CUBLAS_EMULATION_ENUMERATOR
};
inline const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
#define CUBLAS_EMULATION_CASE(name, value) \
  case name:                               \
    return #name;
    CUBLAS_EMULATION_STATUSES(CUBLAS_EMULATION_CASE)
#undef CUBLAS_EMULATION_CASE
  }
  return "<unknown>";
}

enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 };
enum cublasPointerMode_t { CUBLAS_POINTER_MODE_HOST = 0, CUBLAS_POINTER_MODE_DEVICE = 1 };
enum cublasMath_t { CUBLAS_DEFAULT_MATH = 0, CUBLAS_TENSOR_OP_MATH = 1, CUBLAS_PEDANTIC_MATH = 2, CUBLAS_TF32_TENSOR_OP_MATH = 3 };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT = -1, CUBLAS_GEMM_DEFAULT_TENSOR_OP = 99 };
enum cublasComputeType_t {
  CUBLAS_COMPUTE_16F = 64,
  CUBLAS_COMPUTE_32F = 68,
  CUBLAS_COMPUTE_32F_PEDANTIC = 69,
  CUBLAS_COMPUTE_32F_FAST_16F = 74,
  CUBLAS_COMPUTE_32F_FAST_16BF = 75,
  CUBLAS_COMPUTE_32F_FAST_TF32 = 77,
  CUBLAS_COMPUTE_64F = 70,
  CUBLAS_COMPUTE_32I = 72
};
enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_64F = 1, CUDA_R_16F = 2, CUDA_R_8I = 3, CUDA_R_32I = 10, CUDA_R_16BF = 14 };
using cudaDataType = cudaDataType_t;

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  void* workspace = nullptr;
};
using cublasHandle_t = cublasContext*;

namespace cuda_emulation {

// One matrix product as it was asked for.
struct GemmCall {
  std::string function;
  cublasOperation_t op_a, op_b;
  int m, n, k;
  const void* a;
  const void* b;
  void* c;
  int lda, ldb, ldc;
  long long stride_a, stride_b, stride_c;
  int batch;
  cudaDataType_t type_a, type_b, type_c;
  cublasComputeType_t compute;
  bool beta_is_zero;  // false where beta is in device memory
};
inline std::vector<GemmCall>& gemm_call_list() {
  static auto* calls = new std::vector<GemmCall>;
  return *calls;
}
inline const std::vector<GemmCall>& gemm_calls() { return gemm_call_list(); }
inline void clear_gemm_calls() { gemm_call_list().clear(); }

inline std::vector<cublasHandle_t>& cublas_handles() {
  static auto* handles = new std::vector<cublasHandle_t>;
  return *handles;
}
inline bool is_handle(cublasHandle_t handle) {
  return std::find(cublas_handles().begin(), cublas_handles().end(), handle) != cublas_handles().end();
}

inline cublasStatus_t blas_fail(cublasStatus_t status, std::string message) {
  last_error().message = std::move(message);
  return status;
}

inline Number number_of(cudaDataType_t type) { return type == CUDA_R_32F ? Number::f32 : type == CUDA_R_16BF ? Number::bf16 : Number::f16; }

inline bool types_supported(const GemmCall& call) {
  if (call.type_a != call.type_b) return false;
  switch (call.type_a) {
    case CUDA_R_32F:
      return call.type_c == CUDA_R_32F && (call.compute == CUBLAS_COMPUTE_32F || call.compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                                           call.compute == CUBLAS_COMPUTE_32F_FAST_TF32);
    case CUDA_R_16BF:
    case CUDA_R_16F:
      return (call.type_c == CUDA_R_32F || call.type_c == call.type_a) &&
             (call.compute == CUBLAS_COMPUTE_32F || call.compute == CUBLAS_COMPUTE_32F_PEDANTIC);
    default:
      return false;
  }
}

// A batch of column-major matrices.
struct Batch {
  const char* data;
  std::ptrdiff_t rows, cols, ld, stride, count, size;
  // From the first to the last element.
  std::size_t bytes() const {
    return rows == 0 || cols == 0 ? 0 : static_cast<std::size_t>(((cols - 1) * ld + rows + (count - 1) * stride) * size);
  }

  using Interval = std::pair<const char*, const char*>;
  std::vector<Interval> columns() const {
    std::vector<Interval> all;
    for (std::ptrdiff_t i = 0; i < count; ++i)
      for (std::ptrdiff_t j = 0; j < cols; ++j) {
        const char* begin = data + (i * stride + j * ld) * size;
        all.emplace_back(begin, begin + rows * size);
      }
    std::sort(all.begin(), all.end());
    return all;
  }
};
// Whether two batches have an element in common. They may share rows of memory, as parts of a concatenated matrix do.
inline bool overlap(const Batch& p, const Batch& q) {
  if (p.bytes() == 0 || q.bytes() == 0 || p.data + p.bytes() <= q.data || q.data + q.bytes() <= p.data) return false;
  const std::vector<Batch::Interval> of_q = q.columns();
  const std::vector<Batch::Interval> of_p = p.columns();
  return std::any_of(of_p.begin(), of_p.end(), [&](const Batch::Interval& column) {
    const auto after = std::lower_bound(of_q.begin(), of_q.end(), Batch::Interval{column.second, nullptr});  // starts behind the column
    return after != of_q.begin() && std::prev(after)->second > column.first;
  });
}
inline bool overlaps_itself(const Batch& c) {
  if (c.count < 2 || c.stride >= (c.cols - 1) * c.ld + c.rows) return false;
  const std::vector<Batch::Interval> columns = c.columns();
  return std::adjacent_find(columns.begin(), columns.end(), [](const auto& x, const auto& y) { return y.first < x.second; }) !=
         columns.end();
}

struct Operands {
  Batch a, b, c;
  std::string text;
};
inline Operands operands(const GemmCall& call) {
  const auto batch = [&](const void* data, int rows, int cols, bool transposed, int ld, long long stride, cudaDataType_t type) {
    return Batch{static_cast<const char*>(data),
                 transposed ? cols : rows,
                 transposed ? rows : cols,
                 ld,
                 static_cast<std::ptrdiff_t>(stride),
                 call.batch,
                 static_cast<std::ptrdiff_t>(bytes_of(number_of(type)))};
  };
  return {batch(call.a, call.m, call.k, call.op_a != CUBLAS_OP_N, call.lda, call.stride_a, call.type_a),
          batch(call.b, call.k, call.n, call.op_b != CUBLAS_OP_N, call.ldb, call.stride_b, call.type_b),
          batch(call.c, call.m, call.n, false, call.ldc, call.stride_c, call.type_c),
          call.function + " of m, n, k = " + std::to_string(call.m) + ", " + std::to_string(call.n) + ", " + std::to_string(call.k)};
}

inline void run_gemm(const GemmCall& call, float alpha, float beta, bool tf32) {
  const Operands all = operands(call);
  const Batch &a = all.a, &b = all.b, &c = all.c;
  const auto need = [&](const Batch& batch, const char* name) {
    device_memory().need(batch.data, batch.bytes(), all.text + ": matrix " + name + " with leading dimension " + std::to_string(batch.ld));
  };
  const std::ptrdiff_t k = alpha != 0.0F ? call.k : 0;
  need(c, "C");
  if (k > 0) need(a, "A"), need(b, "B");
  const bool transpose_a = call.op_a != CUBLAS_OP_N;
  const bool transpose_b = call.op_b != CUBLAS_OP_N;
  for (std::ptrdiff_t i = 0; i < call.batch; ++i)
    gemm(call.m, call.n, k, alpha,
         {a.data + i * a.stride * a.size, number_of(call.type_a), transpose_a ? a.ld : 1, transpose_a ? 1 : a.ld, tf32},
         {b.data + i * b.stride * b.size, number_of(call.type_b), transpose_b ? b.ld : 1, transpose_b ? 1 : b.ld, tf32}, beta,
         static_cast<char*>(call.c) + i * c.stride * c.size, number_of(call.type_c), c.ld);
}

// Every product of cuBLAS comes here.
inline cublasStatus_t ask_gemm(cublasHandle_t handle, const GemmCall& request, const void* alpha, const void* beta) {
  GemmCall call = request;
  const auto lock = enter();
  if (!is_handle(handle)) return blas_fail(CUBLAS_STATUS_NOT_INITIALIZED, call.function + " with no handle of cublasCreate");
  const auto valid_op = [](cublasOperation_t op) { return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C; };
  if (!valid_op(call.op_a) || !valid_op(call.op_b))
    return blas_fail(CUBLAS_STATUS_INVALID_VALUE, call.function + ": an operation that is not there");
  if (call.m < 0 || call.n < 0 || call.k < 0 || call.batch < 0)
    return blas_fail(CUBLAS_STATUS_INVALID_VALUE, call.function + ": negative m, n, k or batch");
  const int rows_a = call.op_a == CUBLAS_OP_N ? call.m : call.k;
  const int rows_b = call.op_b == CUBLAS_OP_N ? call.k : call.n;
  if (call.lda < std::max(1, rows_a) || call.ldb < std::max(1, rows_b) || call.ldc < std::max(1, call.m))
    return blas_fail(CUBLAS_STATUS_INVALID_VALUE, call.function + ": leading dimensions " + std::to_string(call.lda) + ", " +
                                                      std::to_string(call.ldb) + ", " + std::to_string(call.ldc) + " for " +
                                                      std::to_string(rows_a) + ", " + std::to_string(rows_b) + ", " +
                                                      std::to_string(call.m) + " rows");
  if (!types_supported(call)) return blas_fail(CUBLAS_STATUS_NOT_SUPPORTED, call.function + ": this combination of types is not emulated");
  if (call.m == 0 || call.n == 0 || call.batch == 0) return CUBLAS_STATUS_SUCCESS;
  if (alpha == nullptr || beta == nullptr || call.c == nullptr || (call.k > 0 && (call.a == nullptr || call.b == nullptr)))
    return blas_fail(CUBLAS_STATUS_INVALID_VALUE, call.function + ": a null pointer");
  cudaStream_t stream = nullptr;
  if (stream_for(handle->stream, stream) != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (stream->capture != cudaStreamCaptureStatusNone && handle->workspace == nullptr) {
    stream->capture = cudaStreamCaptureStatusInvalidated;
    return blas_fail(CUBLAS_STATUS_ALLOC_FAILED,
                     call.function + " in a capture without cublasSetWorkspace after cublasSetStream: it would allocate");
  }
  const bool on_device = handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE;
  float host_alpha = 0.0F;
  float host_beta = 0.0F;
  if (!on_device) {
    std::memcpy(&host_alpha, alpha, sizeof host_alpha);
    std::memcpy(&host_beta, beta, sizeof host_beta);
    call.beta_is_zero = host_beta == 0.0F;
  }
  const bool tf32 = call.type_a == CUDA_R_32F && (call.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ||
                                                  (call.compute == CUBLAS_COMPUTE_32F && handle->math == CUBLAS_TF32_TENSOR_OP_MATH));

  const Operands all = operands(call);
  if (overlap(all.c, all.a) || overlap(all.c, all.b)) die(all.text + ": C overlaps A or B");
  if (overlaps_itself(all.c)) die(all.text + ": the matrices C of the batch overlap");

  ++counters().gemms;
  gemm_call_list().push_back(call);
  static constexpr char kGemmNode = 0;
  const void* workspace = handle->workspace;
  streams().add(stream, {NodeKind::kernel, &kGemmNode, call.function, [=] {
                           float scale = host_alpha;
                           float keep = host_beta;
                           if (on_device) {
                             device_memory().need(alpha, sizeof scale, "alpha");
                             device_memory().need(beta, sizeof keep, "beta");
                             std::memcpy(&scale, alpha, sizeof scale);
                             std::memcpy(&keep, beta, sizeof keep);
                           }
                           if (workspace != nullptr && device_memory().find(workspace) == nullptr)
                             die("the workspace of cuBLAS was freed before its use");
                           run_gemm(call, scale, keep, tf32);
                         }});
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace cuda_emulation

// ---- handles ----
inline cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  const auto lock = cuda_emulation::enter();
  *handle = nullptr;
  if (cuda_emulation::check_device(0) != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (cuda_emulation::forbid_in_capture("cublasCreate") != cudaSuccess) return CUBLAS_STATUS_ALLOC_FAILED;
  *handle = new cublasContext;
  cuda_emulation::cublas_handles().push_back(*handle);
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  const auto lock = cuda_emulation::enter();
  if (!cuda_emulation::is_handle(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  std::erase(cuda_emulation::cublas_handles(), handle);
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
// Gives up the workspace, as in cuBLAS.
inline cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  const auto lock = cuda_emulation::enter();
  if (!cuda_emulation::is_handle(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  handle->workspace = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, std::size_t bytes) {
  const auto lock = cuda_emulation::enter();
  if (!cuda_emulation::is_handle(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  const cuda_emulation::Allocation* a = cuda_emulation::device_memory().find(workspace);
  if (reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0 ||
      (bytes > 0 && (a == nullptr || static_cast<char*>(workspace) + bytes > a->end())))
    return cuda_emulation::blas_fail(CUBLAS_STATUS_INVALID_VALUE,
                                     "a workspace that is not device memory, too short or not aligned to 256 bytes");
  handle->workspace = workspace;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  const auto lock = cuda_emulation::enter();
  if (!cuda_emulation::is_handle(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
  const auto lock = cuda_emulation::enter();
  if (!cuda_emulation::is_handle(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}

// ---- products ----
inline cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                                                 const void* alpha, const void* a, cudaDataType type_a, int lda, long long stride_a,
                                                 const void* b, cudaDataType type_b, int ldb, long long stride_b, const void* beta, void* c,
                                                 cudaDataType type_c, int ldc, long long stride_c, int batch, cublasComputeType_t compute,
                                                 cublasGemmAlgo_t) {
  return cuda_emulation::ask_gemm(handle,
                                  {"cublasGemmStridedBatchedEx",
                                   op_a,
                                   op_b,
                                   m,
                                   n,
                                   k,
                                   a,
                                   b,
                                   c,
                                   lda,
                                   ldb,
                                   ldc,
                                   stride_a,
                                   stride_b,
                                   stride_c,
                                   batch,
                                   type_a,
                                   type_b,
                                   type_c,
                                   compute,
                                   false},
                                  alpha, beta);
}
inline cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                                   const void* alpha, const void* a, cudaDataType type_a, int lda, const void* b, cudaDataType type_b,
                                   int ldb, const void* beta, void* c, cudaDataType type_c, int ldc, cublasComputeType_t compute,
                                   cublasGemmAlgo_t) {
  return cuda_emulation::ask_gemm(
      handle, {"cublasGemmEx", op_a, op_b, m, n, k, a, b, c, lda, ldb, ldc, 0, 0, 0, 1, type_a, type_b, type_c, compute, false}, alpha,
      beta);
}
inline cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                                                const float* alpha, const float* a, int lda, long long stride_a, const float* b, int ldb,
                                                long long stride_b, const float* beta, float* c, int ldc, long long stride_c, int batch) {
  return cuda_emulation::ask_gemm(handle,
                                  {"cublasSgemmStridedBatched",
                                   op_a,
                                   op_b,
                                   m,
                                   n,
                                   k,
                                   a,
                                   b,
                                   c,
                                   lda,
                                   ldb,
                                   ldc,
                                   stride_a,
                                   stride_b,
                                   stride_c,
                                   batch,
                                   CUDA_R_32F,
                                   CUDA_R_32F,
                                   CUDA_R_32F,
                                   CUBLAS_COMPUTE_32F,
                                   false},
                                  alpha, beta);
}
inline cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                                  const float* alpha, const float* a, int lda, const float* b, int ldb, const float* beta, float* c,
                                  int ldc) {
  return cuda_emulation::ask_gemm(
      handle, {"cublasSgemm",      op_a, op_b, m, n, k, a, b, c, lda, ldb, ldc, 0, 0, 0, 1, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F,
               CUBLAS_COMPUTE_32F, false},
      alpha, beta);
}
