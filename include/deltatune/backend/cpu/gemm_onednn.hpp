// Matrix products by oneDNN: float, and bfloat16 with float sums, which run on AMX or AVX512-BF16 where the processor has them. What oneDNN does not
// multiply, double, and bfloat16 on processors below AVX-512, is left to our own products. In oneDNN's C interface: nvcc does not get through dnnl.hpp.
#pragma once

#include <dnnl.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "deltatune/backend/cpu/gemm_tiled.hpp"
#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/half.hpp"

namespace deltatune {

namespace detail {

inline void check_onednn(dnnl_status_t status) {
  if (status != dnnl_success) throw Error("oneDNN", "failed with status " + std::to_string(static_cast<int>(status)));
}

// What create(&handle, arguments...) makes, and Destroy takes back. Empty where oneDNN has nothing for the arguments; throws Error when it fails otherwise.
template <class Handle, auto Destroy>
class OneDnnOwner {
 public:
  template <class Create, class... Arguments>
  explicit OneDnnOwner(const Create& create, const Arguments&... arguments) {
    Handle handle = nullptr;
    const dnnl_status_t status = create(&handle, arguments...);
    if (status != dnnl_unimplemented) check_onednn(status);
    if (status == dnnl_success) owner_.reset(handle);
  }
  operator Handle() const { return owner_.get(); }

 private:
  struct Destroyer {
    void operator()(Handle handle) const { Destroy(handle); }
  };
  std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer> owner_;
};

}  // namespace detail

struct OneDnnGemm {
  class State {
    friend struct OneDnnGemm;
    detail::OneDnnOwner<dnnl_engine_t, dnnl_engine_destroy> engine_{dnnl_engine_create, dnnl_cpu, std::size_t{0}};
    detail::OneDnnOwner<dnnl_stream_t, dnnl_stream_destroy> stream_{dnnl_stream_create, engine_, dnnl_stream_default_flags};
    bool multiplies_bfloat16_ = true;  // until it has refused
    std::vector<float> narrow_;        // scratch of narrow()
    TiledGemm::State tiled_;
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
    if (p.alpha != 1.0F || p.k() == 0 || !state.multiplies_bfloat16_) TiledGemm::run(state.tiled_, p, threads);
  }
  template <std::same_as<double> T>
  static void run(State& state, const Gemm<T>& p, int threads) {
    TiledGemm::run(state.tiled_, p, threads);
  }

 private:
  static constexpr Index kNarrow = 32;

  static void sgemm(const Gemm<float>& p) {
    detail::check_onednn(dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.m(), p.n(), p.k(), p.alpha, p.a.data, p.a.stride, p.b.data,
                                    p.b.stride, p.beta, p.c.data, p.c.stride));
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

  using Attributes = detail::OneDnnOwner<dnnl_primitive_attr_t, dnnl_primitive_attr_destroy>;
  using PostOps = detail::OneDnnOwner<dnnl_post_ops_t, dnnl_post_ops_destroy>;
  using Description = detail::OneDnnOwner<dnnl_primitive_desc_t, dnnl_primitive_desc_destroy>;
  using Primitive = detail::OneDnnOwner<dnnl_primitive_t, dnnl_primitive_destroy>;
  using Memory = detail::OneDnnOwner<dnnl_memory_t, dnnl_memory_destroy>;

  // How a (rows, cols) matrix lies in memory, or its transposed where that is what lies there.
#if DNNL_VERSION_MAJOR >= 3
  using Matrix = detail::OneDnnOwner<dnnl_memory_desc_t, dnnl_memory_desc_destroy>;
#else
  struct Matrix {
    dnnl_memory_desc_t value;
    operator const dnnl_memory_desc_t*() const { return &value; }
  };
#endif
  static Matrix matrix(Index rows, Index cols, dnnl_data_type_t type, Index stride, bool transposed) {
    const dnnl_dims_t sizes{rows, cols}, strides{transposed ? 1 : stride, transposed ? stride : 1};
#if DNNL_VERSION_MAJOR >= 3
    return Matrix(dnnl_memory_desc_create_with_strides, 2, sizes, type, strides);
#else
    Matrix matrix;
    detail::check_onednn(dnnl_memory_desc_init_by_strides(&matrix.value, 2, sizes, type, strides));
    return matrix;
#endif
  }

  // alpha 1. False: oneDNN has nothing for it.
  template <class In>
  static bool matmul(State& state, const Gemm<float, In>& p) {
    constexpr dnnl_data_type_t type = std::same_as<In, Bfloat16> ? dnnl_bf16 : dnnl_f32;
    const Matrix a = matrix(p.m(), p.k(), type, p.a.stride, p.transpose_a);
    const Matrix b = matrix(p.k(), p.n(), type, p.b.stride, p.transpose_b);
    const Matrix c = matrix(p.m(), p.n(), dnnl_f32, p.c.stride, false);
    const Attributes attributes(dnnl_primitive_attr_create);
    if (p.beta != 0.0F) {
      const PostOps sum(dnnl_post_ops_create);
#if DNNL_VERSION_MAJOR >= 3
      detail::check_onednn(dnnl_post_ops_append_sum(sum, p.beta, 0, dnnl_data_type_undef));
#else
      detail::check_onednn(dnnl_post_ops_append_sum(sum, p.beta));
#endif
      detail::check_onednn(dnnl_primitive_attr_set_post_ops(attributes, sum));
    }
    // oneDNN keeps what it has compiled for a shape: after the first time this is a look-up of some microseconds.
#if DNNL_VERSION_MAJOR >= 3
    const Description description(dnnl_matmul_primitive_desc_create, state.engine_, a, b, nullptr, c, attributes);
#else
    dnnl_matmul_desc_t product;
    detail::check_onednn(dnnl_matmul_desc_init(&product, a, b, nullptr, c));
    const Description description(dnnl_primitive_desc_create, &product, attributes, state.engine_, nullptr);
#endif
    if (!description) return false;
    const Primitive primitive(dnnl_primitive_create, description);
    if (!primitive) return false;
    const auto memory = [&](const Matrix& shape, const void* data) { return Memory(dnnl_memory_create, shape, state.engine_, const_cast<void*>(data)); };
    const Memory of_a = memory(a, p.a.data), of_b = memory(b, p.b.data), of_c = memory(c, p.c.data);
    const dnnl_exec_arg_t arguments[]{{DNNL_ARG_SRC, of_a}, {DNNL_ARG_WEIGHTS, of_b}, {DNNL_ARG_DST, of_c}};
    detail::check_onednn(dnnl_primitive_execute(primitive, state.stream_, 3, arguments));
    detail::check_onednn(dnnl_stream_wait(state.stream_));
    return true;
  }
};

}  // namespace deltatune
