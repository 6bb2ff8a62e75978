// Words as NIST's mteval-v13a.pl cuts them, in the form that sacrebleu has made the standard for BLEU ("tok:13a").
//
// ASCII punctuation is cut off, except ' anywhere, . and , between two digits, and - that follows no digit. Other scripts are cut at white space only: a
// Chinese sentence is one word.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/jinja/python_text.hpp"

namespace deltatune::detail {

inline bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }
inline bool is_point(char c) { return c == '.' || c == ','; }

// Cuts each pair of neighbours that fits(first, second), and the first of the two (or else the second) from what stands beyond. From left to right, and a
// character belongs to one pair only: "a,,b" gives "a , ,b". Bytes will do: no part of a longer character is a digit or a point.
template <class Fits>
std::string cut_pairs(const std::string& line, bool frees_first, const Fits& fits) {
  std::string result;
  for (std::size_t at = 0; at < line.size(); ++at) {
    if (at + 1 == line.size() || !fits(line[at], line[at + 1])) {
      result += line[at];
      continue;
    }
    if (frees_first) result += ' ';
    result += line[at];
    result += ' ';
    result += line[++at];
    if (!frees_first) result += ' ';
  }
  return result;
}

// The words of a text. What is not UTF-8 counts as U+FFFD.
DELTATUNE_FUNCTION std::vector<std::string> words_13a(std::string_view text) {
  std::string line(jinja::strip(text, nullptr, false, true));
  deltatune::replace_invalid_utf8(line);
  // One after the other, in this order: &amp;lt; becomes <, but &amp;quot; becomes &quot; only.
  constexpr std::pair<std::string_view, std::string_view> kReplacements[] = {{"<skipped>", ""}, {"-\n", ""},   {"\n", " "},  {"&quot;", "\""},
                                                                             {"&amp;", "&"},    {"&lt;", "<"}, {"&gt;", ">"}};
  for (const auto& [from, to] : kReplacements) line = jinja::replace_text(line, from, to, -1);

  std::string cut = " ";
  for (const char c : line) {
    const bool stands_alone =
        (c >= '!' && c <= '/' && c != '\'' && c != '-' && !is_point(c)) || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    if (stands_alone) cut += ' ';
    cut += c;
    if (stands_alone) cut += ' ';
  }
  cut += ' ';
  cut = cut_pairs(cut, false, [](char before, char c) { return !is_ascii_digit(before) && is_point(c); });
  cut = cut_pairs(cut, true, [](char c, char after) { return is_point(c) && !is_ascii_digit(after); });
  cut = cut_pairs(cut, false, [](char before, char c) { return is_ascii_digit(before) && c == '-'; });

  std::vector<std::string> words;
  for (const std::string_view word : jinja::split_at_space(cut, -1, false)) words.emplace_back(word);
  return words;
}

}  // namespace deltatune::detail
