// The order in which the threads of a block, and the blocks of a grid, get their turns. Right kernels give the same result in all of them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>

namespace cuda_emulation {

enum class Order { forward, reverse, random };

struct Schedule {
  Order order = Order::forward;
  std::uint64_t seed = 0;
};

// "forward", "reverse" or "random:SEED".
inline Schedule parse_order(const std::string& text) {
  if (text.empty() || text == "forward") return {};
  if (text == "reverse") return {Order::reverse, 0};
  if (text.starts_with("random:")) return {Order::random, std::strtoull(text.c_str() + 7, nullptr, 10)};
  std::fprintf(stderr, "cuda emulation: an order is forward, reverse or random:SEED, not %s\n", text.c_str());
  std::abort();
}
inline Schedule& schedule() {
  static Schedule value = parse_order(std::getenv("CUDA_EMULATION_ORDER") != nullptr ? std::getenv("CUDA_EMULATION_ORDER") : "");
  return value;
}
inline void set_order(Order order, std::uint64_t seed = 1) { schedule() = {order, seed}; }
inline void set_order(const std::string& text) { schedule() = parse_order(text); }
inline std::string order_name() {
  switch (schedule().order) {
    case Order::reverse:
      return "reverse";
    case Order::random:
      return "random:" + std::to_string(schedule().seed);
    default:
      return "forward";
  }
}

// splitmix64
struct Random {
  std::uint64_t state;
  std::uint64_t operator()() {
    std::uint64_t z = state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
};

// The numbers below n, each once: up, down, or in steps of a random stride that has no factor in common with n.
class Turns {
 public:
  Turns(std::uint64_t n, Random& random) : n_(n) {
    switch (schedule().order) {
      case Order::forward:
        break;
      case Order::reverse:
        next_ = stride_ = n - 1;
        break;
      case Order::random:
        next_ = random() % n;
        do stride_ = random() % n;
        while (std::gcd(stride_, n) != 1);
        break;
    }
  }
  // Turn number i, for n below 2^32.
  std::uint64_t at(std::uint64_t i) const { return (next_ + i * stride_) % n_; }
  // The next one.
  std::uint64_t operator()() {
    const std::uint64_t turn = next_;
    next_ += stride_;
    if (next_ >= n_) next_ -= n_;
    return turn;
  }

 private:
  std::uint64_t n_;
  std::uint64_t next_ = 0;
  std::uint64_t stride_ = 1;
};

}  // namespace cuda_emulation
