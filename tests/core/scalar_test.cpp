// Accuracy of the float bodies against long double, over all exponents and densely where their formulas change.
#include "deltatune/core/scalar.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using deltatune::detail::from_bits;
using deltatune::detail::to_bits;

// Distance in units in the last place of the exact value; all subnormals have the same unit.
double ulp_error(float got, long double exact) {
  const float rounded = static_cast<float>(exact);
  if (std::isnan(rounded) || std::isnan(got)) return std::isnan(rounded) == std::isnan(got) ? 0.0 : INFINITY;
  if (std::isinf(rounded) || std::isinf(got)) return rounded == got ? 0.0 : INFINITY;
  const std::uint32_t exponent = std::max(1u, to_bits(rounded) >> 23 & 255u);
  const double one_over_unit = __builtin_bit_cast(double, std::uint64_t{1023 + 150 - exponent} << 52);
  return static_cast<double>(std::fabs(static_cast<long double>(got) - exact)) * one_over_unit;
}

struct Worst {
  double error = 0;
  float at = 0;
};

template <class Mine, class Exact>
void look_at(std::uint32_t bits, Mine mine, Exact exact, Worst& worst_io) {
  const float x = from_bits(bits);
  const double error = ulp_error(mine(x), exact(static_cast<long double>(x)));
  if (!(error <= worst_io.error)) worst_io = {error, x};
}

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kCoarse = 99991, kFine = 9973;  // a sanitized build looks for other mistakes
#else
constexpr std::uint64_t kCoarse = 997, kFine = 97;
#endif

// Bit patterns of all floats at a coarse stride, of the magnitudes between 2^-26 and 2^7 (where the functions are not a constant, the
// argument or infinity) at a fine one, and all of the 4096 around each special point.
template <class Mine, class Exact>
Worst worst_over_all_floats(Mine mine, Exact exact, const std::vector<float>& special) {
  Worst worst;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += kCoarse) {
    look_at(static_cast<std::uint32_t>(bits), mine, exact, worst);
  }
  for (std::uint64_t bits = to_bits(0x1p-26f); bits < to_bits(0x1p7f); bits += kFine) {
    look_at(static_cast<std::uint32_t>(bits), mine, exact, worst);
    look_at(to_bits(-from_bits(static_cast<std::uint32_t>(bits))), mine, exact, worst);
  }
  std::vector<float> points = special;
  points.insert(points.end(), {0.0f, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::min(), 1.0f, std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::infinity()});
  for (const float point : points) {
    for (const float x : {point, -point}) {
      for (std::uint32_t step = 0; step < 4096; ++step) look_at(to_bits(x) - 2048 + step, mine, exact, worst);
    }
  }
  return worst;
}

}  // namespace

#define REQUIRE_WITHIN_4_ULP(function, exact, ...)                                                                         \
  do {                                                                                                                     \
    const Worst worst = worst_over_all_floats([](float v) { return deltatune::math::function(v); }, exact, {__VA_ARGS__}); \
    INFO(#function "(" << worst.at << ") is " << worst.error << " ulp off");                                               \
    REQUIRE(worst.error <= 4.0);                                                                                           \
  } while (false)

TEST_CASE("ulp_error sees errors", "[scalar]") {
  REQUIRE(ulp_error(1.0f, 1.0L) <= 0.5);
  REQUIRE(ulp_error(std::nextafter(1.0f, 2.0f), 1.0L) == 1.0);
  REQUIRE(ulp_error(0.0f, static_cast<long double>(std::numeric_limits<float>::denorm_min()) * 5) == 5.0);
  REQUIRE(ulp_error(INFINITY, 1.0L) == INFINITY);
  REQUIRE(ulp_error(1.0f, INFINITY) == INFINITY);
  REQUIRE(ulp_error(NAN, 1.0L) == INFINITY);
  REQUIRE(ulp_error(1.0f, NAN) == INFINITY);
}

TEST_CASE("exp is within 4 ulp for every float", "[scalar]") {
  REQUIRE_WITHIN_4_ULP(
      exp, [](long double x) { return std::exp(x); }, 88.7228394f, 87.3365479f, 103.278931f, 103.972076f, 104.0f, 89.0f, 0.34657359f);
  REQUIRE(deltatune::math::exp(0.0f) == 1.0f);
  REQUIRE(deltatune::math::exp(-0.0f) == 1.0f);
  REQUIRE(deltatune::math::exp(-INFINITY) == 0.0f);
  REQUIRE(deltatune::math::exp(INFINITY) == INFINITY);
}

TEST_CASE("log is within 4 ulp for every float", "[scalar]") {
  REQUIRE_WITHIN_4_ULP(log, [](long double x) { return std::log(x); });
}

TEST_CASE("tanh is within 4 ulp for every float and odd", "[scalar]") {
  REQUIRE_WITHIN_4_ULP(
      tanh, [](long double x) { return std::tanh(x); }, 0.1732868f, 0.5198604f, 9.010913f, 10.0f);
  REQUIRE(deltatune::math::tanh(INFINITY) == 1.0f);
  REQUIRE(deltatune::math::tanh(-INFINITY) == -1.0f);
  REQUIRE(std::signbit(deltatune::math::tanh(-0.0f)));
}

TEST_CASE("erf is within 4 ulp for every float and odd", "[scalar]") {
  REQUIRE_WITHIN_4_ULP(
      erf, [](long double x) { return std::erf(x); }, 0.9375f, 3.832507f, 4.0f);
  REQUIRE(deltatune::math::erf(INFINITY) == 1.0f);
  REQUIRE(deltatune::math::erf(-INFINITY) == -1.0f);
  REQUIRE(std::signbit(deltatune::math::erf(-0.0f)));
}

TEST_CASE("sqrt and rsqrt are within 4 ulp for every float", "[scalar]") {
  REQUIRE_WITHIN_4_ULP(
      sqrt, [](long double x) { return std::sqrt(x); }, 1.0e-30f, 2.0f, 4.0f);
  REQUIRE_WITHIN_4_ULP(
      rsqrt, [](long double x) { return 1.0L / std::sqrt(x); }, 1.0e-30f, 2.0f, 4.0f);
  REQUIRE(deltatune::math::sqrt(4.0f) == 2.0f);
  REQUIRE(std::signbit(deltatune::math::sqrt(-0.0f)));
}

TEMPLATE_TEST_CASE("small helpers", "[scalar]", float, double) {
  const TestType inf = std::numeric_limits<TestType>::infinity();
  const TestType nan = std::numeric_limits<TestType>::quiet_NaN();
  REQUIRE(deltatune::math::abs(TestType(-2.5)) == TestType(2.5));
  REQUIRE_FALSE(std::signbit(deltatune::math::abs(TestType(-0.0))));
  REQUIRE(deltatune::math::isfinite(std::numeric_limits<TestType>::max()));
  REQUIRE_FALSE(deltatune::math::isfinite(inf));
  REQUIRE_FALSE(deltatune::math::isfinite(-inf));
  REQUIRE_FALSE(deltatune::math::isfinite(nan));
  REQUIRE(deltatune::math::max(TestType(1), TestType(2)) == TestType(2));
  REQUIRE(deltatune::math::min(TestType(1), TestType(2)) == TestType(1));
  REQUIRE(deltatune::value_of(TestType(3)) == TestType(3));
}

TEST_CASE("double is the C library's", "[scalar]") {
  REQUIRE(deltatune::math::exp(1.0) == std::exp(1.0));
  REQUIRE(deltatune::math::log(3.0) == std::log(3.0));
  REQUIRE(deltatune::math::tanh(0.3) == std::tanh(0.3));
  REQUIRE(deltatune::math::erf(0.3) == std::erf(0.3));
  REQUIRE(deltatune::math::sqrt(3.0) == std::sqrt(3.0));
  REQUIRE(deltatune::math::rsqrt(4.0) == 0.5);
}
