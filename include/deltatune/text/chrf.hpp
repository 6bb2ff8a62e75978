// chrF (Popovic, 2015, https://aclanthology.org/W15-3049) and chrF++ (2017, https://aclanthology.org/W17-4770) of a corpus, equal to sacrebleu's defaults
// (nrefs:var|case:mixed|eff:yes|nc:6|nw:0 or 2|space:no):
//   chrF = 100 (1 + beta^2) P R / (beta^2 P + R),
// with P and R the means over the orders that both sides have, of the share of n-grams of the hypotheses that are in the references, and the other way round.
// N-grams are of characters (code points, not graphemes) without white space, and for chrF++ of words, too. Of several references the one with the best chrF
// for the line counts. Where a reference is too short for an order, the line's hypothesis does not count in it either; but not the other way round.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/jinja/python_text.hpp"
#include "deltatune/text/ngrams.hpp"
#include "deltatune/text/references.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune {

struct ChrfOptions {
  std::size_t character_order = 6;  // the longest n-grams of characters
  std::size_t word_order = 0;       // the longest n-grams of words; 2 for chrF++
  double beta = 2;                  // how often recall counts what precision counts
};

// Numbers of n-grams.
struct ChrfOrder {
  Index hypotheses = 0, references = 0, matches = 0;
};

struct Chrf {
  double score = 0;                    // 0 to 100
  std::vector<ChrfOrder> orders = {};  // characters 1 to character_order, then words 1 to word_order
};

namespace detail {

// A punctuation mark at the end of a word is cut off, or else the one at its beginning: "(hi)" gives "(hi" and ")".
DELTATUNE_FUNCTION std::vector<std::string_view> chrf_words(std::string_view text) {
  const auto is_mark = [](char c) { return c > ' ' && c < 0x7F && unicode::is_punctuation(static_cast<char32_t>(c)); };
  std::vector<std::string_view> words;
  for (const std::string_view word : jinja::split_at_space(text, -1, false)) {
    const std::size_t cut = word.size() == 1 ? 0 : is_mark(word.back()) ? word.size() - 1 : is_mark(word.front()) ? 1 : 0;
    if (cut > 0) words.push_back(word.substr(0, cut));
    words.push_back(word.substr(cut));
  }
  return words;
}

// N-grams of one text per order.
class ChrfText {
 public:
  DELTATUNE_FUNCTION ChrfText(std::string text, const ChrfOptions& options, WordNumbers& numbers_io) {
    deltatune::replace_invalid_utf8(text);
    jinja::for_each_character(text, [&](char32_t c, std::string_view) {
      if (!jinja::is_space(c)) characters_.push_back(c);
    });
    for (std::size_t n = 1; n <= options.character_order; ++n) ngrams_.push_back(ngrams_of(characters_, n));
    if (options.word_order > 0) words_ = numbers_io(chrf_words(text));
    for (std::size_t n = 1; n <= options.word_order; ++n) ngrams_.push_back(ngrams_of(words_, n));
  }
  ChrfText(const ChrfText&) = delete;  // the n-grams are views
  ChrfText& operator=(const ChrfText&) = delete;

  const std::vector<Ngrams>& ngrams() const { return ngrams_; }

 private:
  std::u32string characters_, words_;
  std::vector<Ngrams> ngrams_;
};

DELTATUNE_FUNCTION double chrf_score(std::span<const ChrfOrder> orders, double beta) {
  double precision = 0, recall = 0, counted = 0;
  for (const ChrfOrder& order : orders) {
    if (order.hypotheses == 0 || order.references == 0) continue;
    precision += static_cast<double>(order.matches) / static_cast<double>(order.hypotheses);
    recall += static_cast<double>(order.matches) / static_cast<double>(order.references);
    ++counted;
  }
  if (precision + recall == 0) return 0;
  precision /= counted;
  recall /= counted;
  return 100 * (1 + beta * beta) * precision * recall / (beta * beta * precision + recall);
}

}  // namespace detail

// chrF of all lines together. What is not UTF-8 counts as U+FFFD. Throws Error where there are no hypotheses, not as many as lines of references, no reference
// for one, or both orders are 0.
DELTATUNE_FUNCTION Chrf corpus_chrf(std::span<const std::string> hypotheses, const References& references, const ChrfOptions& options = {}) {
  references.check("chrF", hypotheses.size());
  const std::size_t count = options.character_order + options.word_order;
  if (count == 0) throw Error("chrF", "both orders are 0", {.expected = "n-grams of characters, of words or of both", .remedy = "use character_order 6"});
  Chrf chrf{.orders = std::vector<ChrfOrder>(count)};
  for (std::size_t line = 0; line < hypotheses.size(); ++line) {
    detail::WordNumbers numbers;
    const detail::ChrfText hypothesis(hypotheses[line], options, numbers);
    std::vector<ChrfOrder> best;
    double best_score = -1;
    for (const std::string& text : references.of(line)) {
      const detail::ChrfText reference(text, options, numbers);
      std::vector<ChrfOrder> orders;
      for (std::size_t i = 0; i < count; ++i) {
        const detail::Ngrams &own = hypothesis.ngrams()[i], &wanted = reference.ngrams()[i];
        orders.push_back({wanted.empty() ? 0 : static_cast<Index>(own.size()), static_cast<Index>(wanted.size()),
                          static_cast<Index>(detail::common_ngrams(own, wanted).size())});
      }
      const double score = detail::chrf_score(orders, options.beta);
      if (score > best_score) best_score = score, best = std::move(orders);
    }
    for (std::size_t i = 0; i < count; ++i) {
      chrf.orders[i].hypotheses += best[i].hypotheses;
      chrf.orders[i].references += best[i].references;
      chrf.orders[i].matches += best[i].matches;
    }
  }
  chrf.score = detail::chrf_score(chrf.orders, options.beta);
  return chrf;
}

}  // namespace deltatune
