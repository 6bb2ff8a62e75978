// A classifier's right answers and mistakes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "deltatune/train/dataset.hpp"

namespace deltatune::cli {

// Right answers and mistakes by class: count(truth, answer).
class Confusion {
 public:
  // data: with labels; answers: one per example.
  Confusion(const Dataset& data, const std::vector<std::int32_t>& answers, std::size_t classes) : counts_(classes, std::vector<Index>(classes, 0)) {
    for (std::size_t i = 0; i < answers.size(); ++i)
      ++counts_[static_cast<std::size_t>(data[static_cast<Index>(i)].label)][static_cast<std::size_t>(answers[i])];
  }

  std::size_t classes() const { return counts_.size(); }
  const std::vector<std::vector<Index>>& counts() const { return counts_; }
  Index examples(std::size_t c) const { return std::accumulate(counts_[c].begin(), counts_[c].end(), Index{0}); }
  Index answers(std::size_t c) const {
    return std::accumulate(counts_.begin(), counts_.end(), Index{0}, [c](Index sum, const auto& row) { return sum + row[c]; });
  }
  double precision(std::size_t c) const { return ratio(counts_[c][c], answers(c)); }
  double recall(std::size_t c) const { return ratio(counts_[c][c], examples(c)); }
  double f1(std::size_t c) const { return ratio(2 * counts_[c][c], examples(c) + answers(c)); }
  double macro_precision() const { return mean(&Confusion::precision); }
  double macro_recall() const { return mean(&Confusion::recall); }
  double macro_f1() const { return mean(&Confusion::f1); }

 private:
  // Over the classes that occur, in truth or as an answer, as scikit-learn does.
  double mean(double (Confusion::*of)(std::size_t) const) const {
    double sum = 0, count = 0;
    for (std::size_t c = 0; c < classes(); ++c) {
      if (examples(c) + answers(c) == 0) continue;
      sum += (this->*of)(c);
      ++count;
    }
    return sum / std::max(1.0, count);
  }
  static double ratio(Index part, Index whole) { return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole); }

  std::vector<std::vector<Index>> counts_;
};

}  // namespace deltatune::cli
