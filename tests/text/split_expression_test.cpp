#include "deltatune/text/split_expression.hpp"

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/utf8.hpp"
#include "deltatune/io/regex.hpp"
#include "deltatune/text/text_pattern.hpp"

using namespace deltatune;
using detail::KnownExpression;

namespace {

using Matches = std::vector<std::string>;

Matches by_hand(const detail::SplitExpression& expression, std::string_view text) {
  Matches matches;
  detail::for_each_word_of(expression, text, [&](std::size_t begin, std::size_t end) { matches.emplace_back(text.substr(begin, end - begin)); });
  return matches;
}

Matches by_oniguruma(const RegexSearch& search, std::string_view text) {
  Matches matches;
  std::size_t at = 0;
  while (const auto match = search(text, at)) {
    matches.emplace_back(text.substr(match->first, match->second - match->first));
    at = match->second;
    if (at == text.size()) break;
  }
  return matches;
}

// Characters in which the expressions are interested, and of all kinds of letters.
constexpr char32_t kCharacters[] = {
    U'a',      U'b',      U's',      U'S',      U't',      U'L',          U'l',          U'r',          U'e',          U'E',      U'v',      U'd',
    U'M',      U'Z',      U'\'',     U'\'',     U'\'',     U'1',          U'2',          U'3',          U' ',          U' ',      U' ',      U'\n',
    U'\r',     U'\t',     U'.',      U'/',      U'!',      U'_',          U'(',          U'\u017F',     U'\u212A',     U'\u00DF', U'\uFB05', U'\u00E9',
    U'\u00C9', U'\u01C5', U'\u02B0', U'\u05D0', U'\u4E2D', U'\u0301',     U'\u0903',     U'\u00B2',     U'\u0663',     U'\u2160', U'\u00A0', U'\u3000',
    U'\u0085', U'\u2028', U'\u200D', U'\u20AC', U'\u2019', U'\U0001F600', U'\U00010400', U'\U0001D400', U'\U000E0041', U'\0'};

std::string random_text(std::mt19937& random) {
  std::string text;
  for (std::size_t left = 1 + random() % 24; left > 0; --left) append_utf8(kCharacters[random() % std::size(kCharacters)], text);
  return text;
}

}  // namespace

TEST_CASE("known expressions cut random texts as Oniguruma does", "[text][split_expression]") {
  std::mt19937 random(20261127);
  for (const std::string_view text : {detail::kGpt2Expression, detail::kCl100kExpression, detail::kQwenExpression, detail::kO200kExpression,
                                      detail::kTekkenExpression, detail::kClipExpression}) {
    INFO(text);
    const detail::SplitExpression expression = detail::known_expression(text);
    REQUIRE(expression.kind != KnownExpression::kNone);
    const RegexSearch search = search_regex(std::string(text), "test");
    for (int i = 0; i < 20000; ++i) {
      const std::string sample = random_text(random);
      const Matches expected = by_oniguruma(search, sample), found = by_hand(expression, sample);
      if (found == expected) continue;
      INFO(sample);
      CHECK(found == expected);
      break;
    }
  }
}

TEST_CASE("other expressions are known to Oniguruma alone", "[text][split_expression]") {
  CHECK(detail::known_expression("\\s+").kind == KnownExpression::kNone);
  CHECK_THROWS_WITH(
      detail::TextPattern::regex("\\s+", "file: stage", nullptr),
      "file: stage: is a regular expression that needs Oniguruma; got \"\\s+\" (open the folder with open_tokenizer() of deltatune/tokenizers.hpp, and "
      "link deltatune::regex)");
  CHECK_THROWS_WITH(detail::TextPattern::regex("(", "file: stage", search_regex),
                    Catch::Contains("file: stage: \"(\" is not a regular expression; expected Ruby's syntax"));
}

TEST_CASE("matches of a pattern in a text", "[text][split_expression]") {
  const auto matches = [](const detail::TextPattern& pattern, std::string_view text) {
    std::string all;
    pattern.for_each_match(text, [&](std::size_t begin, std::size_t end) { all += std::to_string(begin) + "-" + std::to_string(end) + " "; });
    return all;
  };
  CHECK(matches(detail::TextPattern::literal("aa"), "aaaxaa") == "0-2 4-6 ");
  CHECK(matches(detail::TextPattern::regex(" {2,}", "", nullptr), "a  b c    ") == "1-3 6-10 ");
  CHECK(matches(detail::TextPattern::regex("x*", "", search_regex), "axxb") == "0-0 1-3 4-4 ");
  CHECK(matches(detail::TextPattern::regex("^", "", search_regex), "\u00e9") == "0-0 ");
}
