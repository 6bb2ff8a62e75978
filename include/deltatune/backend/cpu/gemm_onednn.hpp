// Matrix products by oneDNN: float, and bfloat16 with float sums, which run on AMX or AVX512-BF16 where the processor has them. What oneDNN
// does not multiply: bfloat16 on processors below AVX-512 is widened to float first; double runs in a plain loop. (Not by Eigen: its
// kernels take seconds and half a gigabyte to compile, in every program that includes this.)
#pragma once

#include <algorithm>
#include <concepts>
#include <dnnl.hpp>
#include <string>
#include <vector>

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
    std::vector<float> narrow_;        // scratch of narrow()
    std::vector<float> wide_;          // scratch of widened()
  };

  // Throw Error when oneDNN refuses the call (out of memory).
  static void run(State& state, const Gemm<float>& p, int threads) {
    if (p.m() == 0 || p.n() == 0) return;
    const detail::ThreadLimit limit(threads);
    if (p.n() <= kNarrow && p.m() >= 8 * p.n() && p.k() >= 8 * p.n() && !(p.transpose_a && p.transpose_b)) return narrow(state, p);
    // sgemm loses up to a fifth of its speed where it has to turn long rows of b.
    if (p.transpose_b && !p.transpose_a && p.k() > p.n() && p.n() > kNarrow && p.m() > kNarrow && p.alpha == 1.0F && matmul(state, p)) return;
    sgemm(p);
  }
  static void run(State& state, const Gemm<float, Bfloat16>& p, int threads) {
    if (p.m() == 0 || p.n() == 0) return;
    const detail::ThreadLimit limit(threads);
    if (p.alpha == 1.0F && p.k() > 0 && state.multiplies_bfloat16_) state.multiplies_bfloat16_ = matmul(state, p);
    if (p.alpha != 1.0F || p.k() == 0 || !state.multiplies_bfloat16_) sgemm(widened(state, p));
  }
  // Row i of c: beta · c_i + alpha · Σ_k a_ik · b_k.
  template <std::same_as<double> T>
  static void run(State&, const Gemm<T>& p, int threads) {
    detail::parallel_ranges(threads, p.m(), 1, 2 * p.m() * p.n() * p.k() < kSerialFlops, [&p](Index begin, Index end) {
      const Index n = p.n();
      for (Index i = begin; i < end; ++i) {
        T* const c = p.c.row(i);
        for (Index j = 0; j < n; ++j) c[j] = p.beta == T(0) ? T(0) : p.beta * c[j];
        for (Index k = 0; k < p.k(); ++k) {
          const T factor = p.alpha * (p.transpose_a ? p.a(k, i) : p.a(i, k));
          if (p.transpose_b) {
            for (Index j = 0; j < n; ++j) c[j] += factor * p.b(j, k);
          } else {
            const T* const b = p.b.row(k);
            DELTATUNE_SIMD
            for (Index j = 0; j < n; ++j) c[j] += factor * b[j];
          }
        }
      }
    });
  }

 private:
  static constexpr Index kNarrow = 32;
  static constexpr Index kSerialFlops = 1 << 16;  // below some 10 µs of work a second thread does not pay

  static void sgemm(const Gemm<float>& p) {
    const dnnl_status_t status = dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.m(), p.n(), p.k(), p.alpha, p.a.data, p.a.stride, p.b.data,
                                            p.b.stride, p.beta, p.c.data, p.c.stride);
    if (status != dnnl_success) throw Error("oneDNN", "sgemm failed with status " + std::to_string(static_cast<int>(status)));
  }

  // A result of many short rows, LoRA's du and dB for instance: two to three times as fast as a product with few long rows, cᵀ = bᵀ·aᵀ.
  static void narrow(State& state, const Gemm<float>& p) {
    const std::size_t result = static_cast<std::size_t>(p.m() * p.n());
    state.narrow_.resize(std::max(state.narrow_.size(), result + static_cast<std::size_t>(p.k() * p.n())));
    const View<float> c(state.narrow_.data(), p.n(), p.m());
    View<const float> b = p.b;
    if (!p.transpose_a && !p.transpose_b) {
      const View<float> turned(state.narrow_.data() + result, p.n(), p.k());
      for (Index k = 0; k < p.k(); ++k)
        for (Index j = 0; j < p.n(); ++j) turned(j, k) = p.b(k, j);
      b = turned;
    }
    sgemm({.a = b, .b = p.a, .c = c, .transpose_a = p.transpose_a, .transpose_b = !p.transpose_a, .alpha = p.alpha});
    for (Index i = 0; i < p.m(); ++i) {
      float* const to = p.c.row(i);
      for (Index j = 0; j < p.n(); ++j) to[j] = c(j, i) + (p.beta == 0.0F ? 0.0F : p.beta * to[j]);
    }
  }

  // The same product of floats.
  static Gemm<float> widened(State& state, const Gemm<float, Bfloat16>& p) {
    const std::size_t of_a = static_cast<std::size_t>(p.a.rows * p.a.cols), of_b = static_cast<std::size_t>(p.b.rows * p.b.cols);
    state.wide_.resize(std::max(state.wide_.size(), of_a + of_b));
    const auto widen = [](View<const Bfloat16> x, float* to) {
      for (Index i = 0; i < x.rows; ++i)
        for (Index j = 0; j < x.cols; ++j) to[i * x.cols + j] = static_cast<float>(x(i, j));
      return View<const float>(to, x.rows, x.cols);
    };
    return {.a = widen(p.a, state.wide_.data()),
            .b = widen(p.b, state.wide_.data() + of_a),
            .c = p.c,
            .transpose_a = p.transpose_a,
            .transpose_b = p.transpose_b,
            .alpha = p.alpha,
            .beta = p.beta};
  }

  // alpha 1. False: oneDNN has nothing for it.
  template <class In>
  static bool matmul(State& state, const Gemm<float, In>& p) {
    try {
      using Type = dnnl::memory::data_type;
      constexpr Type type = std::same_as<In, Bfloat16> ? Type::bf16 : Type::f32;
      const dnnl::memory::desc a = matrix(p.m(), p.k(), type, p.a.stride, p.transpose_a);
      const dnnl::memory::desc b = matrix(p.k(), p.n(), type, p.b.stride, p.transpose_b);
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
      return true;
    } catch (const dnnl::error& error) {
      if (error.status == dnnl_unimplemented) return false;
      throw Error("oneDNN", "matmul failed with status " + std::to_string(static_cast<int>(error.status)));
    }
  }

  // (rows, cols), or its transposed where that is what lies in memory.
  static dnnl::memory::desc matrix(Index rows, Index cols, dnnl::memory::data_type type, Index stride, bool transposed) {
    const dnnl::memory::dims strides = transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
    return {{rows, cols}, type, strides};
  }
};

}  // namespace deltatune
