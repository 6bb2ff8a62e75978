// IEEE 754 half (binary16) and bfloat16 bit patterns to float and back, rounding to nearest, ties to even.
// Infinities, signed zeros, subnormals and the sign of a NaN survive; a NaN comes back quiet.
#pragma once

#include <bit>
#include <cstdint>

#include "deltatune/core/config.hpp"

namespace deltatune {

constexpr float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude << 13));               // infinity, NaN
  if (magnitude >= 0x0400u) return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));            // exponent bias 15 -> 127
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24f));  // subnormal: steps of 2^-24
}

constexpr std::uint16_t float_to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half = 0;
  if (magnitude > 0x7f800000u) {  // NaN: quiet, with the upper bits of its payload
    half = 0x7e00u | ((magnitude >> 13) & 0x03ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520 and more round to infinity
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: the neighbours of 0.5f are 2^-24 apart, so this sum rounds to a subnormal's step
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
  } else {
    const std::uint32_t rebiased = magnitude - (112u << 23);
    half = (rebiased + 0x0fffu + ((rebiased >> 13) & 1u)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | half);
}

DELTATUNE_INLINE constexpr float bfloat16_to_float(std::uint16_t value) { return __builtin_bit_cast(float, static_cast<std::uint32_t>(value) << 16); }

DELTATUNE_INLINE constexpr std::uint16_t float_to_bfloat16(float value) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x0040u);  // NaN: quiet
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// A number kept in 16 bits, for products whose inputs are rounded.
struct Bfloat16 {
  std::uint16_t bits;

  Bfloat16() = default;
  DELTATUNE_INLINE explicit Bfloat16(float value) : bits(float_to_bfloat16(value)) {}
  DELTATUNE_INLINE explicit operator float() const { return bfloat16_to_float(bits); }
};

}  // namespace deltatune
