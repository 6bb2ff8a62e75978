// Elementary functions of the number types, for host and device, in namespace math: exp, log, tanh, erf, sqrt, rsqrt, abs, min, max, isfinite.
//
// The float bodies hold no branch, call, table or library rounding, so that every compiler turns a loop over them into vector code with its
// default floating-point flags (a header-only library does not set flags). That forbids std::floor, std::fmin, std::copysign and std::sqrt,
// whose exact or errno semantics stop the vectoriser: rounding is an addition of 1.5·2^23, clamps are x < lo ? lo : x, signs are bits.
// Each is within 4 ulp of the exact value for every float, gradual underflow, overflow, infinities and NaN included. The
// polynomials are minimax (Remez), computed for this file. Only log, wanted once a row, is the C library's.
//
// The double bodies are the C library's: double runs on the reference backend only, where a plain answer beats a quick one.
#pragma once

#include <cmath>
#include <cstdint>

#include "deltatune/core/config.hpp"

namespace deltatune {

namespace detail {

DELTATUNE_INLINE std::uint32_t to_bits(float x) { return __builtin_bit_cast(std::uint32_t, x); }
DELTATUNE_INLINE float from_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

inline constexpr std::uint32_t kSignBit = 0x80000000u;
inline constexpr std::uint32_t kInfinityBits = 0x7f800000u;

// condition ? a : b on bits: both sides are always computed, and no compiler may move one into a branch.
DELTATUNE_INLINE float select(bool condition, float a, float b) {
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
  return from_bits((to_bits(a) & mask) | (to_bits(b) & ~mask));
}
template <class T>
DELTATUNE_INLINE T select(bool condition, T a, T b) {
  return condition ? a : b;
}

// 2^n for n in [-126, 127]. Any other n gives some number: that of a NaN is anything.
DELTATUNE_INLINE float power_of_two(std::int32_t n) { return from_bits((static_cast<std::uint32_t>(n) + 127u) << 23); }

// x = n·ln 2 + r with |r| <= ln(2)/2, and exp(r) - 1. Wants |x| below 2^21 or NaN.
struct ReducedExp {
  std::int32_t n;
  float exp_r_minus_1;
};

DELTATUNE_INLINE ReducedExp reduced_exp(float x) {
  constexpr float kRound = 12582912.0f;       // 1.5·2^23: adding it leaves the nearest integer in the low bits
  constexpr float kLog2E = 1.44269504f;       // 1 / ln 2
  constexpr float kLn2High = 0.693359375f;    // ln 2 in nine bits, so that n·kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4f;  // and the rest
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float q = 1.39465812e-3f;
  q = q * r + 8.36665928e-3f;
  q = q * r + 4.16662805e-2f;
  q = q * r + 1.66665420e-1f;
  q = q * r + 0.5f;
  return {static_cast<std::int32_t>(to_bits(shifted) - to_bits(kRound)), r + r * r * q};
}

}  // namespace detail

namespace math {

// ---- float ----

DELTATUNE_INLINE float abs(float x) { return detail::from_bits(detail::to_bits(x) & ~detail::kSignBit); }

DELTATUNE_INLINE bool isfinite(float x) { return (detail::to_bits(x) & detail::kInfinityBits) != detail::kInfinityBits; }

DELTATUNE_INLINE float exp(float x) {
  x = detail::select(x < -104.0f, -104.0f, x);  // below the smallest subnormal
  x = detail::select(x > 89.0f, 89.0f, x);      // beyond the largest float
  const detail::ReducedExp e = detail::reduced_exp(x);
  // 2^n in two factors, each a normal number, so that results overflow to infinity and underflow gradually.
  const std::int32_t half = e.n >> 1;
  return (1.0f + e.exp_r_minus_1) * detail::power_of_two(half) * detail::power_of_two(e.n - half);
}

DELTATUNE_INLINE float log(float x) { return std::log(x); }

// (e^2|x| - 1) / (e^2|x| + 1) with the sign of x; the difference is computed without cancellation.
DELTATUNE_INLINE float tanh(float x) {
  const std::uint32_t sign = detail::to_bits(x) & detail::kSignBit;
  float y = abs(x);
  y = detail::select(y > 10.0f, 10.0f, y);  // 1 in float from here on
  const detail::ReducedExp e = detail::reduced_exp(y + y);
  const float scale = detail::power_of_two(e.n);
  const float exp_minus_1 = scale * e.exp_r_minus_1 + (scale - 1.0f);
  return detail::from_bits(detail::to_bits(exp_minus_1 / (exp_minus_1 + 2.0f)) | sign);
}

// x + x·P(x²) up to 15/16, 1 - exp(P(|x|)) from there to 4, where it is 1 in float. No division, and the small part is never cancelled.
DELTATUNE_INLINE float erf(float x) {
  const std::uint32_t sign = detail::to_bits(x) & detail::kSignBit;
  float y = abs(x);
  y = detail::select(y > 4.0f, 4.0f, y);
  const float u = y * y;
  float p = -5.91941876e-4f;
  p = p * u + 4.97913035e-3f;
  p = p * u - 2.67570354e-2f;
  p = p * u + 1.12815522e-1f;
  p = p * u - 3.76124680e-1f;
  p = p * u + 1.28379151e-1f;
  const float inner = y + y * p;
  float q = -1.22169009e-3f;
  q = q * y + 1.53449029e-2f;
  q = q * y - 9.03937370e-2f;
  q = q * y - 6.51821196e-1f;
  q = q * y - 1.11941576f;
  q = q * y - 2.09786324e-3f;
  const detail::ReducedExp e = detail::reduced_exp(q);
  const float scale = detail::power_of_two(e.n);
  const float outer = (1.0f - scale) - scale * e.exp_r_minus_1;
  return detail::from_bits(detail::to_bits(detail::select(y < 0.9375f, inner, outer)) | sign);
}

// Newton's iteration for 1/sqrt(x) from a guess on the bits, then one correction of x/sqrt(x).
DELTATUNE_INLINE float sqrt(float x) {
  const bool tiny = x < 1.0e-30f;  // lifted out of the subnormals first
  const float z = x * detail::select(tiny, 281474976710656.0f, 1.0f);
  float y = detail::from_bits(0x5f3759dfu - (detail::to_bits(z) >> 1));
  y = y * (1.5f - 0.5f * z * y * y);
  y = y * (1.5f - 0.5f * z * y * y);
  const float s = z * y;
  const float root = (s + 0.5f * y * (z - s * s)) * detail::select(tiny, 5.9604644775390625e-8f, 1.0f);
  const float special = detail::select(x < 0.0f, detail::from_bits(0x7fc00000u), x);           // zeros, infinity and NaN are their own root
  return detail::select(detail::to_bits(x) - 1u < detail::kInfinityBits - 1u, root, special);  // positive and finite in one comparison
}

DELTATUNE_INLINE float rsqrt(float x) { return 1.0f / sqrt(x); }

// ---- double ----

DELTATUNE_INLINE double abs(double x) { return std::fabs(x); }
DELTATUNE_INLINE bool isfinite(double x) { return std::isfinite(x); }
DELTATUNE_INLINE double exp(double x) { return std::exp(x); }
DELTATUNE_INLINE double log(double x) { return std::log(x); }
DELTATUNE_INLINE double tanh(double x) { return std::tanh(x); }
DELTATUNE_INLINE double erf(double x) { return std::erf(x); }
DELTATUNE_INLINE double sqrt(double x) { return std::sqrt(x); }
DELTATUNE_INLINE double rsqrt(double x) { return 1.0 / std::sqrt(x); }

// ---- any number type ----

template <class T>
DELTATUNE_INLINE T max(T a, T b) {
  return a < b ? b : a;
}

template <class T>
DELTATUNE_INLINE T min(T a, T b) {
  return b < a ? b : a;
}

}  // namespace math

// In here exp(x) is ours for every number type. A program that says `using namespace deltatune` keeps the names of <cmath>.
namespace ops {
using namespace math;
}
namespace detail {
using namespace math;
}

// The plain number in x: what a comparison or a report reads. Number types that carry more (Dual) overload it.
DELTATUNE_INLINE float value_of(float x) { return x; }
DELTATUNE_INLINE double value_of(double x) { return x; }

}  // namespace deltatune
