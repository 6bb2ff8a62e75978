// What regular expressions ask about a character: \p{L}, \p{Lu} and so on, \p{N}, \p{M}, \s. Of Unicode 16.
#pragma once

#include <utf8proc.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune::detail {

using CharacterClass = std::uint8_t;
inline constexpr CharacterClass kUpper = 1;         // Lu, Lt
inline constexpr CharacterClass kLower = 2;         // Ll
inline constexpr CharacterClass kOtherLetter = 4;   // Lm, Lo
inline constexpr CharacterClass kLetter = 7;        // L
inline constexpr CharacterClass kNumber = 8;        // N
inline constexpr CharacterClass kMark = 16;         // M
inline constexpr CharacterClass kWhiteSpace = 32;   // \s
inline constexpr CharacterClass kPunctuation = 64;  // what BERT calls so, of Unicode 8

// Letters of Unicode 16 with case, for a utf8proc that doesn't have them yet.
DELTATUNE_FUNCTION CharacterClass new_letter(char32_t c) {
  if (c == 0x1C89 || c == 0xA7CB || c == 0xA7CC || c == 0xA7DA || c == 0xA7DC || (c >= 0x10D50 && c <= 0x10D65)) return kUpper;
  if (c == 0x1C8A || c == 0xA7CD || c == 0xA7DB || (c >= 0x10D70 && c <= 0x10D85)) return kLower;
  return kOtherLetter;
}

DELTATUNE_FUNCTION CharacterClass look_up_class(char32_t c) {
  CharacterClass result = 0;
  if (unicode::is_letter(c)) {
    const utf8proc_category_t category = utf8proc_category(unicode::detail::to_utf8proc(c));
    const bool is_new = category < UTF8PROC_CATEGORY_LU || category > UTF8PROC_CATEGORY_LO;
    result = is_new                                                                 ? new_letter(c)
             : category == UTF8PROC_CATEGORY_LL                                     ? kLower
             : category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT ? kUpper
                                                                                    : kOtherLetter;
  } else if (unicode::is_number(c)) {
    result = kNumber;
  } else if (unicode::is_mark(c)) {
    result = kMark;
  } else if (unicode::is_white_space(c)) {
    result = kWhiteSpace;
  }
  if (unicode::is_punctuation(c)) result = static_cast<CharacterClass>(result | kPunctuation);
  return result;
}

// The classes of all characters below U+10000.
DELTATUNE_FUNCTION const std::array<CharacterClass, 0x10000>& basic_classes() {
  static const std::array<CharacterClass, 0x10000> classes = [] {
    std::array<CharacterClass, 0x10000> all{};
    for (char32_t c = 0; c < 0x10000; ++c) all[c] = look_up_class(c);
    return all;
  }();
  return classes;
}

// A text, character by character with its class.
class ClassReader {
 public:
  explicit ClassReader(std::string_view text) : text_(text), classes_(basic_classes().data()) {}

  struct Character {
    char32_t code_point = 0;  // 0 at the end
    CharacterClass kind = 0;
    std::size_t end = 0;  // where the next one begins
    bool is(CharacterClass of) const { return (kind & of) != 0; }
  };

  Character at(std::size_t place) const {
    if (place >= text_.size()) return {0, 0, place};
    const unsigned char lead = static_cast<unsigned char>(text_[place]);
    if (lead < 0x80) return {lead, classes_[lead], place + 1};
    const DecodedCodePoint next = decode_utf8(text_, place);
    return {next.code_point, next.code_point < 0x10000 ? classes_[next.code_point] : look_up_class(next.code_point), place + next.bytes};
  }

  std::string_view text() const { return text_; }
  std::size_t size() const { return text_.size(); }

  // The end of a run of characters of a class, which may be empty.
  std::size_t run(std::size_t place, CharacterClass of) const {
    while (place < text_.size()) {
      const Character next = at(place);
      if (!next.is(of)) break;
      place = next.end;
    }
    return place;
  }

  // The end of a run of characters of none of some classes.
  std::size_t run_without(std::size_t place, CharacterClass of) const {
    while (place < text_.size()) {
      const Character next = at(place);
      if (next.is(of)) break;
      place = next.end;
    }
    return place;
  }

 private:
  std::string_view text_;
  const CharacterClass* classes_;
};

}  // namespace deltatune::detail
