// XXH64, the 64-bit hash of the command xxh64sum: tells contents apart at the speed of memory. Not against forgery.
// https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, with the seed 0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "deltatune/core/config.hpp"

namespace deltatune {

class ContentHash {
 public:
  // Pieces of any size; the hash is that of all of them in a row. Numbers are taken as little-endian.
  DELTATUNE_FUNCTION void add(std::span<const std::byte> bytes) {
    total_ += bytes.size();
    if (held_ > 0) {
      const std::size_t taken = std::min(kStripe - held_, bytes.size());
      std::copy_n(bytes.begin(), taken, stripe_.begin() + static_cast<std::ptrdiff_t>(held_));
      held_ += taken;
      bytes = bytes.subspan(taken);
      if (held_ < kStripe) return;
      consume(stripe_.data());
      held_ = 0;
    }
    for (; bytes.size() >= kStripe; bytes = bytes.subspan(kStripe)) consume(bytes.data());
    std::copy_n(bytes.begin(), bytes.size(), stripe_.begin());
    held_ = bytes.size();
  }
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  template <class T>
  requires std::is_arithmetic_v<T>
  void add(const std::vector<T>& values) { add(std::as_bytes(std::span(values))); }
  template <class T>
  requires std::is_arithmetic_v<T>
  void add(T value) { add(std::as_bytes(std::span(&value, 1))); }

  DELTATUNE_FUNCTION std::uint64_t value() const {
    std::uint64_t hash = kPrimes[4];
    if (total_ >= kStripe) {
      hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
      for (const std::uint64_t lane : lanes_) hash = (hash ^ round(0, lane)) * kPrimes[0] + kPrimes[3];
    }
    hash += total_;
    const std::byte* at = stripe_.data();
    std::size_t left = held_;
    for (; left >= 8; left -= 8, at += 8) hash = std::rotl(hash ^ round(0, load<std::uint64_t>(at)), 27) * kPrimes[0] + kPrimes[3];
    for (; left >= 4; left -= 4, at += 4) hash = std::rotl(hash ^ (load<std::uint32_t>(at) * kPrimes[0]), 23) * kPrimes[1] + kPrimes[2];
    for (; left > 0; --left, ++at) hash = std::rotl(hash ^ (static_cast<std::uint64_t>(*at) * kPrimes[4]), 11) * kPrimes[0];
    hash = (hash ^ (hash >> 33)) * kPrimes[1];
    hash = (hash ^ (hash >> 29)) * kPrimes[2];
    return hash ^ (hash >> 32);
  }

  // 16 hexadecimal digits, as xxh64sum prints them.
  DELTATUNE_FUNCTION std::string text() const {
    std::string digits;
    for (int shift = 60; shift >= 0; shift -= 4) digits += "0123456789abcdef"[(value() >> shift) & 15];
    return digits;
  }

 private:
  static constexpr std::size_t kStripe = 32;
  static constexpr std::array<std::uint64_t, 5> kPrimes{0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5};

  template <class T>
  static std::uint64_t load(const std::byte* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  static std::uint64_t round(std::uint64_t lane, std::uint64_t input) { return std::rotl(lane + input * kPrimes[1], 31) * kPrimes[0]; }
  void consume(const std::byte* stripe) {
    for (std::size_t i = 0; i < 4; ++i) lanes_[i] = round(lanes_[i], load<std::uint64_t>(stripe + 8 * i));
  }

  std::array<std::uint64_t, 4> lanes_{kPrimes[0] + kPrimes[1], kPrimes[1], 0, 0 - kPrimes[0]};
  std::array<std::byte, kStripe> stripe_{};
  std::size_t held_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace deltatune
