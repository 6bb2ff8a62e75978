// Factorisations of a matrix on the host, in double: QR with Householder's reflections, and the leading part of a singular value decomposition with
// Jacobi's rotations (one-sided: rows are rotated in pairs until all are orthogonal; Hestenes 1958). Exact to rounding; meant for weights, once a run.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/host_matrix.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

namespace detail {

// In eight sums, which a compiler keeps in vectors.
DELTATUNE_FUNCTION double dot(const double* a, const double* b, Index n) {
  double sums[8] = {};
  Index k = 0;
  for (; k + 8 <= n; k += 8)
    for (Index l = 0; l < 8; ++l) sums[l] += a[k + l] * b[k + l];
  for (; k < n; ++k) sums[0] += a[k] * b[k];
  return std::accumulate(sums, sums + 8, 0.0);
}

}  // namespace detail

// a (m, n) = q · r with q (m, k), whose columns are orthonormal, and r (k, n), upper triangular; k = min(m, n).
struct QrFactors {
  HostMatrix q, r;
};
DELTATUNE_FUNCTION QrFactors qr(const HostMatrix& a) {
  const Index m = a.rows, n = a.cols, k = std::min(m, n);
  HostMatrix columns = a.transposed();  // row j: column j
  HostMatrix mirrors(k, m);             // row j: the unit vector of reflection j, zeros before its entry j
  const auto reflect = [m](const double* mirror, Index first, double* x_io) {
    const double twice = 2.0 * detail::dot(mirror + first, x_io + first, m - first);
    for (Index i = first; i < m; ++i) x_io[i] -= twice * mirror[i];
  };
  for (Index j = 0; j < k; ++j) {
    const double* const x = columns.row(j);
    double* const mirror = mirrors.row(j);
    const double length = std::sqrt(detail::dot(x + j, x + j, m - j));
    std::copy(x + j, x + m, mirror + j);
    mirror[j] += std::copysign(length, x[j]);
    const double size = std::sqrt(detail::dot(mirror + j, mirror + j, m - j));
    if (size == 0) continue;
    for (Index i = j; i < m; ++i) mirror[i] /= size;
    for (Index c = j; c < n; ++c) reflect(mirror, j, columns.row(c));
  }
  QrFactors factors{HostMatrix(), HostMatrix(k, n)};
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i <= std::min(j, k - 1); ++i) factors.r(i, j) = columns(j, i);
  HostMatrix q(k, m);  // row j: column j of q
  for (Index j = 0; j < k; ++j) {
    q(j, j) = 1.0;
    for (Index l = k; l-- > 0;) reflect(mirrors.row(l), l, q.row(j));
  }
  factors.q = q.transposed();
  return factors;
}

// The `rank` largest singular values of a (m, n), falling, with u (m, rank) and vt (rank, n). A column of u whose singular value is 0 is 0.
struct SvdFactors {
  HostMatrix u;
  std::vector<double> values;
  HostMatrix vt;
};
DELTATUNE_FUNCTION SvdFactors leading_svd(const HostMatrix& a, Index rank) {
  if (a.rows > a.cols) {
    const SvdFactors other = leading_svd(a.transposed(), rank);
    return {other.vt.transposed(), other.values, other.u.transposed()};
  }
  // Long rows are first turned into short ones: a = rᵀ·qᵀ.
  const bool reduces = a.cols > a.rows;
  QrFactors reduced;
  if (reduces) reduced = qr(a.transposed());
  HostMatrix rows = reduces ? reduced.r.transposed() : a;
  const HostMatrix square = rows;
  const Index m = rows.rows, n = rows.cols;
  constexpr double kOrthogonal = 1e-15;
  constexpr int kMaxSweeps = 60;
  bool rotated = true;
  for (int sweep = 0; rotated && sweep < kMaxSweeps; ++sweep) {
    rotated = false;
    std::vector<double> squares;
    for (Index i = 0; i < m; ++i) squares.push_back(detail::dot(rows.row(i), rows.row(i), n));
    for (Index i = 0; i < m; ++i)
      for (Index j = i + 1; j < m; ++j) {
        double &a_square = squares[static_cast<std::size_t>(i)], &b_square = squares[static_cast<std::size_t>(j)];
        const double across = detail::dot(rows.row(i), rows.row(j), n);
        if (std::fabs(across) <= kOrthogonal * std::sqrt(a_square * b_square)) continue;
        rotated = true;
        const double slope = (b_square - a_square) / (2.0 * across);
        const double t = std::copysign(1.0, slope) / (std::fabs(slope) + std::sqrt(1.0 + slope * slope));
        const double c = 1.0 / std::sqrt(1.0 + t * t), s = c * t;
        double *x = rows.row(i), *y = rows.row(j);
        for (Index l = 0; l < n; ++l) {
          const double old = x[l];
          x[l] = c * old - s * y[l];
          y[l] = s * old + c * y[l];
        }
        a_square -= t * across;
        b_square += t * across;
      }
  }
  // The rows are now singular values times right singular vectors.
  std::vector<std::pair<double, Index>> order;
  for (Index i = 0; i < m; ++i) order.emplace_back(std::sqrt(detail::dot(rows.row(i), rows.row(i), n)), i);
  std::sort(order.begin(), order.end(), [](const auto& x, const auto& y) { return x.first > y.first || (x.first == y.first && x.second < y.second); });
  SvdFactors factors{HostMatrix(m, rank), {}, HostMatrix(rank, a.cols)};
  for (Index k = 0; k < rank; ++k) {
    const auto [value, from] = order[static_cast<std::size_t>(k)];
    factors.values.push_back(value);
    if (value == 0) continue;
    for (Index i = 0; i < m; ++i) factors.u(i, k) = detail::dot(square.row(i), rows.row(from), n) / (value * value);
    for (Index j = 0; j < a.cols; ++j) factors.vt(k, j) = (reduces ? detail::dot(reduced.q.row(j), rows.row(from), n) : rows(from, j)) / value;
  }
  return factors;
}

}  // namespace deltatune
