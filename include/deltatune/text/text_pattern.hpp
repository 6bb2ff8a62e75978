// What Replace and Split look for in a text: a string, or a regular expression.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/regex_search.hpp"
#include "deltatune/text/split_expression.hpp"

namespace deltatune {

namespace detail {

class TextPattern {
 public:
  static TextPattern literal(std::string text) {
    TextPattern pattern;
    pattern.literal_ = std::move(text);
    return pattern;
  }

  // Expressions that are known (split_expression.hpp) and runs of blanks need no compiler.
  DELTATUNE_FUNCTION static TextPattern regex(const std::string& expression, const std::string& where, const RegexCompiler& compiler) {
    TextPattern pattern;
    pattern.known_ = known_expression(expression);
    if (pattern.known_.kind != KnownExpression::kNone) return pattern;
    if (expression == " {2,}") {
      pattern.search_ = [](std::string_view text, std::size_t from) -> std::optional<std::pair<std::size_t, std::size_t>> {
        const std::size_t begin = text.find("  ", from);
        if (begin == std::string_view::npos) return std::nullopt;
        const std::size_t end = text.find_first_not_of(' ', begin);
        return std::pair(begin, end == std::string_view::npos ? text.size() : end);
      };
      return pattern;
    }
    if (!compiler) {
      throw Error(where, "is a regular expression that needs Oniguruma",
                  {.got = "\"" + expression + "\"", .remedy = "open the folder with open_tokenizer() of deltatune/tokenizers.hpp, and link deltatune::regex"});
    }
    pattern.search_ = compiler(expression, where);
    return pattern;
  }

  // Not kNone: for_each_word_of() gives the matches.
  const SplitExpression& known() const { return known_; }
  const std::string& text() const { return literal_; }
  bool is_literal() const { return !search_ && known_.kind == KnownExpression::kNone; }

  // Calls visit(begin, end) for each match from the left, empty ones that don't touch the match before included.
  template <class Visit>
  void for_each_match(std::string_view text, Visit&& visit) const {
    if (known_.kind != KnownExpression::kNone) return for_each_word_of(known_, text, visit);
    if (!search_) {
      for (std::size_t at = 0; (at = text.find(literal_, at)) != std::string_view::npos; at += literal_.size()) visit(at, at + literal_.size());
      return;
    }
    std::optional<std::size_t> last_end;
    for (std::size_t from = 0; from <= text.size();) {
      const auto match = search_(text, from);
      if (!match) return;
      const auto [begin, end] = *match;
      if (begin == end && last_end == end) {
        from += from < text.size() ? decode_utf8(text, from).bytes : 1;
        continue;
      }
      visit(begin, end);
      last_end = from = end;
    }
  }

 private:
  std::string literal_;
  SplitExpression known_;
  RegexSearch search_;
};

}  // namespace detail

}  // namespace deltatune
