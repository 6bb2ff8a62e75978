// BLEU (Papineni et al., 2002, https://aclanthology.org/P02-1040) of a corpus, equal to sacrebleu's default
// (nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp):
//   BLEU = BP * (p1 p2 p3 p4)^(1/4),  BP = exp(min(0, 1 - reference_length / hypothesis_length)).
// p_n is the share of the hypotheses' n-grams that are in a reference, each at most as often as in the reference that has most of it; the k-th order without
// a match has 1 / 2^k of one. Of several references the one of the closest length gives the length, the shorter one of two.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/text/ngrams.hpp"
#include "deltatune/text/references.hpp"
#include "deltatune/text/words_13a.hpp"

namespace deltatune {

// Arrays have one entry per order, 1 to 4.
struct Bleu {
  double score = 0;                    // 0 to 100; 0 where no word matches, or no hypothesis has four words
  std::array<double, 4> precisions{};  // percent, smoothed; all 0 where no word matches
  double brevity_penalty = 1;
  std::array<Index, 4> matches{};
  std::array<Index, 4> ngrams{};  // of the hypotheses
  Index hypothesis_length = 0;    // words
  Index reference_length = 0;     // words of the references of the closest lengths
};

namespace detail {

DELTATUNE_FUNCTION void count_bleu(const std::u32string& hypothesis, const std::vector<std::u32string>& references, Bleu& counts_io) {
  std::vector<std::pair<std::size_t, std::size_t>> lengths;  // distance from the hypothesis', length
  for (const std::u32string& reference : references) {
    const std::size_t length = reference.size();
    lengths.emplace_back(std::max(length, hypothesis.size()) - std::min(length, hypothesis.size()), length);
  }
  counts_io.hypothesis_length += static_cast<Index>(hypothesis.size());
  counts_io.reference_length += static_cast<Index>(std::min_element(lengths.begin(), lengths.end())->second);
  for (std::size_t i = 0; i < counts_io.ngrams.size(); ++i) {
    Ngrams allowed;
    for (const std::u32string& reference : references) allowed = united_ngrams(allowed, ngrams_of(reference, i + 1));
    const Ngrams own = ngrams_of(hypothesis, i + 1);
    counts_io.ngrams[i] += static_cast<Index>(own.size());
    counts_io.matches[i] += static_cast<Index>(common_ngrams(own, allowed).size());
  }
}

// Penalty, precisions and score from the counts.
DELTATUNE_FUNCTION void score_bleu(Bleu& bleu_io) {
  const double length = static_cast<double>(bleu_io.hypothesis_length), wanted = static_cast<double>(bleu_io.reference_length);
  if (length < wanted) bleu_io.brevity_penalty = length > 0 ? std::exp(1 - wanted / length) : 0;
  if (bleu_io.matches[0] == 0) return;
  double logarithms = 0, smoothed_match = 1;
  for (std::size_t i = 0; i < bleu_io.ngrams.size(); ++i) {
    if (bleu_io.ngrams[i] == 0) return;
    if (bleu_io.matches[i] == 0) smoothed_match /= 2;
    const double matches = bleu_io.matches[i] > 0 ? static_cast<double>(bleu_io.matches[i]) : smoothed_match;
    bleu_io.precisions[i] = 100 * matches / static_cast<double>(bleu_io.ngrams[i]);
    logarithms += std::log(bleu_io.precisions[i]);
  }
  bleu_io.score = bleu_io.brevity_penalty * std::exp(logarithms / static_cast<double>(bleu_io.ngrams.size()));
}

}  // namespace detail

// BLEU of all lines together, which is not the mean of the lines' BLEU. What is not UTF-8 counts as U+FFFD. Throws Error where there are no hypotheses, not as
// many as lines of references, or no reference for one.
DELTATUNE_FUNCTION Bleu corpus_bleu(std::span<const std::string> hypotheses, const References& references) {
  references.check("BLEU", hypotheses.size());
  Bleu bleu;
  for (std::size_t line = 0; line < hypotheses.size(); ++line) {
    detail::WordNumbers numbers;
    std::vector<std::u32string> texts;
    for (const std::string& reference : references.of(line)) texts.push_back(numbers(detail::words_13a(reference)));
    detail::count_bleu(numbers(detail::words_13a(hypotheses[line])), texts, bleu);
  }
  detail::score_bleu(bleu);
  return bleu;
}

}  // namespace deltatune
