// Unicode's normal forms (UAX #15) as Unicode 9 has them, which is what the Hugging Face tokenizers library normalises with, and what becomes of each
// character.
#pragma once

#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/sort_stably.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/aligned_text.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

namespace detail {

// Compatibility decompositions that came after Unicode 9.
inline constexpr unicode::detail::Range kCompatibilityAfterUnicode9[] = {{0x32FF, 0x32FF},   {0xA7F1, 0xA7F4},   {0xAB69, 0xAB69},   {0x10781, 0x107BA},
                                                                         {0x1CCD6, 0x1CCF9}, {0x1E030, 0x1E06D}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

// Decomposed characters: of each old one the first replaces it, the others are added.
class Decomposition {
 public:
  Decomposition(bool compatibility, std::vector<CharacterChange>& out_io) : compatibility_(compatibility), out_(out_io), begin_of_marks_(out_io.size()) {}

  DELTATUNE_FUNCTION void add(char32_t c) {
    if (c < 0x80) return push(c, 0);
    if (unicode::detail::contains(unicode::detail::kAfterUnicode8, c) || (compatibility_ && unicode::detail::contains(kCompatibilityAfterUnicode9, c))) {
      return push(c, 0);
    }
    utf8proc_int32_t parts[32];  // the longest decomposition has 18
    int last_boundary_class = 0;
    const int options = static_cast<int>(UTF8PROC_DECOMPOSE) | (compatibility_ ? static_cast<int>(UTF8PROC_COMPAT) : 0);
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(unicode::detail::to_utf8proc(c), parts, 32, static_cast<utf8proc_option_t>(options), &last_boundary_class);
    for (utf8proc_ssize_t i = 0; i < count; ++i) push(static_cast<char32_t>(parts[i]), i == 0 ? 0 : 1);
  }

  // Call it after the last character.
  void finish() { sort_marks(); }

 private:
  void push(char32_t c, int change) {
    if (unicode::detail::combining_class(c) == 0) {
      sort_marks();
      out_.push_back({c, change});
      begin_of_marks_ = out_.size();
    } else {
      out_.push_back({c, change});
    }
  }

  // Canonical order: a run of marks sorted by class, marks of one class as they came.
  void sort_marks() {
    if (out_.size() - begin_of_marks_ > 1) {
      detail::sort_stably(out_.begin() + static_cast<std::ptrdiff_t>(begin_of_marks_), out_.end(), [](const CharacterChange& a, const CharacterChange& b) {
        return unicode::detail::combining_class(a.character) < unicode::detail::combining_class(b.character);
      });
    }
    begin_of_marks_ = out_.size();
  }

  bool compatibility_;
  std::vector<CharacterChange>& out_;
  std::size_t begin_of_marks_;
};

// The character that two make, or 0.
DELTATUNE_FUNCTION char32_t composed(char32_t first, char32_t second) {
  utf8proc_int32_t both[2] = {unicode::detail::to_utf8proc(first), unicode::detail::to_utf8proc(second)};
  const utf8proc_ssize_t length = utf8proc_normalize_utf32(both, 2, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  if (length != 1) return 0;
  const char32_t result = static_cast<char32_t>(both[0]);
  return unicode::detail::contains(unicode::detail::kAfterUnicode8, result) ? 0 : result;
}

// Puts decomposed characters together again, in place.
DELTATUNE_FUNCTION void compose(std::vector<CharacterChange>& text_io) {
  std::size_t written = 0, starter = 0;
  bool has_starter = false;
  std::uint64_t last_class = 0;  // of the marks since the starter that stay; 0: none
  for (const CharacterChange each : std::vector<CharacterChange>(text_io)) {
    const std::uint64_t combining_class = unicode::detail::combining_class(each.character);
    const bool is_blocked = has_starter && last_class != 0 && last_class >= combining_class;
    if (has_starter && !is_blocked) {
      if (const char32_t both = composed(text_io[starter].character, each.character); both != 0) {
        text_io[starter] = {both, text_io[starter].change + each.change - 1};
        continue;
      }
    }
    if (combining_class == 0) {
      starter = written;
      has_starter = true;
      last_class = 0;
    } else if (has_starter) {
      last_class = combining_class;
    }
    text_io[written++] = each;
  }
  text_io.resize(written);
}

// Whether a text below U+0300 alone can change; it has no marks.
DELTATUNE_FUNCTION bool may_change(NormalForm form, std::string_view text) {
  if (ascii_length(text, 0) == text.size()) return false;
  if (form != NormalForm::kNfc) return true;
  return std::any_of(text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) >= 0xCC; });
}

// Appends the normal form of from[begin, ...). `scratch` holds nothing that is needed.
DELTATUNE_FUNCTION void append_normal_form(NormalForm form, const AlignedText& from, std::vector<CharacterChange>& scratch, AlignedText& to_io) {
  const bool composes = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const std::string_view text = from.text;
  for (std::size_t at = 0; at < text.size();) {
    // ASCII stays as it is; the last of it may be composed with what follows.
    std::size_t ascii = ascii_length(text, at);
    if (composes && ascii > 0 && at + ascii < text.size()) --ascii;
    to_io.append_part(from, at, at + ascii);
    at += ascii;
    if (at == text.size()) break;
    std::size_t end = at + 1;
    while (end < text.size() && static_cast<unsigned char>(text[end]) >= 0x80) ++end;
    scratch.clear();
    Decomposition decomposition(form == NormalForm::kNfkc || form == NormalForm::kNfkd, scratch);
    for (std::size_t next = at; next < end;) {
      const DecodedCodePoint c = decode_utf8(text, next);
      decomposition.add(c.code_point);
      next += c.bytes;
    }
    decomposition.finish();
    if (composes) compose(scratch);
    append_changes(from, at, scratch, 0, to_io);
    at = end;
  }
}

}  // namespace detail

}  // namespace deltatune
