// What a template may use: one from a stranger's folder must neither hang nor exhaust the memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune::jinja {

struct Limits {
  std::int64_t steps = 20'000'000;                  // one per node of the template that is evaluated, per value that is compared, per 32 bytes that are made
  std::size_t output_bytes = std::size_t{1} << 26;  // of the whole text
  int depth = 250;                                  // of expressions, blocks and macro calls inside each other
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}

  // Throws Failure when the steps are used up.
  void charge(std::size_t steps) {
    const std::int64_t left = limits_.steps - used_;
    if (steps > static_cast<std::size_t>(left)) throw_used_up();
    used_ += static_cast<std::int64_t>(steps);
  }
  void charge_bytes(std::size_t bytes) { charge(1 + bytes / 32); }

  void enter() {
    if (depth_ >= limits_.depth)
      throw Failure{"expressions, blocks and macro calls lie too deep inside each other", {.expected = "at most " + std::to_string(limits_.depth) + " levels"}};
    ++depth_;
  }
  void leave() { --depth_; }

  const Limits& limits() const { return limits_; }

 private:
  [[noreturn]] DELTATUNE_FUNCTION void throw_used_up() const {
    throw Failure{"the template does not come to an end",
                  {.expected = "at most " + std::to_string(limits_.steps) + " steps", .remedy = "mend the template, or raise the limit"}};
  }

  Limits limits_;
  std::int64_t used_ = 0;
  int depth_ = 0;
};

// Counts a level for as long as it lives.
class Level {
 public:
  explicit Level(Budget& budget) : budget_(budget) { budget_.enter(); }
  ~Level() { budget_.leave(); }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Budget& budget_;
};

}  // namespace deltatune::jinja
