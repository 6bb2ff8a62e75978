// A classifier's right answers and mistakes, and the metrics made of them: accuracy, precision, recall, F1, Matthews' correlation. The numbers of
// scikit-learn with zero_division=0: a ratio of nothing to nothing is 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

// By class, K of them: counts()[truth][answer].
class ClassCounts {
 public:
  ClassCounts() = default;
  explicit ClassCounts(std::size_t classes) : counts_(classes, std::vector<Index>(classes, 0)) {}

  // 0 <= truth, answer < classes().
  void add(std::int32_t truth, std::int32_t answer) { ++counts_[static_cast<std::size_t>(truth)][static_cast<std::size_t>(answer)]; }

  std::size_t classes() const { return counts_.size(); }
  const std::vector<std::vector<Index>>& counts() const { return counts_; }
  Index examples(std::size_t c) const { return std::accumulate(counts_[c].begin(), counts_[c].end(), Index{0}); }
  Index answers(std::size_t c) const {
    return std::accumulate(counts_.begin(), counts_.end(), Index{0}, [c](Index sum, const auto& row) { return sum + row[c]; });
  }
  Index examples() const {
    return sum([this](std::size_t c) { return examples(c); });
  }
  Index right() const {
    return sum([this](std::size_t c) { return counts_[c][c]; });
  }

  double precision(std::size_t c) const { return ratio(counts_[c][c], answers(c)); }
  double recall(std::size_t c) const { return ratio(counts_[c][c], examples(c)); }
  double f1(std::size_t c) const { return ratio(2 * counts_[c][c], examples(c) + answers(c)); }

  // Also the micro-averaged precision, recall and F1, since each example has one label and gets one answer.
  double accuracy() const { return ratio(right(), examples()); }

  // Means over the classes that occur, in truth or as an answer; f1 also by their share of the examples.
  double macro_precision() const { return macro(&ClassCounts::precision); }
  double macro_recall() const { return macro(&ClassCounts::recall); }
  double macro_f1() const { return macro(&ClassCounts::f1); }
  double weighted_f1() const {
    double total = 0;
    for (std::size_t c = 0; c < classes(); ++c) total += static_cast<double>(examples(c)) * f1(c);
    return total / std::max(1.0, static_cast<double>(examples()));
  }

  // Matthews' correlation of truth and answer for K classes, -1 to 1; 0 where one of them never varies. Gorodkin 2004, doi 10.1016/j.compbiolchem.2004.09.006
  double matthews() const {
    double truth_answer = 0, truth_truth = 0, answer_answer = 0;
    for (std::size_t c = 0; c < classes(); ++c) {
      const double t = static_cast<double>(examples(c)), p = static_cast<double>(answers(c));
      truth_answer += t * p;
      truth_truth += t * t;
      answer_answer += p * p;
    }
    const double n = static_cast<double>(examples()), square = (n * n - answer_answer) * (n * n - truth_truth);
    return square > 0 ? (static_cast<double>(right()) * n - truth_answer) / std::sqrt(square) : 0.0;
  }

 private:
  template <class F>
  Index sum(const F& of) const {
    Index total = 0;
    for (std::size_t c = 0; c < classes(); ++c) total += of(c);
    return total;
  }
  double macro(double (ClassCounts::*of)(std::size_t) const) const {
    double total = 0, count = 0;
    for (std::size_t c = 0; c < classes(); ++c) {
      if (examples(c) + answers(c) == 0) continue;
      total += (this->*of)(c);
      ++count;
    }
    return total / std::max(1.0, count);
  }
  static double ratio(Index part, Index whole) { return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole); }

  std::vector<std::vector<Index>> counts_;
};

}  // namespace deltatune
