// Matrix products by oneDNN: float, and bfloat16 with float sums, which run on AMX or AVX512-BF16 where the processor has them. What oneDNN
// does not multiply goes to Eigen: double everywhere, bfloat16 on processors below AVX-512.
#pragma once

#include <dnnl.hpp>

#include <concepts>
#include <string>

#include "deltatune/backend/cpu/gemm_eigen.hpp"
#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/half.hpp"

namespace deltatune {

struct OneDnnGemm {
  class State {
    friend struct OneDnnGemm;
    dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream_{engine_};
    bool multiplies_bfloat16_ = true;  // until it has refused
  };

  // Throws Error when oneDNN refuses the call (out of memory).
  static void run(State&, const Gemm<float>& p, int threads) {
    if (p.m() == 0 || p.n() == 0) return;
    const detail::ThreadLimit limit(threads);
    const dnnl_status_t status = dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.m(), p.n(), p.k(), p.alpha, p.a.data, p.a.stride, p.b.data,
                                            p.b.stride, p.beta, p.c.data, p.c.stride);
    if (status != dnnl_success) throw Error("oneDNN", "sgemm failed with status " + std::to_string(static_cast<int>(status)));
  }

  static void run(State& state, const Gemm<float, Bfloat16>& p, int threads) {
    if (p.m() == 0 || p.n() == 0) return;
    const detail::ThreadLimit limit(threads);
    if (!state.multiplies_bfloat16_ || p.alpha != 1.0F || p.k() == 0) return EigenGemm::run(p, threads);
    try {
      using Type = dnnl::memory::data_type;
      const dnnl::memory::desc a = matrix(p.m(), p.k(), Type::bf16, p.a.stride, p.transpose_a);
      const dnnl::memory::desc b = matrix(p.k(), p.n(), Type::bf16, p.b.stride, p.transpose_b);
      const dnnl::memory::desc c = matrix(p.m(), p.n(), Type::f32, p.c.stride, false);
      dnnl::primitive_attr attributes;
      if (p.beta != 0.0F) {
        dnnl::post_ops sum;
        sum.append_sum(p.beta);
        attributes.set_post_ops(sum);
      }
      // oneDNN keeps what it has compiled for a shape: after the first time this is a look-up of some microseconds.
#if DNNL_VERSION_MAJOR >= 3
      const dnnl::matmul::primitive_desc description(state.engine_, a, b, c, attributes);
#else
      const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, state.engine_);
#endif
      const auto memory = [&](const dnnl::memory::desc& shape, const void* data) { return dnnl::memory(shape, state.engine_, const_cast<void*>(data)); };
      dnnl::matmul(description)
          .execute(state.stream_, {{DNNL_ARG_SRC, memory(a, p.a.data)}, {DNNL_ARG_WEIGHTS, memory(b, p.b.data)}, {DNNL_ARG_DST, memory(c, p.c.data)}});
      state.stream_.wait();
    } catch (const dnnl::error& error) {
      if (error.status != dnnl_unimplemented) throw Error("oneDNN", "matmul failed with status " + std::to_string(static_cast<int>(error.status)));
      state.multiplies_bfloat16_ = false;
      EigenGemm::run(p, threads);
    }
  }

  static void run(State&, const Gemm<double>& p, int threads) { EigenGemm::run(p, threads); }

 private:
  // (rows, cols), or its transposed where that is what lies in memory.
  static dnnl::memory::desc matrix(Index rows, Index cols, dnnl::memory::data_type type, Index stride, bool transposed) {
    const dnnl::memory::dims strides = transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
    return {{rows, cols}, type, strides};
  }
};

}  // namespace deltatune
