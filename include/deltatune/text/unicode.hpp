// What the tokenizers ask about a code point, answered by utf8proc.
//
// A checkpoint was trained with the answers of the Hugging Face tokenizers library, so these are the answers given here. For BERT that
// library takes general categories from Unicode 8 and normalisation from Unicode 9, lower-casing from the current version; for GPT-2
// letters and numbers from Unicode 16. The tables below hide what utf8proc knows beyond that where it would make a difference, and add what
// it may not know yet. Tests compare every code point with that library.
#pragma once

#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"

namespace deltatune::unicode {

namespace detail {

struct Range {
  char32_t first, last;
};

// Punctuation, marks, format characters and decompositions that came after Unicode 8. Some ranges run across letters and unassigned code
// points, for which none of the questions below has another answer.
inline constexpr Range kAfterUnicode8[] = {
    {0x061D, 0x061D},   {0x07FD, 0x07FD},   {0x0890, 0x08E2},   {0x09FD, 0x09FE},   {0x0A76, 0x0A76},   {0x0AFA, 0x0AFF},   {0x0B55, 0x0B55},
    {0x0C04, 0x0C04},   {0x0C3C, 0x0C3C},   {0x0C77, 0x0C77},   {0x0C84, 0x0C84},   {0x0D00, 0x0D00},   {0x0D3B, 0x0D3C},   {0x0D81, 0x0D81},
    {0x0EBA, 0x0EBA},   {0x0ECE, 0x0ECE},   {0x1715, 0x1715},   {0x180F, 0x180F},   {0x1885, 0x1886},   {0x1ABF, 0x1AEB},   {0x1B4E, 0x1B4F},
    {0x1B7D, 0x1B7F},   {0x1DF6, 0x1DFB},   {0x2E43, 0x2E5D},   {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},   {0xA8FF, 0xA8FF},   {0xA9BD, 0xA9BD},
    {0x105C9, 0x105E4}, {0x10D24, 0x10F89}, {0x11070, 0x11074}, {0x110C2, 0x110CD}, {0x111CF, 0x111CF}, {0x1123E, 0x11241}, {0x1133B, 0x1133B},
    {0x11383, 0x1145E}, {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1182F, 0x11FFF}, {0x12FF1, 0x1612F}, {0x16D68, 0x16F4F}, {0x16FE2, 0x16FF1},
    {0x1CF00, 0x1CF46}, {0x1E000, 0x1E6F5}, {0x1E944, 0x1E95F}};

// Marks within those that Unicode 9 has: they are put into canonical order.
inline constexpr Range kCombiningInUnicode9[] = {{0x08D4, 0x08E1},   {0x1DFB, 0x1DFB},   {0x11442, 0x11442}, {0x11446, 0x11446},
                                                 {0x11C3F, 0x11C3F}, {0x1E000, 0x1E02A}, {0x1E944, 0x1E94A}};

template <std::size_t N>
bool contains(const Range (&ranges)[N], char32_t c) {
  const Range* range = std::lower_bound(std::begin(ranges), std::end(ranges), c, [](const Range& r, char32_t x) { return r.last < x; });
  return range != std::end(ranges) && range->first <= c;
}

inline utf8proc_int32_t to_utf8proc(char32_t c) { return static_cast<utf8proc_int32_t>(c); }

inline utf8proc_category_t category_in_unicode_8(char32_t c) { return contains(kAfterUnicode8, c) ? UTF8PROC_CATEGORY_CN : utf8proc_category(to_utf8proc(c)); }

DELTATUNE_FUNCTION std::uint64_t combining_class(char32_t c) {
  if (c < 0x300 || (contains(kAfterUnicode8, c) && !contains(kCombiningInUnicode9, c))) return 0;
  return static_cast<std::uint64_t>(utf8proc_get_property(to_utf8proc(c))->combining_class);
}

// Lower-case letters of Unicode 16 and 17, for a utf8proc that doesn't have them yet.
struct LowerCase {
  char32_t first, last, lower_of_first;
};
inline constexpr LowerCase kLowerCaseAfterUnicode15[] = {
    {0x1C89, 0x1C89, 0x1C8A}, {0xA7CB, 0xA7CB, 0x0264}, {0xA7CC, 0xA7CC, 0xA7CD}, {0xA7CE, 0xA7CE, 0xA7CF},    {0xA7D2, 0xA7D2, 0xA7D3},
    {0xA7D4, 0xA7D4, 0xA7D5}, {0xA7DA, 0xA7DA, 0xA7DB}, {0xA7DC, 0xA7DC, 0x019B}, {0x10D50, 0x10D65, 0x10D70}, {0x16EA0, 0x16EB8, 0x16EBB}};

// Letters and numbers of Unicode 15.1 and 16, for a utf8proc that doesn't have them yet, and of later versions, for one that does. Some
// ranges run across code points that are neither.
inline constexpr Range kLettersAfterUnicode15[] = {{0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3}, {0x10D4A, 0x10D65},
                                                   {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x11380, 0x11389}, {0x1138B, 0x1138B}, {0x1138E, 0x1138E},
                                                   {0x11390, 0x113B5}, {0x113B7, 0x113B7}, {0x113D1, 0x113D1}, {0x113D3, 0x113D3}, {0x11BC0, 0x11BE0},
                                                   {0x13460, 0x143FA}, {0x16100, 0x1611D}, {0x16D40, 0x16D6C}, {0x18CFF, 0x18CFF}, {0x1E5D0, 0x1E5ED},
                                                   {0x1E5F0, 0x1E5F0}, {0x2EBF0, 0x2EE5D}};
inline constexpr Range kNumbersAfterUnicode15[] = {{0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x16130, 0x16139},
                                                   {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA}};
inline constexpr Range kLettersAndNumbersAfterUnicode16[] = {
    {0x0558, 0x0558},   {0x058B, 0x058C},   {0x088F, 0x088F},   {0x0C5C, 0x0C5C},   {0x0CDC, 0x0CDC},   {0x208F, 0x208F},   {0x209D, 0x209F},
    {0xA7CE, 0xA7CF},   {0xA7D2, 0xA7D2},   {0xA7D4, 0xA7D4},   {0xA7DD, 0xA7F1},   {0xAB6C, 0xAB6D},   {0x107BB, 0x107BF}, {0x10940, 0x10959},
    {0x10EC5, 0x10EEE}, {0x11B0A, 0x11B0A}, {0x11DB0, 0x11DF1}, {0x1246F, 0x1247F}, {0x12550, 0x12686}, {0x16EA0, 0x16ED3}, {0x16FF2, 0x16FF6},
    {0x187F8, 0x187FF}, {0x18CD6, 0x18CDA}, {0x18D09, 0x191D2}, {0x1B123, 0x1B128}, {0x1B168, 0x1B168}, {0x1D6A6, 0x1D6A6}, {0x1DF1F, 0x1DF24},
    {0x1DF2B, 0x1DFFF}, {0x1E6C0, 0x1E6FF}, {0x2B73A, 0x2B73F}, {0x2B81E, 0x2B81E}, {0x2CEA2, 0x2CEAD}, {0x323B0, 0x3FC3F}};

// Marks of Unicode 15.1 and 16, for a utf8proc that doesn't have them yet.
inline constexpr Range kMarksAfterUnicode15[] = {{0x0897, 0x0897},   {0x10D69, 0x10D6D}, {0x10EFC, 0x10EFC}, {0x113B8, 0x113C0}, {0x113C2, 0x113C2},
                                                 {0x113C5, 0x113C5}, {0x113C7, 0x113CA}, {0x113CC, 0x113D0}, {0x113D2, 0x113D2}, {0x113E1, 0x113E2},
                                                 {0x11F5A, 0x11F5A}, {0x1611E, 0x1612F}, {0x1E5EE, 0x1E5EF}};
// Marks that came after Unicode 9.
inline constexpr Range kMarksAfterUnicode9[] = {
    {0x07FD, 0x07FD},   {0x0898, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},   {0x0AFA, 0x0AFF},   {0x0B55, 0x0B55},   {0x0C04, 0x0C04},
    {0x0C3C, 0x0C3C},   {0x0CF3, 0x0CF3},   {0x0D00, 0x0D00},   {0x0D3B, 0x0D3C},   {0x0D81, 0x0D81},   {0x0EBA, 0x0EBA},   {0x0ECE, 0x0ECE},
    {0x1715, 0x1715},   {0x180F, 0x180F},   {0x1ABF, 0x1ACE},   {0x1CF7, 0x1CF7},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0xA8FF, 0xA8FF},
    {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x11073, 0x11074},
    {0x110C2, 0x110C2}, {0x11145, 0x11146}, {0x111C9, 0x111C9}, {0x111CE, 0x111CF}, {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x1182C, 0x1183A}, {0x11930, 0x11935}, {0x11937, 0x11938}, {0x1193B, 0x1193E}, {0x11940, 0x11940}, {0x11942, 0x11943}, {0x119D1, 0x119D7},
    {0x119DA, 0x119E0}, {0x119E4, 0x119E4}, {0x11A01, 0x11A0A}, {0x11A33, 0x11A39}, {0x11A3B, 0x11A3E}, {0x11A47, 0x11A47}, {0x11A51, 0x11A5B},
    {0x11A8A, 0x11A99}, {0x11D31, 0x11D36}, {0x11D3A, 0x11D3A}, {0x11D3C, 0x11D3D}, {0x11D3F, 0x11D45}, {0x11D47, 0x11D47}, {0x11D8A, 0x11D8E},
    {0x11D90, 0x11D91}, {0x11D93, 0x11D97}, {0x11EF3, 0x11EF6}, {0x11F00, 0x11F01}, {0x11F03, 0x11F03}, {0x11F34, 0x11F3A}, {0x11F3E, 0x11F42},
    {0x13440, 0x13440}, {0x13447, 0x13455}, {0x16F4F, 0x16F4F}, {0x16F7F, 0x16F87}, {0x16FE4, 0x16FE4}, {0x16FF0, 0x16FF1}, {0x1CF00, 0x1CF2D},
    {0x1CF30, 0x1CF46}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}};

}  // namespace detail

// The White_Space property.
DELTATUNE_FUNCTION bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  const utf8proc_category_t category = utf8proc_category(detail::to_utf8proc(c));
  return c == 0x85 || (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP);
}

// Control, format or private use, except the three that count as white space.
DELTATUNE_FUNCTION bool is_control(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const utf8proc_category_t category = detail::category_in_unicode_8(c);
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO;
}

// Unicode punctuation, and the ASCII symbols ($ + < = > ^ ` | ~) that Unicode counts otherwise.
DELTATUNE_FUNCTION bool is_punctuation(char32_t c) {
  if (c < 0x80) return c > ' ' && c < 0x7F && !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z');
  if (c == 0x166D || c == 0x111C9) return true;  // in Unicode 8, not any more
  const utf8proc_category_t category = detail::category_in_unicode_8(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

DELTATUNE_FUNCTION bool is_nonspacing_mark(char32_t c) {
  if (c == 0x1734 || c == 0x1171E) return true;  // in Unicode 8, not any more
  return c != 0x111C9 && detail::category_in_unicode_8(c) == UTF8PROC_CATEGORY_MN;
}

// Chinese ideographs, but neither kana nor hangul, which are written in words. Extension E begins at 2B920 as in the library, not at 2B820.
DELTATUNE_FUNCTION bool is_chinese(char32_t c) {
  return (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

// What regular expressions call \p{L}.
DELTATUNE_FUNCTION bool is_letter(char32_t c) {
  if (c < 0x80) return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  if (detail::contains(detail::kLettersAfterUnicode15, c)) return true;
  const utf8proc_category_t category = utf8proc_category(detail::to_utf8proc(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO && !detail::contains(detail::kLettersAndNumbersAfterUnicode16, c);
}

// What regular expressions call \p{N}.
DELTATUNE_FUNCTION bool is_number(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  if (detail::contains(detail::kNumbersAfterUnicode15, c)) return true;
  const utf8proc_category_t category = utf8proc_category(detail::to_utf8proc(c));
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO && !detail::contains(detail::kLettersAndNumbersAfterUnicode16, c);
}

// What regular expressions call \p{M}.
DELTATUNE_FUNCTION bool is_mark(char32_t c) {
  if (c < 0x300) return false;
  const utf8proc_category_t category = utf8proc_category(detail::to_utf8proc(c));
  return (category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME) || detail::contains(detail::kMarksAfterUnicode15, c);
}

// A mark as Unicode 9 has them: what StripAccents takes away.
DELTATUNE_FUNCTION bool is_combining_mark(char32_t c) {
  if (c < 0x300) return false;
  if (c == 0x1CF2 || c == 0x1CF3) return true;  // in Unicode 9, not any more
  const utf8proc_category_t category = utf8proc_category(detail::to_utf8proc(c));
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME && !detail::contains(detail::kMarksAfterUnicode9, c) &&
         !detail::contains(detail::kMarksAfterUnicode15, c);
}

// What Rust calls numeric, of Unicode 17: \p{N}.
DELTATUNE_FUNCTION bool is_numeric(char32_t c) { return is_number(c) || (c >= 0x11DE0 && c <= 0x11DE9) || (c >= 0x16FF4 && c <= 0x16FF6); }

// Letter, mark, digit, connector: what regular expressions call \w.
DELTATUNE_FUNCTION bool is_word(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= 'a' && c <= 'z');
  if (is_letter(c) || is_mark(c)) return true;
  switch (utf8proc_category(detail::to_utf8proc(c))) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
             (c >= 0x1F170 && c <= 0x1F189) || detail::contains(detail::kNumbersAfterUnicode15, c);
  }
}

// Appends the lower-case form: one code point, except that U+0130 gives two.
DELTATUNE_FUNCTION void append_lowercase(char32_t c, std::string& text_io) {
  if (c == 0x130) {
    text_io += "i\xCC\x87";
    return;
  }
  char32_t lower = static_cast<char32_t>(utf8proc_tolower(detail::to_utf8proc(c)));
  if (lower == c) {
    for (const auto& [first, last, lower_of_first] : detail::kLowerCaseAfterUnicode15)
      if (c >= first && c <= last) lower = lower_of_first + (c - first);
  }
  append_utf8(lower, text_io);
}

// Canonical decomposition (NFD).
DELTATUNE_FUNCTION std::u32string decompose(const std::u32string& text) {
  std::u32string result;
  result.reserve(text.size());
  for (const char32_t c : text) {
    if (c < 0xC0 || detail::contains(detail::kAfterUnicode8, c)) {
      result.push_back(c);
      continue;
    }
    utf8proc_int32_t parts[8];  // the longest canonical decomposition has 4
    int last_boundary_class = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(detail::to_utf8proc(c), parts, 8, UTF8PROC_DECOMPOSE, &last_boundary_class);
    for (utf8proc_ssize_t i = 0; i < count; ++i) result.push_back(static_cast<char32_t>(parts[i]));
  }

  // Canonical order: each run of marks sorted by class, marks of one class as they came.
  std::vector<std::uint64_t> run;  // class, position, mark
  for (std::size_t begin = 0; begin < result.size(); begin += run.size() + 1) {
    run.clear();
    for (std::size_t at = begin; at < result.size(); ++at) {
      const std::uint64_t combining_class = detail::combining_class(result[at]);
      if (combining_class == 0) break;
      run.push_back((combining_class << 56U) | (std::uint64_t{run.size()} << 21U) | result[at]);
    }
    std::sort(run.begin(), run.end());
    for (std::size_t i = 0; i < run.size(); ++i) result[begin + i] = static_cast<char32_t>(run[i] & 0x1FFFFFU);
  }
  return result;
}

}  // namespace deltatune::unicode
