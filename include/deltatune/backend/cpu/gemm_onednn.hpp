// Matrix products by oneDNN (float). double, which oneDNN does not multiply, goes to Eigen.
#pragma once

#include <dnnl.h>

#include <string>
#include <type_traits>

#include "deltatune/backend/cpu/gemm_eigen.hpp"
#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune {

struct OneDnnGemm {
  // Throws Error when oneDNN refuses the call (out of memory).
  template <class T>
  static void run(const Gemm<T>& p, int threads) {
    if constexpr (std::is_same_v<T, float>) {
      if (p.m() == 0 || p.n() == 0) return;
      const detail::ThreadLimit limit(threads);
      const dnnl_status_t status = dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.m(), p.n(), p.k(), p.alpha, p.a.data, p.a.stride,
                                              p.b.data, p.b.stride, p.beta, p.c.data, p.c.stride);
      if (status != dnnl_success) throw Error("oneDNN", "sgemm failed with status " + std::to_string(static_cast<int>(status)));
    } else {
      EigenGemm::run(p, threads);
    }
  }
};

}  // namespace deltatune
