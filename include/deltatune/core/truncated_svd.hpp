// The leading part of a singular value decomposition of a large matrix, by a random sketch of its columns: Halko, Martinsson and Tropp 2011,
// arXiv 0909.4061, algorithms 4.4 and 5.1. Exact to rounding where the rank is no larger than asked for; else close to the best there is (tests: within 1 %
// for singular values that fall as 1/√i).
//
//   Y = D·Ω, Q = qr(Y);  a few times: Q = qr(Dᵀ·Q), Q = qr(D·Q);  svd(Qᵀ·D) = U·S·Vᵀ;  D ≈ (Q·U)·S·Vᵀ
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/core/factorise.hpp"
#include "deltatune/core/host_matrix.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

namespace detail {

// Rows of a large matrix that go together: what is multiplied with them is read once for all of them.
inline constexpr Index kRowsTogether = 8;

// a (m, n) · b (n, k) -> (m, k)
DELTATUNE_FUNCTION HostMatrix product(const HostMatrix& a, const HostMatrix& b) {
  HostMatrix result(a.rows, b.cols);
  for (Index first = 0; first < a.rows; first += kRowsTogether) {
    const Index end = std::min(first + kRowsTogether, a.rows);
    for (Index j = 0; j < a.cols; ++j) {
      const double* const from = b.row(j);
      for (Index i = first; i < end; ++i) {
        const double factor = a(i, j);
        double* const to = result.row(i);
        for (Index c = 0; c < b.cols; ++c) to[c] += factor * from[c];
      }
    }
  }
  return result;
}

// aᵀ · b, a (m, n), b (m, k) -> (n, k)
DELTATUNE_FUNCTION HostMatrix product_transposed(const HostMatrix& a, const HostMatrix& b) {
  HostMatrix result(a.cols, b.cols);
  for (Index first = 0; first < a.rows; first += kRowsTogether) {
    const Index end = std::min(first + kRowsTogether, a.rows);
    for (Index j = 0; j < a.cols; ++j) {
      double* const to = result.row(j);
      for (Index i = first; i < end; ++i) {
        const double factor = a(i, j);
        const double* const from = b.row(i);
        for (Index c = 0; c < b.cols; ++c) to[c] += factor * from[c];
      }
    }
  }
  return result;
}

}  // namespace detail

// The `rank` largest singular values of d (m, n), falling, with u (m, rank) and vt (rank, n); behind min(m, n) all is 0. key: of the sketch; the same one
// gives the same bits.
DELTATUNE_FUNCTION SvdFactors truncated_svd(const HostMatrix& d, Index rank, RandomKey key = derive(0)) {
  constexpr Index kMore = 10;     // columns of the sketch beyond the rank
  constexpr int kPowerSteps = 3;  // each shrinks what lies behind the rank by the square of its share
  const Index size = std::min(d.rows, d.cols), columns = std::min(rank + kMore, size), found = std::min(rank, size);
  HostMatrix sketch(d.cols, columns);
  for (std::size_t i = 0; i < sketch.values.size(); ++i) sketch.values[i] = normal(key, i);
  HostMatrix q = qr(detail::product(d, sketch)).q;
  for (int step = 0; step < kPowerSteps; ++step) q = qr(detail::product(d, qr(detail::product_transposed(d, q)).q)).q;
  const SvdFactors inner = leading_svd(detail::product_transposed(d, q).transposed(), found);
  const HostMatrix u = detail::product(q, inner.u);
  SvdFactors result{HostMatrix(d.rows, rank), inner.values, HostMatrix(rank, d.cols)};
  result.values.resize(static_cast<std::size_t>(rank));
  for (Index i = 0; i < d.rows; ++i) std::copy(u.row(i), u.row(i) + found, result.u.row(i));
  for (Index k = 0; k < found; ++k) std::copy(inner.vt.row(k), inner.vt.row(k) + d.cols, result.vt.row(k));
  return result;
}

}  // namespace deltatune
