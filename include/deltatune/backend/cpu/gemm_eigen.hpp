// Matrix products by Eigen: each thread multiplies its share of the rows (or columns) with single-threaded Eigen, which on few cores
// is faster than Eigen's own threading. Inputs of 16 bits are widened piece by piece: right everywhere, and no faster than float.
#pragma once

#include "deltatune/core/config.hpp"
DELTATUNE_QUIET_BEGIN
#include <Eigen/Core>
DELTATUNE_QUIET_END

#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/half.hpp"

namespace deltatune {

struct EigenGemm {
  struct State {};  // what a provider keeps in the context

  template <class T, class In>
  static void run(State&, const Gemm<T, In>& p, int threads) {
    run(p, threads);
  }
  template <class T, class In>
  static void run(const Gemm<T, In>& p, int threads) {
    const bool by_rows = p.m() >= p.n();
    const Index extent = by_rows ? p.m() : p.n();
    const bool serial = 2 * p.m() * p.n() * p.k() < kSerialFlops;
    detail::parallel_ranges(threads, extent, 16, serial, [&](Index begin, Index end) {
      const detail::ThreadLimit single(1);  // Eigen would otherwise start threads of its own
      Gemm<T, In> part = p;
      if (by_rows) {
        part.a = p.transpose_a ? p.a.column_range(begin, end - begin) : p.a.row_range(begin, end - begin);
        part.c = p.c.row_range(begin, end - begin);
      } else {
        part.b = p.transpose_b ? p.b.row_range(begin, end - begin) : p.b.column_range(begin, end - begin);
        part.c = p.c.column_range(begin, end - begin);
      }
      multiply(part);
    });
  }

 private:
  static constexpr Index kSerialFlops = 1 << 16;  // below some 10 µs of work a second thread does not pay

  template <class T>
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Stride = Eigen::OuterStride<>;

  template <class T>
  static auto input(View<const T> x) {
    return Eigen::Map<const Matrix<T>, Eigen::Unaligned, Stride>(x.data, x.rows, x.cols, Stride(x.stride));
  }
  static Matrix<float> input(View<const Bfloat16> x) {
    Matrix<float> wide(x.rows, x.cols);
    for (Index i = 0; i < x.rows; ++i) {
      const Bfloat16* const from = x.row(i);
      float* const to = wide.data() + i * x.cols;
      DELTATUNE_SIMD
      for (Index j = 0; j < x.cols; ++j) to[j] = static_cast<float>(from[j]);
    }
    return wide;
  }

  template <class T, class In>
  static void multiply(const Gemm<T, In>& p) {
    const auto a = input(p.a);
    const auto b = input(p.b);
    Eigen::Map<Matrix<T>, Eigen::Unaligned, Stride> c(p.c.data, p.c.rows, p.c.cols, Stride(p.c.stride));
    if (p.beta == T(0)) {
      c.setZero();
    } else if (p.beta != T(1)) {
      c *= p.beta;
    }
    if (!p.transpose_a && !p.transpose_b) c.noalias() += p.alpha * (a * b);
    if (!p.transpose_a && p.transpose_b) c.noalias() += p.alpha * (a * b.transpose());
    if (p.transpose_a && !p.transpose_b) c.noalias() += p.alpha * (a.transpose() * b);
    if (p.transpose_a && p.transpose_b) c.noalias() += p.alpha * (a.transpose() * b.transpose());
  }
};

}  // namespace deltatune
