// Counter-based random numbers: number i of a stream is a hash of (key, i). Nothing is stored or advanced, so any element can be drawn on
// any thread, in any order, again in the backward pass, and always with the same result.
//
// A stream is named by derive(seed, step, site, ...). Elements come from two rounds of a 32-bit multiply-xorshift hash (the shape and
// constants of "lowbias32" from C. Wellons' search for hashes with low avalanche bias) with a half of the key mixed in before each round;
// 32-bit words alone, so that a loop over them vectorises. Keys and shuffles come from SplitMix64's finaliser (Steele, Lea, Flood 2014).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

// The name of one stream of random numbers.
struct RandomKey {
  std::uint32_t a;
  std::uint32_t b;
  friend bool operator==(const RandomKey&, const RandomKey&) = default;
};

namespace detail {

DELTATUNE_INLINE constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

DELTATUNE_INLINE constexpr std::uint32_t mix32(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x21f0aaadu;
  x = (x ^ (x >> 15)) * 0x735a2d97u;
  return x ^ (x >> 15);
}

}  // namespace detail

// The key of the stream that belongs to a seed and any list of numbers (step, layer, site...). Order and length of the list matter.
template <class... Streams>
DELTATUNE_HD constexpr RandomKey derive(std::uint64_t seed, Streams... streams) {
  std::uint64_t state = detail::mix64(seed + 0x9e3779b97f4a7c15u);
  ((state = detail::mix64((state ^ static_cast<std::uint64_t>(streams)) + 0x9e3779b97f4a7c15u)), ...);
  return {static_cast<std::uint32_t>(state >> 32), static_cast<std::uint32_t>(state)};
}

// And of a stream below another one.
template <class... Streams>
DELTATUNE_HD constexpr RandomKey derive(RandomKey parent, Streams... streams) {
  return derive(std::uint64_t{parent.a} << 32 | parent.b, streams...);
}

// 32 random bits.
DELTATUNE_INLINE constexpr std::uint32_t random_bits(RandomKey key, std::uint64_t index) {
  const std::uint32_t low = static_cast<std::uint32_t>(index);
  const std::uint32_t high = static_cast<std::uint32_t>(index >> 32);
  return detail::mix32(detail::mix32(low ^ key.a) + (key.b ^ high * 0x9e3779b9u));
}

// Uniform in [0, 1), a multiple of 2^-24.
DELTATUNE_INLINE constexpr float uniform(RandomKey key, std::uint64_t index) { return static_cast<float>(random_bits(key, index) >> 8) * 0x1p-24f; }

// Standard normal (Box and Muller). For initialisation.
DELTATUNE_FUNCTION double normal(RandomKey key, std::uint64_t index) {
  const double u = (random_bits(key, 2 * index) + 0.5) * 0x1p-32;  // never 0
  const double v = random_bits(key, 2 * index + 1) * 0x1p-32;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

// Inverted dropout: element i is multiplied by factor(i), which is 0 with probability p and 1/(1-p) otherwise. Backward asks again.
struct DropoutMask {
  RandomKey key{};
  std::uint32_t threshold = 0;  // dropped when the element's bits are below: p·2^32
  float scale = 1;

  DropoutMask() = default;  // keeps everything
  DropoutMask(RandomKey stream, double p) : key(stream) {
    if (!(p >= 0.0 && p < 1.0)) {
      throw Error("dropout", "not a probability", {.expected = "0 <= p < 1", .got = std::to_string(p)});
    }
    threshold = static_cast<std::uint32_t>(p * 4294967295.0 + 0.5);
    scale = static_cast<float>(1.0 / (1.0 - p));
  }

  DELTATUNE_INLINE bool active() const { return threshold != 0; }

  template <class T>
  DELTATUNE_INLINE T factor(std::uint64_t index) const {
    return random_bits(key, index) < threshold ? T(0) : T(scale);
  }

  // The elements high·2^32 and up, which then have numbers of 32 bits: loops over those are twice as wide.
  DELTATUNE_INLINE DropoutMask piece(std::uint32_t high) const {
    DropoutMask mask = *this;
    mask.key.b ^= high * 0x9e3779b9u;
    return mask;
  }
  template <class T>
  DELTATUNE_INLINE T piece_factor(std::uint32_t index) const {
    return detail::mix32(detail::mix32(index ^ key.a) + key.b) < threshold ? T(0) : T(scale);
  }
};

// The numbers 0..n-1 in the order of one epoch (Fisher and Yates), the same on every platform.
DELTATUNE_FUNCTION std::vector<Index> shuffled_order(std::uint64_t seed, std::uint64_t epoch, Index n) {
  std::vector<Index> order(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
  const RandomKey key = derive(seed, epoch);
  const std::uint64_t base = std::uint64_t{key.a} << 32 | key.b;
  for (std::uint64_t left = order.size(); left > 1; --left) {
    // 64 bits against a bound far below: the remainder's bias is beneath notice.
    const std::uint64_t pick = detail::mix64(base + left * 0x9e3779b97f4a7c15u) % left;
    std::swap(order[left - 1], order[pick]);
  }
  return order;
}

}  // namespace deltatune
