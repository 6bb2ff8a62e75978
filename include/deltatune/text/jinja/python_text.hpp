// Python's str on UTF-8 bytes: characters are code points.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/jinja/value.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune::jinja {

// str.isspace() of one character.
inline bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
  return unicode::is_white_space(c);
}

inline std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !is_utf8_continuation(c); }));
}

// Byte where character `index` begins; the size of the text for an index beyond it.
DELTATUNE_FUNCTION std::size_t byte_of_character(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  for (; at < text.size(); ++at) {
    if (is_utf8_continuation(text[at])) continue;
    if (index-- == 0) break;
  }
  return at;
}

template <class Visit>
void for_each_character(std::string_view text, Visit&& visit) {
  for (std::size_t at = 0; at < text.size();) {
    const DecodedCodePoint next = decode_utf8(text, at);
    visit(next.code_point, text.substr(at, next.bytes));
    at += next.bytes;
  }
}

// Without the leading (left) and trailing (right) characters that are in `characters`, or that are white space if it is null.
DELTATUNE_FUNCTION std::string_view strip(std::string_view text, const std::string* characters, bool left, bool right) {
  const auto goes = [characters](std::string_view character, char32_t c) {
    return characters == nullptr ? is_space(c) : characters->find(character) != std::string::npos;
  };
  while (left && !text.empty()) {
    const DecodedCodePoint first = decode_utf8(text, 0);
    if (!goes(text.substr(0, first.bytes), first.code_point)) break;
    text.remove_prefix(first.bytes);
  }
  while (right && !text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && is_utf8_continuation(text[at])) --at;
    if (!goes(text.substr(at), decode_utf8(text, at).code_point)) break;
    text = text.substr(0, at);
  }
  return text;
}

// str.split() and str.rsplit() by white space; at most `most` cuts, any number if it is negative. What is left after the last cut keeps its far end.
DELTATUNE_FUNCTION std::vector<std::string_view> split_at_space(std::string_view text, std::int64_t most, bool from_right) {
  struct Word {
    std::size_t begin, end;
  };
  std::vector<Word> words;
  std::size_t at = 0;
  for_each_character(text, [&](char32_t c, std::string_view character) {
    const std::size_t end = at + character.size();
    if (!is_space(c)) {
      if (!words.empty() && words.back().end == at) {
        words.back().end = end;
      } else {
        words.push_back({at, end});
      }
    }
    at = end;
  });
  const std::size_t cuts = most < 0 ? words.size() : static_cast<std::size_t>(most);
  if (words.size() > cuts + 1 && from_right) {
    words.erase(words.begin(), words.end() - static_cast<std::ptrdiff_t>(cuts + 1));
    words.front().begin = 0;
  } else if (words.size() > cuts + 1) {
    words.resize(cuts + 1);
    words.back().end = text.size();
  } else if (words.size() == cuts + 1 && !words.empty()) {
    (from_right ? words.front().begin : words.back().end) = from_right ? 0 : text.size();
  }
  std::vector<std::string_view> parts;
  for (const Word& word : words) parts.push_back(text.substr(word.begin, word.end - word.begin));
  return parts;
}

// By a separator, which must not be empty.
DELTATUNE_FUNCTION std::vector<std::string_view> split_at(std::string_view text, std::string_view separator, std::int64_t most, bool from_right) {
  std::vector<std::string_view> parts;
  while (most < 0 || static_cast<std::int64_t>(parts.size()) < most) {
    const std::size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == std::string_view::npos) break;
    parts.push_back(from_right ? text.substr(at + separator.size()) : text.substr(0, at));
    text = from_right ? text.substr(0, at) : text.substr(at + separator.size());
  }
  parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

// str.splitlines()
DELTATUNE_FUNCTION std::vector<std::string_view> split_lines(std::string_view text, bool keeps_ends) {
  std::vector<std::string_view> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const DecodedCodePoint next = decode_utf8(text, at);
    const char32_t c = next.code_point;
    std::size_t end = at + next.bytes;
    const bool ends_line = (c >= '\n' && c <= '\r') || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (c == '\r' && end < text.size() && text[end] == '\n') ++end;
    if (ends_line) {
      lines.push_back(text.substr(begin, (keeps_ends ? end : at) - begin));
      begin = end;
    }
    at = end;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

DELTATUNE_FUNCTION std::string replace_text(std::string_view text, std::string_view from, std::string_view to, std::int64_t most) {
  std::string result;
  std::size_t at = 0;
  if (from.empty()) {  // Python puts it around every character
    std::int64_t left = most;
    const auto put = [&] {
      if (left != 0) result += to, --left;
    };
    put();
    for_each_character(text, [&](char32_t, std::string_view character) {
      result += character;
      put();
    });
    return result;
  }
  for (; most != 0; --most) {
    const std::size_t found = text.find(from, at);
    if (found == std::string_view::npos) break;
    result.append(text, at, found - at);
    result += to;
    at = found + from.size();
  }
  return result.append(text, at);
}

enum class LetterCase { kNone, kLower, kUpper, kTitle };

inline LetterCase letter_case(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LL:
      return LetterCase::kLower;
    case UTF8PROC_CATEGORY_LU:
      return LetterCase::kUpper;
    case UTF8PROC_CATEGORY_LT:
      return LetterCase::kTitle;
    default:
      return LetterCase::kNone;
  }
}

// One letter; `title`: as the first of a word. Throws Failure for the letters, of ligatures and Greek mostly, that become several, the German sharp s excepted.
DELTATUNE_FUNCTION void append_upper(char32_t c, bool title, std::string& text_io) {
  struct Range {
    char32_t first, last;
  };
  constexpr Range kBecomeSeveral[] = {{0x149, 0x149},   {0x1F0, 0x1F0},   {0x390, 0x390},   {0x3B0, 0x3B0},   {0x587, 0x587},   {0x1E96, 0x1E9A},
                                      {0x1F50, 0x1F56}, {0x1F80, 0x1FAF}, {0x1FB2, 0x1FB7}, {0x1FBC, 0x1FBC}, {0x1FC2, 0x1FC7}, {0x1FCC, 0x1FCC},
                                      {0x1FD2, 0x1FD7}, {0x1FE2, 0x1FE7}, {0x1FF2, 0x1FF7}, {0x1FFC, 0x1FFC}, {0xFB00, 0xFB17}};
  if (c == 0xDF) {
    text_io += title ? "Ss" : "SS";
    return;
  }
  for (const Range& range : kBecomeSeveral) {
    if (c < range.first || c > range.last) continue;
    std::string letter;
    append_utf8(c, letter);
    throw Failure{"no capital of the letter " + letter, {.remedy = "this engine knows capitals of one letter only"}};
  }
  const auto code = static_cast<utf8proc_int32_t>(c);
  append_utf8(static_cast<char32_t>(title ? utf8proc_totitle(code) : utf8proc_toupper(code)), text_io);
}

DELTATUNE_FUNCTION std::string upper(std::string_view text) {
  std::string result;
  for_each_character(text, [&](char32_t c, std::string_view) { append_upper(c, false, result); });
  return result;
}

DELTATUNE_FUNCTION std::string lower(std::string_view text) {
  std::string result;
  bool after_letter = false;
  std::size_t at = 0;
  for_each_character(text, [&](char32_t c, std::string_view character) {
    at += character.size();
    if (c == 0x3A3) {  // sigma has a form of its own at the end of a word
      const bool is_last = at == text.size() || letter_case(decode_utf8(text, at).code_point) == LetterCase::kNone;
      append_utf8(after_letter && is_last ? 0x3C2 : 0x3C3, result);
    } else {
      unicode::append_lowercase(c, result);
    }
    after_letter = letter_case(c) != LetterCase::kNone;
  });
  return result;
}

// str.capitalize()
DELTATUNE_FUNCTION std::string capitalize(std::string_view text) {
  if (text.empty()) return "";
  std::string result;
  const DecodedCodePoint first = decode_utf8(text, 0);
  append_upper(first.code_point, true, result);
  return result + lower(text.substr(first.bytes));
}

// str.title(): a word is a run of letters.
DELTATUNE_FUNCTION std::string title(std::string_view text) {
  std::string result;
  bool in_word = false;
  for_each_character(text, [&](char32_t c, std::string_view) {
    const bool is_letter = letter_case(c) != LetterCase::kNone;
    if (is_letter && !in_word) {
      append_upper(c, true, result);
    } else {
      unicode::append_lowercase(c, result);
    }
    in_word = is_letter;
  });
  return result;
}

// Jinja's filter title: a word ends at white space and at - ( { [ <
DELTATUNE_FUNCTION std::string title_of_words(std::string_view text) {
  std::string result;
  bool in_word = false;
  for_each_character(text, [&](char32_t c, std::string_view) {
    const bool separates = is_space(c) || (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) != std::string_view::npos);
    if (!in_word && !separates) {
      append_upper(c, false, result);
    } else {
      unicode::append_lowercase(c, result);
    }
    in_word = !separates;
  });
  return result;
}

// HTML's escapes, as markupsafe has them.
DELTATUNE_FUNCTION std::string escape_html(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&#34;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace deltatune::jinja
