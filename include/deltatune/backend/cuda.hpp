// The CUDA backend: kernels for loops and rows, cuBLAS for products, one stream. Compiles under nvcc, and under any C++20 compiler against an
// emulation of the CUDA runtime (tests/cuda_emulation).
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <string>
#include <utility>

#include "deltatune/backend/backend.hpp"
#include "deltatune/backend/cuda/attention.hpp"
#include "deltatune/backend/cuda/gemm.hpp"
#include "deltatune/backend/cuda/graph.hpp"
#include "deltatune/backend/cuda/handle.hpp"
#include "deltatune/backend/cuda/staging.hpp"
#include "deltatune/backend/cuda/team.hpp"
#include "deltatune/tensor/workspace.hpp"

namespace deltatune {

struct CudaOptions {
  int device = 0;
  bool tf32 = false;  // products round their inputs to 10 bits of mantissa and run on tensor cores
};

struct Cuda {
  // A device, a stream, a cuBLAS handle and a memory pool. All work goes to the one stream and is done in order; the host waits only in
  // synchronize(). Use a context on the thread that made it. Throws Error when there is no driver or no such device.
  class Context : public ContextBase {
   public:
    explicit Context(CudaOptions options = {})
        : device_(choose_device(options.device)),
          stream_(detail::make_stream()),
          pool_(detail::make_pool(device_)),
          cublas_(detail::make_cublas()),
          compute_(options.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F) {
      detail::cuda_check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device_), "cudaDeviceGetAttribute");
      detail::cublas_check(cublasSetStream(cublas_.get(), stream_.get()), "cublasSetStream");
      // A workspace of our own: without it cuBLAS allocates, which a captured step may not.
      detail::cuda_check(cudaMallocFromPoolAsync(&workspace_, kCublasWorkspace, pool_.get(), stream_.get()), "cudaMallocFromPoolAsync");
      detail::cublas_check(cublasSetWorkspace(cublas_.get(), workspace_, kCublasWorkspace), "cublasSetWorkspace");
    }
    ~Context() {
      static_cast<void>(cudaFreeAsync(workspace_, stream_.get()));
      static_cast<void>(cudaStreamSynchronize(stream_.get()));
    }

    cudaStream_t stream() const { return stream_.get(); }
    int multiprocessors() const { return multiprocessors_; }

   private:
    friend struct Cuda;
    static constexpr std::size_t kCublasWorkspace = std::size_t{32} << 20;  // NVIDIA's recommendation for Hopper

    static int choose_device(int device) {
      int count = 0;
      detail::cuda_check(cudaGetDeviceCount(&count), "looking for a CUDA device");
      if (device < 0 || device >= count)
        throw Error("CUDA device", "does not exist", {.expected = "0 to " + std::to_string(count - 1), .got = std::to_string(device)});
      detail::cuda_check(cudaSetDevice(device), "cudaSetDevice");
      return device;
    }

    int device_;
    detail::CudaStream stream_;
    detail::CudaPool pool_;
    detail::CublasHandle cublas_;
    cublasComputeType_t compute_;
    int multiprocessors_ = 0;
    bool recording_ = false;
    void* workspace_ = nullptr;
    detail::UploadStaging upload_;
    detail::DownloadStaging download_;
  };

  static void* allocate(Context& ctx, Index bytes) {
    if (ctx.recording_) throw Error("CUDA", "memory was requested while a graph is recorded", {.remedy = "plan() with the largest batch first"});
    void* memory = nullptr;
    detail::cuda_check(cudaMallocFromPoolAsync(&memory, static_cast<std::size_t>(bytes > 0 ? bytes : 1), ctx.pool_.get(), ctx.stream()),
                       ("allocating " + std::to_string(bytes) + " bytes").c_str());
    ctx.count_allocation(bytes);
    return memory;
  }
  static void release(Context& ctx, void* data, Index bytes) noexcept {
    ctx.count_release(bytes);
    static_cast<void>(cudaFreeAsync(data, ctx.stream()));
  }

  static void copy_in(Context& ctx, const void* host, void* data, Index bytes) {
    if (!ctx.dry_run()) ctx.upload_.copy(ctx.stream(), host, data, static_cast<std::size_t>(bytes));
  }
  static void copy_out(Context& ctx, const void* data, void* host, Index bytes) {
    if (!ctx.dry_run()) ctx.download_.copy(ctx.stream(), data, host, static_cast<std::size_t>(bytes));
  }
  static void synchronize(Context& ctx) {
    detail::cuda_check(cudaStreamSynchronize(ctx.stream()), "waiting for the device");
    ctx.download_.deliver();
  }

  // Runs work(), which may use this backend but neither allocate nor wait, as one CUDA graph (backend/cuda/graph.hpp).
  class Graph {
   public:
    template <class Work>
    void run(Context& ctx, const Work& work) {
      if (ctx.dry_run()) return work();
      const Recording recording(ctx);
      runner_.run(ctx.stream(), work);
    }

   private:
    struct Recording {
      explicit Recording(Context& context) : ctx(context) { ctx.recording_ = true; }
      Recording(const Recording&) = delete;
      Recording& operator=(const Recording&) = delete;
      ~Recording() { ctx.recording_ = false; }
      Context& ctx;
    };
    detail::CudaGraphRunner runner_;
  };

  template <class T>
  static void fill(Context& ctx, View<T> x, T value) {
    if (ctx.dry_run() || x.size() == 0) return;
    if (std::bit_cast<std::array<unsigned char, sizeof(T)>>(value) == std::array<unsigned char, sizeof(T)>{}) {
      const std::size_t width = static_cast<std::size_t>(x.cols) * sizeof(T);
      detail::cuda_check(cudaMemset2DAsync(x.data, x.rows > 1 ? static_cast<std::size_t>(x.stride) * sizeof(T) : width, 0, width,
                                           static_cast<std::size_t>(x.rows), ctx.stream()),
                         "cudaMemset2DAsync");
    } else {
      for_each_row(ctx, x.rows, x.cols, detail::CudaFillRow<T>{x, value});
    }
  }

  // In: float, or Bfloat16 for tensor cores; sums are float.
  template <class In>
  requires std::same_as<In, float> || std::same_as<In, Bfloat16>
  static void gemm(Context& ctx, const Gemm<float, In>& product) {
    ctx.count_gemm(product.m(), product.n(), product.k());
    if (ctx.dry_run() || product.m() == 0 || product.n() == 0) return;
    detail::cublas_gemm(ctx.cublas_.get(), std::same_as<In, float> ? ctx.compute_ : CUBLAS_COMPUTE_32F, product);
  }

  template <class F>
  static void for_each(Context& ctx, Index n, const F& f) {
    if (!ctx.dry_run()) detail::cuda_for_each(ctx.stream(), ctx.multiprocessors(), n, f);
  }
  template <class F>
  static void for_each_row(Context& ctx, Index rows, Index cols, const F& f) {
    if (!ctx.dry_run()) detail::cuda_for_each_row(ctx.stream(), rows, cols, f);
  }
  template <class F, class T>
  static void sum_rows(Context& ctx, Index rows, Index cols, const F& f, T* sum_io) {
    if (!ctx.dry_run()) detail::cuda_sum_rows(ctx.stream(), rows, cols, f, sum_io);
  }

  // A better body for one op: see backend/cuda/attention.hpp.
  static bool attention_fits(const AttentionPlan& plan) { return detail::cuda_attention_fits(plan); }
  template <class T>
  static View<T> attention_scratch(Context&, const AttentionPlan& plan, Workspace<Cuda>& workspace) {
    return workspace.template take<T>(1, detail::cuda_attention_scratch(plan));
  }
  static void attention_forward(Context& ctx, const AttentionForward<float>& op) {
    if (!ctx.dry_run()) detail::cuda_attention_forward(ctx.stream(), op);
  }
  static void attention_backward(Context& ctx, const AttentionBackward<float>& op) {
    if (!ctx.dry_run()) detail::cuda_attention_backward(ctx.stream(), op);
  }
};

static_assert(Backend<Cuda>);

}  // namespace deltatune
