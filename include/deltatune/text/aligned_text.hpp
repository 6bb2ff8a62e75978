// A text on its way through normalisation, and for each of its bytes the part of the original text that it stands for.
// The rules are those of the Hugging Face tokenizers library (tokenizer/normalizer.rs): a character that replaces another stands for the same part, one that is
// added stands for the part of the one before it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/encoding.hpp"

namespace deltatune {

namespace detail {

struct AlignedText {
  std::string text = {};
  std::vector<TextSpan> source = {};  // one per byte where `tracked`, else empty; in bytes of the original text
  bool tracked = false;
  std::uint32_t origin = 0;  // where it began in the original text: what is added in front of everything stands there

  void clear() {
    text.clear();
    source.clear();
  }

  // A piece of the original text as it is; its first byte is number `at` there.
  DELTATUNE_FUNCTION void append_original(std::string_view piece, std::size_t at) {
    text += piece;
    if (!tracked) return;
    for (std::size_t begin = 0; begin < piece.size();) {
      const std::size_t bytes = decode_utf8(piece, begin).bytes;
      source.insert(source.end(), bytes, {static_cast<std::uint32_t>(at + begin), static_cast<std::uint32_t>(at + begin + bytes)});
      begin += bytes;
    }
  }

  // A piece of another text, unchanged.
  void append_part(const AlignedText& other, std::size_t begin, std::size_t end) {
    text.append(other.text, begin, end - begin);
    if (tracked)
      source.insert(source.end(), other.source.begin() + static_cast<std::ptrdiff_t>(begin), other.source.begin() + static_cast<std::ptrdiff_t>(end));
  }

  void append(std::string_view bytes, TextSpan of) {
    text += bytes;
    if (tracked) source.insert(source.end(), bytes.size(), of);
  }

  // The part of the original text that [begin, end) stands for.
  TextSpan original(std::size_t begin, std::size_t end) const { return {source[begin].begin, source[end - 1].end}; }
};

// Throws Error when a text has grown out of all proportion: what real tokenizers do makes it a few times longer.
DELTATUNE_FUNCTION void check_growth(std::size_t bytes, std::size_t before, const char* stage) {
  constexpr std::size_t kTimes = 64, kAlways = 4096, kMost = std::size_t{1} << 31U;  // places are 32 bits wide
  if (bytes >= kMost) throw Error(stage, "makes a text of two gigabytes or more", {.remedy = "cut it into several texts"});
  if (bytes > kTimes * (before + kAlways)) {
    throw Error(stage, "makes a text of " + std::to_string(before) + " bytes more than " + std::to_string(kTimes) + " times longer");
  }
}

// A character of a new text. change: 0 where it replaces the next character of the old one, -n where n more vanish after that, 1 where it is added.
struct CharacterChange {
  char32_t character;
  int change;
};

// Appends `changes`, which stand in place of the characters of `from` from the byte `begin` on, of which the first `removed` vanish.
DELTATUNE_FUNCTION void append_changes(const AlignedText& from, std::size_t begin, std::span<const CharacterChange> changes, std::size_t removed,
                                       AlignedText& to_io) {
  if (!from.tracked) {
    for (const CharacterChange& each : changes) append_utf8(each.character, to_io.text);
    return;
  }
  std::size_t at = begin;  // of the next old character
  const auto skip = [&](std::size_t count) {
    for (; count > 0 && at < from.text.size(); --count) at += decode_utf8(from.text, at).bytes;
  };
  skip(removed);
  for (const auto& [character, change] : changes) {
    TextSpan of;
    if (change <= 0) {
      if (!from.source.empty()) of = at < from.source.size() ? from.source[at] : from.source.back();
      skip(static_cast<std::size_t>(1 - change));
    } else {
      of = at > 0 ? from.source[at - 1] : TextSpan{from.origin, from.origin};
    }
    const std::size_t before = to_io.text.size();
    append_utf8(character, to_io.text);
    to_io.source.insert(to_io.source.end(), to_io.text.size() - before, of);
  }
}

// Length of the ASCII text that begins at `at`.
DELTATUNE_FUNCTION std::size_t ascii_length(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end + 8 <= text.size()) {
    std::uint64_t bytes = 0;
    text.copy(reinterpret_cast<char*>(&bytes), 8, end);
    if ((bytes & 0x8080808080808080U) != 0) break;
    end += 8;
  }
  while (end < text.size() && static_cast<unsigned char>(text[end]) < 0x80) ++end;
  return end - at;
}

}  // namespace detail

}  // namespace deltatune
