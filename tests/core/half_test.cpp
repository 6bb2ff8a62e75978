#include "deltatune/core/half.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>

namespace deltatune {
namespace {

// The definition of the formats: sign, exponent field, fraction field.
double value_of(std::uint16_t pattern, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (pattern >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = pattern & ((1 << fraction_bits) - 1);
  const double sign = (pattern & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

struct Format {
  const char* name;
  int exponent_bits;
  int fraction_bits;
  std::uint16_t infinity;
  float (*to_float)(std::uint16_t);
  std::uint16_t (*from_float)(float);
};

const Format kFormats[] = {
    {"half", 5, 10, 0x7c00, half_to_float, float_to_half},
    {"bfloat16", 8, 7, 0x7f80, bfloat16_to_float, float_to_bfloat16},
};

// Counts instead of one REQUIRE a pattern: 65,536 of them would take long.
TEST_CASE("half and bfloat16: every pattern has its value and comes back", "[half]") {
  for (const Format& format : kFormats) {
    INFO(format.name);
    int wrong_value = 0;
    int wrong_pattern = 0;
    for (int i = 0; i < 0x10000; ++i) {
      const auto pattern = static_cast<std::uint16_t>(i);
      const double expected = value_of(pattern, format.exponent_bits, format.fraction_bits);
      const float value = format.to_float(pattern);
      const std::uint16_t back = format.from_float(value);
      const bool same_sign = std::signbit(value) == ((pattern & 0x8000) != 0);
      if (std::isnan(expected)) {
        wrong_value += !(std::isnan(value) && same_sign);
        wrong_pattern += !(std::isnan(format.to_float(back)) && (back & 0x8000) == (pattern & 0x8000));
      } else {
        wrong_value += !(static_cast<double>(value) == expected && same_sign);
        wrong_pattern += back != pattern;
      }
    }
    CHECK(wrong_value == 0);
    CHECK(wrong_pattern == 0);
  }
}

TEST_CASE("half and bfloat16: floats between two neighbours go to the nearer one, halfway to the even one", "[half]") {
  for (const Format& format : kFormats) {
    INFO(format.name);
    int wrong = 0;
    for (const int sign : {0, 0x8000}) {
      for (int i = 0; i < format.infinity; ++i) {  // the last interval ends where the first pattern after infinity's would be: it rounds up
        const auto lower = static_cast<std::uint16_t>(i | sign);
        const auto upper = static_cast<std::uint16_t>((i + 1) | sign);
        const double low = value_of(lower, format.exponent_bits, format.fraction_bits);
        const double below = i == 0 ? 0.0 : value_of(static_cast<std::uint16_t>(lower - 1), format.exponent_bits, format.fraction_bits);
        const bool last = i + 1 == format.infinity;
        const double step = last ? low - below : value_of(upper, format.exponent_bits, format.fraction_bits) - low;
        const auto middle = static_cast<float>(low + step / 2);
        const float towards_zero = std::nextafter(middle, 0.0f);
        const float away = std::nextafter(middle, sign == 0 ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity());
        const std::uint16_t even = (i & 1) == 0 ? lower : upper;
        wrong += format.from_float(towards_zero) != lower;
        wrong += format.from_float(middle) != even;
        wrong += format.from_float(away) != upper;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("half and bfloat16: beyond the range", "[half]") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(float_to_half(65504.0f) == 0x7bff);
  CHECK(float_to_half(65520.0f) == 0x7c00);
  CHECK(float_to_half(-1e30f) == 0xfc00);
  CHECK(float_to_half(kInfinity) == 0x7c00);
  CHECK(float_to_half(1e-30f) == 0x0000);
  CHECK(float_to_half(-1e-30f) == 0x8000);
  CHECK(float_to_bfloat16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(float_to_bfloat16(-kInfinity) == 0xff80);
  const float tiny_nan = std::bit_cast<float>(0x7f800001u);  // its payload lies in the bits that are cut off
  CHECK(std::isnan(half_to_float(float_to_half(tiny_nan))));
  CHECK(std::isnan(bfloat16_to_float(float_to_bfloat16(tiny_nan))));
}

static_assert(half_to_float(0x3c00) == 1.0f && float_to_half(1.0f) == 0x3c00);
static_assert(half_to_float(0x0001) == 0x1p-24f && float_to_half(0x1p-24f) == 0x0001);
static_assert(bfloat16_to_float(0x3f80) == 1.0f && float_to_bfloat16(1.0f) == 0x3f80);

}  // namespace
}  // namespace deltatune
