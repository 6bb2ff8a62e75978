// N-grams of a text as a multiset, which BLEU, chrF and ROUGE count. A text is a sequence of symbols: its characters, or its words by number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "deltatune/core/config.hpp"

namespace deltatune::detail {

// Equal words have equal numbers.
class WordNumbers {
 public:
  template <class Words>
  std::u32string operator()(const Words& words) {
    std::u32string symbols;
    for (const auto& word : words) symbols.push_back(numbers_.try_emplace(std::string(word), static_cast<char32_t>(numbers_.size())).first->second);
    return symbols;
  }

 private:
  std::unordered_map<std::string, char32_t> numbers_;
};

// Sorted; each as often as it occurs. Views into the text.
using Ngrams = std::vector<std::u32string_view>;

DELTATUNE_FUNCTION Ngrams ngrams_of(std::u32string_view symbols, std::size_t n) {
  Ngrams ngrams;
  for (std::size_t at = 0; at + n <= symbols.size(); ++at) ngrams.push_back(symbols.substr(at, n));
  std::sort(ngrams.begin(), ngrams.end());
  return ngrams;
}

// Each as often as in both: where it occurs less.
DELTATUNE_FUNCTION Ngrams common_ngrams(const Ngrams& a, const Ngrams& b) {
  Ngrams both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

// Each as often as in one of the two: where it occurs more.
DELTATUNE_FUNCTION Ngrams united_ngrams(const Ngrams& a, const Ngrams& b) {
  Ngrams either;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(either));
  return either;
}

}  // namespace deltatune::detail
