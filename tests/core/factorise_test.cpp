#include "deltatune/core/factorise.hpp"

#include <catch2/catch.hpp>

#include "deltatune/core/random.hpp"

using namespace deltatune;

namespace {

HostMatrix random_matrix(Index rows, Index cols, std::uint64_t seed) {
  HostMatrix a(rows, cols);
  for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] = normal(derive(seed), i);
  return a;
}

HostMatrix product(const HostMatrix& a, const HostMatrix& b) {
  HostMatrix c(a.rows, b.cols);
  for (Index i = 0; i < a.rows; ++i)
    for (Index j = 0; j < b.cols; ++j)
      for (Index k = 0; k < a.cols; ++k) c(i, j) += a(i, k) * b(k, j);
  return c;
}

double difference(const HostMatrix& a, const HostMatrix& b) {
  REQUIRE(a.rows == b.rows);
  REQUIRE(a.cols == b.cols);
  double largest = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) largest = std::max(largest, std::fabs(a.values[i] - b.values[i]));
  return largest;
}

HostMatrix identity(Index n) {
  HostMatrix result(n, n);
  for (Index i = 0; i < n; ++i) result(i, i) = 1;
  return result;
}

HostMatrix scaled_rows(HostMatrix a, const std::vector<double>& factors) {
  for (Index i = 0; i < a.rows; ++i)
    for (Index j = 0; j < a.cols; ++j) a(i, j) *= factors[static_cast<std::size_t>(i)];
  return a;
}

}  // namespace

TEST_CASE("qr: orthonormal columns times an upper triangle", "[core][factorise]") {
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{5, 5}, {17, 6}, {6, 17}, {1, 3}, {3, 1}}) {
    const HostMatrix a = random_matrix(m, n, 1);
    const QrFactors f = qr(a);
    CHECK(f.q.cols == std::min(m, n));
    CHECK(difference(product(f.q, f.r), a) < 1e-14 * 20);
    CHECK(difference(product(f.q.transposed(), f.q), identity(f.q.cols)) < 1e-14);
    for (Index i = 0; i < f.r.rows; ++i)
      for (Index j = 0; j < i; ++j) CHECK(f.r(i, j) == 0);
  }
}

TEST_CASE("svd: the values and vectors of a matrix made from them", "[core][factorise]") {
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{8, 8}, {30, 8}, {8, 30}}) {
    const std::vector<double> values{9, 7, 4, 2, 1, 0.1, 1e-9, 0};
    const HostMatrix u = qr(random_matrix(m, 8, 2)).q, vt = qr(random_matrix(n, 8, 3)).q.transposed();
    const HostMatrix a = product(u, scaled_rows(vt, values));
    const SvdFactors f = leading_svd(a, 8);
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(f.values[i] == Approx(values[i]).margin(1e-13));
    CHECK(difference(product(f.u, scaled_rows(f.vt, f.values)), a) < 1e-13);
    const SvdFactors leading = leading_svd(a, 3);
    CHECK(leading.u.cols == 3);
    CHECK(difference(product(leading.u.transposed(), leading.u), identity(3)) < 1e-13);
    CHECK(difference(product(leading.vt, leading.vt.transposed()), identity(3)) < 1e-13);
    for (Index k = 0; k < 3; ++k) {
      double along = 0;
      for (Index j = 0; j < n; ++j) along += leading.vt(k, j) * vt(k, j);
      CHECK(std::fabs(along) == Approx(1.0));
    }
  }
}

TEST_CASE("svd: nothing but zeros, and equal values", "[core][factorise]") {
  const SvdFactors none = leading_svd(HostMatrix(4, 3), 2);
  CHECK(none.values == std::vector<double>{0, 0});
  CHECK(difference(none.u, HostMatrix(4, 2)) == 0);
  const SvdFactors equal = leading_svd(identity(4), 4);
  CHECK(difference(product(equal.u, scaled_rows(equal.vt, equal.values)), identity(4)) < 1e-15);
}
