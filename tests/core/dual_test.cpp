// Every derivative that Dual carries, against central differences of the values.
#include "deltatune/core/dual.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <type_traits>

using deltatune::Dual;
using D = Dual<double>;

static_assert(std::is_trivially_copyable_v<D>);
static_assert(std::is_trivially_default_constructible_v<D>);
static_assert(!std::is_convertible_v<double, D>, "a number must not become a dual number unnoticed");

namespace {

template <class F>
void check_derivative(F f, double x) {
  constexpr double kStep = 1e-5;
  const D y = f(D(x, 1.0));
  const double slope = (f(D(x + kStep)).value - f(D(x - kStep)).value) / (2 * kStep);
  INFO("x = " << x);
  CHECK(y.tangent == Approx(slope).epsilon(1e-7).margin(1e-8));
  CHECK(f(D(x)).tangent == 0.0);
  CHECK(f(D(x, -2.0)).tangent == Approx(-2.0 * y.tangent));  // linear in the direction
}

}  // namespace

TEST_CASE("derivatives of the elementary functions", "[dual]") {
  for (const double x : {0.2, 0.9, 1.7, 3.1}) {
    check_derivative([](D v) { return exp(v); }, x);
    check_derivative([](D v) { return log(v); }, x);
    check_derivative([](D v) { return tanh(v); }, x);
    check_derivative([](D v) { return erf(v); }, x);
    check_derivative([](D v) { return sqrt(v); }, x);
    check_derivative([](D v) { return rsqrt(v); }, x);
    check_derivative([](D v) { return abs(v); }, x);
  }
  for (const double x : {-2.2, -0.4}) {
    check_derivative([](D v) { return exp(v); }, x);
    check_derivative([](D v) { return tanh(v); }, x);
    check_derivative([](D v) { return erf(v); }, x);
    check_derivative([](D v) { return abs(v); }, x);
  }
}

TEST_CASE("derivatives of the arithmetic", "[dual]") {
  const auto g = [](D v) { return v * v + 1.5; };  // a second operand that depends on x
  for (const double x : {-1.3, 0.7, 2.4}) {
    check_derivative([](D v) { return +v; }, x);
    check_derivative([](D v) { return -v; }, x);
    check_derivative([&](D v) { return v + g(v); }, x);
    check_derivative([&](D v) { return v - g(v); }, x);
    check_derivative([&](D v) { return v * g(v); }, x);
    check_derivative([&](D v) { return v / g(v); }, x);
    check_derivative([](D v) { return (v + 2.0) * (3.0 + v); }, x);
    check_derivative([](D v) { return (v - 2.0) * (3.0 - v); }, x);
    check_derivative([](D v) { return (v * 2.0) * (3.0 * v); }, x);
    check_derivative([](D v) { return v / 2.0 + 3.0 / v; }, x);
    check_derivative(
        [&](D v) {
          D y = v;
          y += g(v);
          y *= v;
          y -= 0.5;
          y /= g(v);
          y *= 2.0;
          y -= v;
          y += 1.0;
          y /= 4.0;
          return y;
        },
        x);
  }
}

TEST_CASE("comparisons read the value", "[dual]") {
  REQUIRE(D(1.0, 5.0) == D(1.0, -5.0));
  REQUIRE(D(1.0, 5.0) < D(2.0, 0.0));
  REQUIRE(D(1.0, 5.0) <= 1.0);
  REQUIRE(2.0 > D(1.0, 5.0));
  REQUIRE(D(1.0) != 2.0);
  REQUIRE(deltatune::math::max(D(1.0, 7.0), D(2.0, 9.0)).tangent == 9.0);
  REQUIRE_FALSE(D(NAN) < D(1.0));
}

TEST_CASE("what a reduction needs", "[dual]") {
  REQUIRE(std::numeric_limits<D>::lowest() == std::numeric_limits<double>::lowest());
  REQUIRE(std::numeric_limits<D>::lowest().tangent == 0.0);
  REQUIRE(std::numeric_limits<D>::infinity() > std::numeric_limits<D>::max());
  REQUIRE(deltatune::value_of(D(3.0, 4.0)) == 3.0);
  REQUIRE(deltatune::isfinite(D(3.0, 4.0)));
  REQUIRE_FALSE(deltatune::isfinite(D(3.0, INFINITY)));
  REQUIRE_FALSE(deltatune::isfinite(D(NAN, 0.0)));
  D x{};
  REQUIRE((x.value == 0.0 && x.tangent == 0.0));
}

TEST_CASE("dual numbers over float use the float bodies", "[dual]") {
  const Dual<float> y = exp(Dual<float>(0.5f, 2.0f));
  REQUIRE(y.value == deltatune::math::exp(0.5f));
  REQUIRE(y.tangent == 2.0f * y.value);
}
