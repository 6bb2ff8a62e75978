// ROUGE (Lin, 2004, https://aclanthology.org/W04-1013) of pairs of texts and its mean, equal to the package rouge-score without its stemmer:
//   ROUGE-1, ROUGE-2   words and pairs of words in both texts
//   ROUGE-L            words of the longest common subsequence
//   ROUGE-Lsum         the same by sentences, which are lines of the text: words of the reference's sentences in a longest common subsequence with any
//                      of the hypothesis', each word at most as often as the hypothesis has it
// Words are runs of a to z and 0 to 9 after lower-casing, and nothing else is: "naive" with a diaeresis is "na" and "ve", and a text in another script has no
// words, so that it scores 0 against itself.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/python_text.hpp"
#include "deltatune/text/ngrams.hpp"
#include "deltatune/text/references.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune {

// From 0 to 1.
struct RougeScore {
  double precision = 0;  // share of the hypothesis that is in the reference
  double recall = 0;     // share of the reference that is in the hypothesis
  double f = 0;          // their harmonic mean
};

struct Rouge {
  RougeScore rouge_1 = {}, rouge_2 = {}, rouge_l = {}, rouge_l_sum = {};
};

namespace detail {

inline constexpr RougeScore Rouge::*kRougeTypes[] = {&Rouge::rouge_1, &Rouge::rouge_2, &Rouge::rouge_l, &Rouge::rouge_l_sum};

DELTATUNE_FUNCTION std::vector<std::string> rouge_words(std::string_view text) {
  std::string lower;
  jinja::for_each_character(text, [&](char32_t c, std::string_view) { unicode::append_lowercase(c, lower); });
  std::vector<std::string> words;
  bool in_word = false;
  for (const char c : lower) {
    const bool belongs = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (belongs && !in_word) words.emplace_back();
    if (belongs) words.back() += c;
    in_word = belongs;
  }
  return words;
}

struct RougeText {
  std::vector<std::u32string> sentences = {};
  std::u32string words = {};

  DELTATUNE_FUNCTION RougeText(std::string_view text, WordNumbers& numbers_io) {
    for (const std::string_view line : jinja::split_at(text, "\n", -1, false)) {
      sentences.push_back(numbers_io(rouge_words(line)));
      words += sentences.back();
    }
  }
};

// Positions in `a` of one of the longest subsequences that it has in common with `b`: of several, the one that is found from the end of both, going back in
// `a` where it may as well in `b`.
DELTATUNE_FUNCTION std::vector<std::size_t> common_subsequence(const std::u32string& a, const std::u32string& b) {
  std::vector<std::size_t> lengths(b.size() + 1);                // for a[0, i) and b[0, j), one i at a time
  std::vector<bool> back_in_b((a.size() + 1) * lengths.size());  // whether it is longer without b's last word than without a's
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = 0;  // for i - 1 and j - 1
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t without_a = lengths[j], without_b = lengths[j - 1];
      back_in_b[i * lengths.size() + j] = without_b > without_a;
      lengths[j] = a[i - 1] == b[j - 1] ? diagonal + 1 : std::max(without_a, without_b);
      diagonal = without_a;
    }
  }
  std::vector<std::size_t> positions;
  for (std::size_t i = a.size(), j = b.size(); i > 0 && j > 0;) {
    if (a[i - 1] == b[j - 1]) {
      positions.push_back(--i);
      --j;
    } else {
      --(back_in_b[i * lengths.size() + j] ? j : i);
    }
  }
  std::reverse(positions.begin(), positions.end());
  return positions;
}

// The words of a text's sentences that are in a common subsequence with a sentence of the other.
DELTATUNE_FUNCTION std::u32string covered_words(const RougeText& text, const RougeText& by) {
  std::u32string covered;
  for (const std::u32string& sentence : text.sentences) {
    std::vector<bool> is_covered(sentence.size());
    for (const std::u32string& other : by.sentences)
      for (const std::size_t position : common_subsequence(sentence, other)) is_covered[position] = true;
    for (std::size_t i = 0; i < sentence.size(); ++i)
      if (is_covered[i]) covered.push_back(sentence[i]);
  }
  return covered;
}

DELTATUNE_FUNCTION RougeScore rouge_score(std::size_t matches, std::size_t hypothesis, std::size_t reference) {
  if (matches == 0) return {};
  const double precision = static_cast<double>(matches) / static_cast<double>(hypothesis);
  const double recall = static_cast<double>(matches) / static_cast<double>(reference);
  return {precision, recall, 2 * precision * recall / (precision + recall)};
}

DELTATUNE_FUNCTION RougeScore rouge_n(const RougeText& hypothesis, const RougeText& reference, std::size_t n) {
  const Ngrams own = ngrams_of(hypothesis.words, n), wanted = ngrams_of(reference.words, n);
  return rouge_score(common_ngrams(own, wanted).size(), own.size(), wanted.size());
}

DELTATUNE_FUNCTION RougeScore rouge_l(const RougeText& hypothesis, const RougeText& reference) {
  return rouge_score(common_subsequence(reference.words, hypothesis.words).size(), hypothesis.words.size(), reference.words.size());
}

DELTATUNE_FUNCTION RougeScore rouge_l_sum(const RougeText& hypothesis, const RougeText& reference) {
  const std::u32string covered = covered_words(reference, hypothesis);
  const Ngrams matches = common_ngrams(ngrams_of(covered, 1), ngrams_of(hypothesis.words, 1));
  return rouge_score(matches.size(), hypothesis.words.size(), reference.words.size());
}

DELTATUNE_FUNCTION Rouge rouge_of(const RougeText& hypothesis, const RougeText& reference) {
  return {.rouge_1 = rouge_n(hypothesis, reference, 1),
          .rouge_2 = rouge_n(hypothesis, reference, 2),
          .rouge_l = rouge_l(hypothesis, reference),
          .rouge_l_sum = rouge_l_sum(hypothesis, reference)};
}

}  // namespace detail

// The means of precision, recall and f over the lines, so that f is not the harmonic mean of the two others. Of several references the one with the best f
// counts, for each of the four by itself. Throws Error where there are no hypotheses, not as many as lines of references, or no reference for one.
DELTATUNE_FUNCTION Rouge mean_rouge(std::span<const std::string> hypotheses, const References& references) {
  references.check("ROUGE", hypotheses.size());
  Rouge mean;
  for (std::size_t line = 0; line < hypotheses.size(); ++line) {
    detail::WordNumbers numbers;
    const detail::RougeText hypothesis(hypotheses[line], numbers);
    Rouge best;
    for (const std::string& reference : references.of(line)) {
      const Rouge next = detail::rouge_of(hypothesis, detail::RougeText(reference, numbers));
      for (RougeScore Rouge::*const type : detail::kRougeTypes)
        if ((next.*type).f > (best.*type).f) best.*type = next.*type;
    }
    const double share = 1 / static_cast<double>(hypotheses.size());
    for (RougeScore Rouge::*const type : detail::kRougeTypes) {
      (mean.*type).precision += share * (best.*type).precision;
      (mean.*type).recall += share * (best.*type).recall;
      (mean.*type).f += share * (best.*type).f;
    }
  }
  return mean;
}

}  // namespace deltatune
