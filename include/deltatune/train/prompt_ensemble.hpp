// An ensemble of prompts (Lester et al. 2021, section 5): each sequence once with every prompt, all in one batch, and the scores combined.
//
//   const auto logits = prompt_ensemble([&](const PackedBatch& batch) { return trainer.logits(batch); }, prompts, classes, Ensemble::vote);
//   evaluate(data, batch_size, classes, logits);
//
// Training on with_every_prompt(batch, K) trains the K prompts beside each other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/nn/packed_batch.hpp"

namespace deltatune {

enum class Ensemble {
  mean,  // of the scores
  vote,  // how many prompts are for a class, and as a fraction that settles ties the mean of their scores, from 0 for the least to 1/2
};

// Each sequence K times, with prompts 0 to K - 1.
DELTATUNE_FUNCTION PackedBatch with_every_prompt(const PackedBatch& batch, Index prompts) {
  PackedBatch result;
  for (Index b = 0; b < batch.count(); ++b) {
    const std::ptrdiff_t first = batch.offsets[static_cast<std::size_t>(b)], last = batch.offsets[static_cast<std::size_t>(b) + 1];
    const auto again = [&](const auto& from, auto& to, std::ptrdiff_t begin, std::ptrdiff_t end) {
      if (!from.empty()) to.insert(to.end(), from.begin() + begin, from.begin() + end);
    };
    for (Index k = 0; k < prompts; ++k) {
      again(batch.ids, result.ids, first, last);
      again(batch.positions, result.positions, first, last);
      again(batch.types, result.types, first, last);
      again(batch.token_labels, result.token_labels, first, last);
      again(batch.labels, result.labels, b, b + 1);
      again(batch.targets, result.targets, b, b + 1);
      result.offsets.push_back(result.rows());
      result.prompts.push_back(static_cast<std::int32_t>(k));
    }
  }
  return result;
}

// logits (B·K, classes) of such a batch, row-major -> (B, classes).
template <class T>
std::vector<T> combine_prompts(std::span<const T> logits, Index prompts, Index classes, Ensemble how) {
  std::vector<T> combined;
  const std::size_t k = static_cast<std::size_t>(prompts), c = static_cast<std::size_t>(classes);
  for (std::size_t first = 0; first < logits.size(); first += k * c) {
    std::vector<T> mean(c, T(0)), votes(c, T(0));
    for (std::size_t i = 0; i < k; ++i) {
      const std::span<const T> row = logits.subspan(first + i * c, c);
      for (std::size_t j = 0; j < c; ++j) mean[j] += row[j] / static_cast<T>(prompts);
      votes[static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin())] += T(1);
    }
    if (how == Ensemble::vote) {
      const auto [least, most] = std::minmax_element(mean.begin(), mean.end());
      for (std::size_t j = 0; j < c; ++j) votes[j] += *most > *least ? T(0.5) * (mean[j] - *least) / (*most - *least) : T(0);
    }
    const std::vector<T>& scores = how == Ensemble::vote ? votes : mean;
    combined.insert(combined.end(), scores.begin(), scores.end());
  }
  return combined;
}

// The scores of an ensemble, as a function of the batch. logits: a function from a PackedBatch to row-major scores.
template <class Logits>
auto prompt_ensemble(Logits logits, Index prompts, Index classes, Ensemble how) {
  return [=](const PackedBatch& batch) {
    const auto scores = logits(with_every_prompt(batch, prompts));
    using T = typename std::remove_cvref_t<decltype(scores)>::value_type;
    return combine_prompts(std::span<const T>(scores), prompts, classes, how);
  };
}

}  // namespace deltatune
