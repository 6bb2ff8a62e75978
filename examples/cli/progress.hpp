// How far a run is: one line that is rewritten on a terminal, now and then a plain line elsewhere (a file, a pipe).
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "display.hpp"
#include "report.hpp"

namespace deltatune::cli {

// What a progress line says.
struct ProgressState {
  Index step = 0, total = 1;
  double loss = 0, learning_rate = 0, tokens_per_second = 0;
  std::string time_left;
};

// One line of at most `width` characters: where room is short, first the bar shrinks, then the least important numbers are left out.
inline std::string progress_line(const ProgressState& state, Index width) {
  const auto bar = [&](Index length) {
    const Index filled = std::clamp<Index>(length * state.step / std::max<Index>(1, state.total), 0, length);
    return "[" + std::string(static_cast<std::size_t>(filled), '#') + std::string(static_cast<std::size_t>(length - filled), '.') + "] ";
  };
  const std::string count = std::to_string(state.step) + "/" + std::to_string(state.total), loss = "  loss " + formatted("%.4f", state.loss);
  const std::string rate = formatted("%.2e", state.learning_rate), speed = "  " + grouped(static_cast<Index>(state.tokens_per_second)) + " tokens/s";
  const std::string left = "  " + state.time_left + " left";
  for (const std::string& line : {bar(24) + count + loss + "  learning rate " + rate + speed + left, bar(10) + count + loss + "  lr " + rate + speed + left,
                                  bar(10) + count + loss + speed + left, bar(10) + count + loss + left, count + loss + left, count + loss, count})
    if (static_cast<Index>(line.size()) <= width) return line;
  return count.substr(0, static_cast<std::size_t>(std::max<Index>(0, width)));
}

class ProgressBar {
 public:
  // quiet: prints nothing at all.
  ProgressBar(Index total, bool quiet) : total_(total), quiet_(quiet), on_terminal_(::isatty(STDOUT_FILENO) == 1) {}
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() { clear(); }

  // After `step` of the total; the first update may be of any step, when a run goes on.
  void update(Index step, double loss, double learning_rate, double tokens_per_second) {
    if (first_ < 0) first_ = step;
    const Clock::time_point now = Clock::now();
    const bool is_last = step == total_;
    if (quiet_ || !(is_last || is_due(step, now))) return;
    printed_ = now;
    const std::string numbers = "loss " + formatted("%.4f", loss) + "  learning rate " + formatted("%.2e", learning_rate) + "  " +
                                grouped(static_cast<Index>(tokens_per_second)) + " tokens/s";
    const std::string count = std::to_string(step) + "/" + std::to_string(total_);
    if (on_terminal_) {
      clear();
      line_open_ = true;
      // The last column stays free: a full line may make the terminal wrap.
      std::printf("%s", progress_line({step, total_, loss, learning_rate, tokens_per_second, time_left(step, now)}, terminal_width() - 1).c_str());
    } else {
      std::printf("step %s  %s\n", count.c_str(), numbers.c_str());
    }
    std::fflush(stdout);
  }

  // A line of its own, above the bar.
  void note(const std::string& text) {
    if (quiet_) return;
    clear();
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr Index kPlainLines = 20;  // in a whole run

  bool is_due(Index step, Clock::time_point now) const {
    if (on_terminal_) return now - printed_ > std::chrono::milliseconds(100);
    return step == first_ || step % std::max<Index>(1, total_ / kPlainLines) == 0;
  }

  std::string time_left(Index step, Clock::time_point now) const {
    const double done = static_cast<double>(std::max<Index>(1, step - first_));
    const double seconds = std::chrono::duration<double>(now - start_).count() / done * static_cast<double>(total_ - step);
    const Index whole = step == first_ ? 0 : static_cast<Index>(seconds + 0.5);
    const std::string rest = std::to_string(whole % 60);
    return std::to_string(whole / 60) + ":" + (rest.size() < 2 ? "0" : "") + rest;
  }

  void clear() {
    if (!line_open_) return;
    std::printf("\r\033[K");
    std::fflush(stdout);
    line_open_ = false;
  }

  Index total_;
  bool quiet_;
  bool on_terminal_;
  bool line_open_ = false;
  Index first_ = -1;
  Clock::time_point start_ = Clock::now();
  Clock::time_point printed_{};
};

}  // namespace deltatune::cli
