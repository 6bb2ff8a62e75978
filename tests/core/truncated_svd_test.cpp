#include "deltatune/core/truncated_svd.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <utility>
#include <vector>

namespace deltatune {
namespace {

HostMatrix normal_matrix(Index rows, Index cols, std::uint64_t seed) {
  HostMatrix matrix(rows, cols);
  for (std::size_t i = 0; i < matrix.values.size(); ++i) matrix.values[i] = normal(derive(seed), i);
  return matrix;
}

// With the given singular values.
HostMatrix with_values(Index rows, Index cols, const std::vector<double>& values) {
  const Index size = std::min(rows, cols);
  const HostMatrix u = qr(normal_matrix(rows, size, 1)).q, v = qr(normal_matrix(cols, size, 2)).q;
  HostMatrix matrix(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j)
      for (std::size_t k = 0; k < values.size(); ++k) matrix(i, j) += u(i, static_cast<Index>(k)) * values[k] * v(j, static_cast<Index>(k));
  return matrix;
}

// ‖d - u·s·vᵀ‖, Frobenius.
double left_by(const HostMatrix& d, const SvdFactors& svd) {
  double sum = 0;
  for (Index i = 0; i < d.rows; ++i)
    for (Index j = 0; j < d.cols; ++j) {
      double rest = d(i, j);
      for (Index k = 0; k < svd.u.cols; ++k) rest -= svd.u(i, k) * svd.values[static_cast<std::size_t>(k)] * svd.vt(k, j);
      sum += rest * rest;
    }
  return std::sqrt(sum);
}

TEST_CASE("truncated SVD: exact where the rank suffices", "[svd]") {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{40, 60}, {60, 40}, {5, 50}, {50, 5}, {1, 7}}) {
    INFO(rows << " " << cols);
    const HostMatrix d = with_values(rows, cols, rows == 1 ? std::vector<double>{3} : std::vector<double>{3, 2, 1e-3});
    const SvdFactors svd = truncated_svd(d, 4);
    REQUIRE(svd.u.cols == 4);
    REQUIRE(svd.vt.rows == 4);
    CHECK(left_by(d, svd) < 1e-13);
    CHECK(svd.values[0] == Approx(3));
    if (rows == 1) continue;
    CHECK(svd.values[2] == Approx(1e-3));
    CHECK(std::fabs(svd.values[3]) < 1e-13);
  }
  const SvdFactors nothing = truncated_svd(HostMatrix(6, 9), 2);
  CHECK(nothing.values == std::vector<double>{0, 0});
  for (const double x : nothing.vt.values) CHECK(std::isfinite(x));
}

TEST_CASE("truncated SVD: close to the best where the rank does not suffice", "[svd]") {
  std::vector<double> values;
  for (int k = 0; k < 60; ++k) values.push_back(1 / std::sqrt(k + 1.0));
  const HostMatrix d = with_values(60, 90, values);
  for (const Index rank : {1, 4, 12}) {
    double best = 0;
    for (std::size_t k = static_cast<std::size_t>(rank); k < values.size(); ++k) best += values[k] * values[k];
    const SvdFactors svd = truncated_svd(d, rank);
    CHECK(left_by(d, svd) >= std::sqrt(best) * (1 - 1e-12));
    CHECK(left_by(d, svd) < 1.01 * std::sqrt(best));
  }
}

TEST_CASE("truncated SVD: the same key gives the same bits", "[svd]") {
  const HostMatrix d = normal_matrix(30, 40, 3);
  CHECK((truncated_svd(d, 3).vt.values == truncated_svd(d, 3).vt.values));
  CHECK_FALSE((truncated_svd(d, 3).vt.values == truncated_svd(d, 3, derive(1)).vt.values));
}

}  // namespace
}  // namespace deltatune
