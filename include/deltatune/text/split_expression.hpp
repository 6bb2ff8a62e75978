// The regular expressions by which the byte-level BPE tokenizers of GPT-2, Llama 3, Qwen 2, GPT-4o, CLIP and their relatives cut a text into words, as
// functions. Each one but CLIP's, which leaves out white space, matches a whole text without gaps. Tests compare them with Oniguruma.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/text/character_class.hpp"

namespace deltatune::detail {

enum class KnownExpression { kNone, kGpt2, kCl100k, kO200k, kClip };

struct SplitExpression {
  KnownExpression kind = KnownExpression::kNone;
  bool single_digits = false;  // \p{N} and not \p{N}{1,3}
  bool contractions = true;    // of kO200k: 's, 't and so on end a word
};

inline constexpr std::string_view kGpt2Expression = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kCl100kExpression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwenExpression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kO200kExpression =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kTekkenExpression =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kClipExpression = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";

// Which of them a text is.
DELTATUNE_FUNCTION SplitExpression known_expression(std::string_view text) {
  if (text == kGpt2Expression) return {KnownExpression::kGpt2};
  if (text == kCl100kExpression) return {KnownExpression::kCl100k};
  if (text == kQwenExpression) return {KnownExpression::kCl100k, true};
  if (text == kO200kExpression) return {KnownExpression::kO200k};
  if (text == kTekkenExpression) return {KnownExpression::kO200k, true, false};
  if (text == kClipExpression) return {KnownExpression::kClip};
  return {};
}

// Length of 's 't 'm 'd 're 've 'll with which a text begins, or 0.
inline std::size_t contraction_length(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  if (text[1] == 's' || text[1] == 't' || text[1] == 'm' || text[1] == 'd') return 2;
  const std::string_view two = text.substr(1, 2);
  return two == "re" || two == "ve" || two == "ll" ? 3 : 0;
}

// The same in upper case, too; U+017F is an s.
inline std::size_t any_contraction_length(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto lower = [&](std::size_t at) { return at < text.size() ? static_cast<char>(text[at] >= 'A' && text[at] <= 'Z' ? text[at] + 32 : text[at]) : '\0'; };
  const char first = lower(1), second = lower(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) return 3;
  return text.substr(1).starts_with("\u017F") ? 3 : 0;
}

// The end of white space at `begin`; the last of several characters is left to the word behind them.
inline std::size_t white_space_end(const ClassReader& text, std::size_t begin) {
  std::size_t end = begin, last = begin;
  while (end < text.size()) {
    const ClassReader::Character next = text.at(end);
    if (!next.is(kWhiteSpace)) break;
    last = end;
    end = next.end;
  }
  return end < text.size() && last > begin ? last : end;
}

// The end of white space up to its last line break; `begin` if it has none.
inline std::size_t line_break_end(const ClassReader& text, std::size_t begin) {
  std::size_t result = begin;
  for (std::size_t at = begin; at < text.size();) {
    const ClassReader::Character next = text.at(at);
    if (!next.is(kWhiteSpace)) break;
    at = next.end;
    if (next.code_point == '\r' || next.code_point == '\n') result = at;
  }
  return result;
}

inline std::size_t digits_end(const ClassReader& text, std::size_t begin, std::size_t most) {
  std::size_t end = begin;
  for (std::size_t count = 0; count < most; ++count) {
    const ClassReader::Character next = text.at(end);
    if (!next.is(kNumber)) break;
    end = next.end;
  }
  return end;
}

// Line breaks, and slashes where `slashes` says so, behind other characters.
inline std::size_t tail_end(std::string_view text, std::size_t begin, bool slashes) {
  while (begin < text.size() && (text[begin] == '\r' || text[begin] == '\n' || (slashes && text[begin] == '/'))) ++begin;
  return begin;
}

inline std::size_t gpt2_word_end(const ClassReader& text, std::size_t begin) {
  if (text.text()[begin] == '\'') {
    if (const std::size_t length = contraction_length(text.text().substr(begin)); length > 0) return begin + length;
  }
  ClassReader::Character first = text.at(begin);
  if (first.code_point == ' ' && first.end < text.size()) {
    const ClassReader::Character second = text.at(first.end);
    if (!second.is(kWhiteSpace)) first = second;
  }
  if (first.is(kLetter)) return text.run(first.end, kLetter);
  if (first.is(kNumber)) return text.run(first.end, kNumber);
  if (first.is(kWhiteSpace)) return white_space_end(text, begin);
  return text.run_without(first.end, kLetter | kNumber | kWhiteSpace);
}

// What follows the letters in the expressions after GPT-2's: numbers, other characters with a blank before and line breaks behind, white space.
inline std::size_t other_end(const ClassReader& text, std::size_t begin, ClassReader::Character first, bool single_digits, bool slashes) {
  if (first.is(kNumber)) return digits_end(text, begin, single_digits ? 1 : 3);
  ClassReader::Character other = first;
  if (first.code_point == ' ') other = text.at(first.end);
  if (other.end > begin + (first.code_point == ' ' ? 1U : 0U) && !other.is(kLetter | kNumber | kWhiteSpace)) {
    return tail_end(text.text(), text.run_without(other.end, kLetter | kNumber | kWhiteSpace), slashes);
  }
  const std::size_t lines = line_break_end(text, begin);
  return lines > begin ? lines : white_space_end(text, begin);
}

inline std::size_t cl100k_word_end(const ClassReader& text, std::size_t begin, bool single_digits) {
  const ClassReader::Character first = text.at(begin);
  if (first.code_point == '\'') {
    if (const std::size_t length = any_contraction_length(text.text().substr(begin)); length > 0) return begin + length;
  }
  if (first.is(kLetter)) return text.run(first.end, kLetter);
  if (!first.is(kNumber) && first.code_point != '\r' && first.code_point != '\n') {
    if (const std::size_t end = text.run(first.end, kLetter); end > first.end) return end;
  }
  return other_end(text, begin, first, single_digits, false);
}

// The end of [upper]*[lower]+ at `begin`, or `begin` where there is none; letters without case and marks are both.
inline std::size_t capitalised_end(const ClassReader& text, std::size_t begin) {
  constexpr CharacterClass kHead = kUpper | kOtherLetter | kMark, kTail = kLower | kOtherLetter | kMark;
  std::size_t end = begin, last_tail_end = begin;
  while (end < text.size()) {
    const ClassReader::Character next = text.at(end);
    if (!next.is(kHead)) break;
    end = next.end;
    if (next.is(kTail)) last_tail_end = end;
  }
  const std::size_t lower = text.run(end, kTail);
  return lower > end ? lower : last_tail_end;
}

// The end of [upper]+[lower]* at `begin`, or `begin`.
inline std::size_t upper_end(const ClassReader& text, std::size_t begin) {
  const std::size_t head = text.run(begin, kUpper | kOtherLetter | kMark);
  return head == begin ? begin : text.run(head, kLower | kOtherLetter | kMark);
}

inline std::size_t o200k_word_end(const ClassReader& text, std::size_t begin, bool single_digits, bool contractions) {
  const ClassReader::Character first = text.at(begin);
  const bool may_lead = !first.is(kLetter | kNumber) && first.code_point != '\r' && first.code_point != '\n';
  std::size_t end = 0;
  for (const auto word_end : {capitalised_end, upper_end}) {
    if (may_lead) {
      end = word_end(text, first.end);
      if (end > first.end) break;
    }
    end = word_end(text, begin);
    if (end > begin) break;
    end = 0;
  }
  if (end > 0) return contractions ? end + any_contraction_length(text.text().substr(end)) : end;
  return other_end(text, begin, first, single_digits, true);
}

// `begin` itself at white space.
inline std::size_t clip_word_end(const ClassReader& text, std::size_t begin) {
  if (const std::size_t length = contraction_length(text.text().substr(begin)); length > 0) return begin + length;
  const ClassReader::Character first = text.at(begin);
  if (first.is(kWhiteSpace)) return begin;
  if (first.is(kLetter)) return text.run(first.end, kLetter);
  return first.is(kNumber) ? first.end : text.run_without(first.end, kLetter | kNumber | kWhiteSpace);
}

// Calls visit(begin, end) for each word.
template <class Visit>
void for_each_word_of(const SplitExpression& expression, std::string_view text, Visit&& visit) {
  const ClassReader reader(text);
  const auto each = [&](auto word_end) {
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = word_end(begin);
      if (end > begin) visit(begin, end);
      begin = end > begin ? end : reader.at(begin).end;  // the latter: white space that is no word
    }
  };
  switch (expression.kind) {
    case KnownExpression::kGpt2:
      return each([&](std::size_t begin) { return gpt2_word_end(reader, begin); });
    case KnownExpression::kCl100k:
      return each([&](std::size_t begin) { return cl100k_word_end(reader, begin, expression.single_digits); });
    case KnownExpression::kO200k:
      return each([&](std::size_t begin) { return o200k_word_end(reader, begin, expression.single_digits, expression.contractions); });
    case KnownExpression::kClip:
      return each([&](std::size_t begin) { return clip_word_end(reader, begin); });
    case KnownExpression::kNone:
      break;
  }
}

}  // namespace deltatune::detail
