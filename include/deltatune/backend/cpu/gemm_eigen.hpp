// Matrix products by Eigen: each thread multiplies its share of the rows (or columns) with single-threaded Eigen, which on few cores
// is faster than Eigen's own threading.
#pragma once

#include "deltatune/core/config.hpp"
DELTATUNE_QUIET_BEGIN
#include <Eigen/Core>
DELTATUNE_QUIET_END

#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/backend/gemm.hpp"

namespace deltatune {

struct EigenGemm {
  template <class T>
  static void run(const Gemm<T>& p, int threads) {
    const bool by_rows = p.m() >= p.n();
    const Index extent = by_rows ? p.m() : p.n();
    const bool serial = 2 * p.m() * p.n() * p.k() < kSerialFlops;
    detail::parallel_ranges(threads, extent, 16, serial, [&](Index begin, Index end) {
      const detail::ThreadLimit single(1);  // Eigen would otherwise start threads of its own
      Gemm<T> part = p;
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
  static void multiply(const Gemm<T>& p) {
    using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using Stride = Eigen::OuterStride<>;
    using Input = Eigen::Map<const Matrix, Eigen::Unaligned, Stride>;
    const Input a(p.a.data, p.a.rows, p.a.cols, Stride(p.a.stride));
    const Input b(p.b.data, p.b.rows, p.b.cols, Stride(p.b.stride));
    Eigen::Map<Matrix, Eigen::Unaligned, Stride> c(p.c.data, p.c.rows, p.c.cols, Stride(p.c.stride));
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
