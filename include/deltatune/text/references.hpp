// The texts that a model's are compared with, one or several per line.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune {

// The references of each line. A view: the texts must outlive it.
class References {
 public:
  References(const std::vector<std::string>& one_per_line) : single_(one_per_line) {}                        // NOLINT(google-explicit-constructor)
  References(const std::vector<std::vector<std::string>>& several_per_line) : several_(several_per_line) {}  // NOLINT(google-explicit-constructor)

  std::size_t lines() const { return single_.size() + several_.size(); }
  std::span<const std::string> of(std::size_t line) const { return single_.empty() ? std::span(several_[line]) : single_.subspan(line, 1); }

  // Throws Error unless there are hypotheses, as many as lines of references, and no line is without a reference.
  DELTATUNE_FUNCTION void check(const std::string& metric, std::size_t hypotheses) const {
    if (hypotheses != lines()) {
      throw Error(metric, "the numbers of hypotheses and of references differ",
                  {.expected = "references for " + std::to_string(hypotheses) + (hypotheses == 1 ? " line" : " lines"),
                   .got = std::to_string(lines()),
                   .remedy = "give one hypothesis per line, and its references in the same place"});
    }
    if (hypotheses == 0) throw Error(metric, "there are no hypotheses", {.expected = "at least one line", .got = "0", .remedy = "give texts to score"});
    for (std::size_t line = 0; line < lines(); ++line)
      if (of(line).empty()) throw Error(metric + ": line " + std::to_string(line + 1), "has no reference", {.remedy = "give one, or leave the line out"});
  }

 private:
  std::span<const std::string> single_ = {};
  std::span<const std::vector<std::string>> several_ = {};
};

}  // namespace deltatune
