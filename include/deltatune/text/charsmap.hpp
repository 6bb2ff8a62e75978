// SentencePiece's "precompiled" map of characters: a double array of bytes to places in a list of replacements.
// Taken as the Hugging Face tokenizers library takes it: whole graphemes of less than six bytes first, of which the shortest beginning with an entry decides;
// what else the grapheme holds vanishes.
#pragma once

#include <utf8proc.h>

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/aligned_text.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune::detail {

class Charsmap {
 public:
  // Throws Error for bytes that are no such map; `where` names their place.
  DELTATUNE_FUNCTION Charsmap(std::string_view bytes, const std::string& where) {
    const auto number = [&bytes](std::size_t at) {
      std::uint32_t value = 0;
      for (std::size_t i = 4; i-- > 0;) value = (value << 8U) | static_cast<unsigned char>(bytes[at + i]);
      return value;
    };
    const std::size_t trie_bytes = bytes.size() < 4 ? 0 : number(0);
    if (trie_bytes < 4 || trie_bytes > bytes.size() - 4) {
      throw Error(where, "is no map of characters", {.expected = "a trie and a list of texts", .got = std::to_string(bytes.size()) + " bytes"});
    }
    units_.resize(trie_bytes / 4);
    for (std::size_t i = 0; i < units_.size(); ++i) units_[i] = number(4 + 4 * i);
    texts_ = bytes.substr(4 + units_.size() * 4);
    if (std::string copy = texts_; deltatune::replace_invalid_utf8(copy) > 0) throw Error(where, "holds texts that are not UTF-8");
    check(where);
    for (std::size_t c = 0; c < 0x80; ++c) {
      const char character = static_cast<char>(c);
      maps_ascii_[c] = find({&character, 1}).has_value();
    }
  }

  // Appends the text with its characters mapped; `scratch` holds nothing that is needed.
  DELTATUNE_FUNCTION void append_mapped(const AlignedText& from, std::vector<CharacterChange>& scratch, AlignedText& to_io) const {
    const std::string_view text = from.text;
    std::size_t copied = 0;  // up to here
    scratch.clear();
    for (std::size_t at = 0; at < text.size();) {
      const unsigned char lead = static_cast<unsigned char>(text[at]);
      const bool alone = lead < 0x80 && (at + 1 == text.size() || (static_cast<unsigned char>(text[at + 1]) < 0x80 && lead != '\r'));
      if (alone && !maps_ascii_[lead]) {
        if (to_io.tracked) scratch.push_back({lead, 0});
        ++at;
        continue;
      }
      const std::size_t end = alone ? at + 1 : grapheme_end(text, at);
      if (to_io.tracked) {  // what vanishes at the beginning shifts all that follows, so the changes stay together
        append_grapheme(text.substr(at, end - at), scratch);
      } else {
        scratch.clear();
        if (append_grapheme(text.substr(at, end - at), scratch)) {
          to_io.append_part(from, copied, at);
          append_changes(from, at, scratch, 0, to_io);
          check_growth(to_io.text.size(), text.size(), "normalizer: Precompiled");
          copied = end;
        }
      }
      at = end;
    }
    if (to_io.tracked) return append_changes(from, 0, scratch, 0, to_io);
    to_io.append_part(from, copied, text.size());
  }

 private:
  static std::uint32_t offset(std::uint32_t unit) { return (unit >> 10U) << ((unit & (1U << 9U)) >> 6U); }
  static bool has_leaf(std::uint32_t unit) { return ((unit >> 8U) & 1U) == 1; }
  static std::uint32_t label(std::uint32_t unit) { return unit & ((1U << 31U) | 0xFFU); }
  static std::uint32_t value(std::uint32_t unit) { return unit & ((1U << 31U) - 1); }

  // That no entry points outside.
  DELTATUNE_FUNCTION void check(const std::string& where) const {
    const auto broken = [&where] { return Error(where, "is damaged: an entry points outside of it", {.remedy = "fetch the file again"}); };
    std::vector<bool> seen(units_.size());
    std::vector<std::size_t> open{offset(units_[0])};
    while (!open.empty()) {
      const std::size_t base = open.back();
      open.pop_back();
      for (std::size_t byte = 1; byte < 256; ++byte) {
        const std::size_t node = base ^ byte;
        if (node >= units_.size() || label(units_[node]) != byte) continue;
        if (seen[node]) continue;
        seen[node] = true;
        const std::size_t below = node ^ offset(units_[node]);
        if (has_leaf(units_[node])) {
          if (below >= units_.size()) throw broken();
          const std::size_t text = value(units_[below]);
          if (text > texts_.size() || (text < texts_.size() && is_utf8_continuation(texts_[text]))) throw broken();
          if (text < texts_.size() && texts_.find('\0', text) == std::string::npos) throw broken();
        }
        open.push_back(below);
      }
    }
  }

  // The replacement of the shortest beginning of a text that has one.
  DELTATUNE_FUNCTION std::optional<std::string_view> find(std::string_view text) const {
    std::size_t node = offset(units_[0]);
    for (const char c : text) {
      const std::size_t byte = static_cast<unsigned char>(c);
      if (byte == 0) break;
      node ^= byte;
      if (node >= units_.size()) return std::nullopt;
      const std::uint32_t unit = units_[node];
      if (label(unit) != byte) return std::nullopt;
      node ^= offset(unit);
      if (has_leaf(unit)) {
        const std::string_view rest = std::string_view(texts_).substr(value(units_[node]));
        return rest.substr(0, rest.find('\0'));
      }
    }
    return std::nullopt;
  }

  DELTATUNE_FUNCTION static std::size_t grapheme_end(std::string_view text, std::size_t begin) {
    DecodedCodePoint last = decode_utf8(text, begin);
    std::size_t end = begin + last.bytes;
    utf8proc_int32_t state = 0;
    while (end < text.size()) {
      const DecodedCodePoint next = decode_utf8(text, end);
      const bool breaks =
          utf8proc_grapheme_break_stateful(unicode::detail::to_utf8proc(last.code_point), unicode::detail::to_utf8proc(next.code_point), &state);
      if (breaks && next.code_point != 0x0897) break;  // a mark that is new in Unicode 16
      last = next;
      end += next.bytes;
    }
    return end;
  }

  static void replace(std::size_t old_characters, std::string_view text, std::vector<CharacterChange>& changes_io) {
    const std::size_t before = changes_io.size();
    for (std::size_t at = 0; at < text.size();) {
      const DecodedCodePoint next = decode_utf8(text, at);
      changes_io.push_back({next.code_point, changes_io.size() - before < old_characters ? 0 : 1});
      at += next.bytes;
    }
    const std::size_t characters = changes_io.size() - before;
    if (characters < old_characters && !changes_io.empty()) changes_io.back().change -= static_cast<int>(old_characters - characters);
  }

  // False: nothing changes.
  DELTATUNE_FUNCTION bool append_grapheme(std::string_view grapheme, std::vector<CharacterChange>& changes_io) const {
    const auto characters = [](std::string_view text) {
      std::size_t count = 0;
      for (const char byte : text) count += is_utf8_continuation(byte) ? 0 : 1;
      return count;
    };
    constexpr std::size_t kLongest = 5;
    if (grapheme.size() <= kLongest) {
      if (const auto text = find(grapheme)) {
        replace(characters(grapheme), *text, changes_io);
        return true;
      }
    }
    bool changed = false;
    for (std::size_t at = 0; at < grapheme.size();) {
      const DecodedCodePoint next = decode_utf8(grapheme, at);
      if (const auto text = find(grapheme.substr(at, next.bytes))) {
        replace(1, *text, changes_io);
        changed = true;
      } else {
        changes_io.push_back({next.code_point, 0});
      }
      at += next.bytes;
    }
    return changed;
  }

  std::vector<std::uint32_t> units_;
  std::string texts_;  // each ends at a zero byte
  std::bitset<0x80> maps_ascii_;
};

// Bytes of base64 text (RFC 4648). Throws Error for any other text.
DELTATUNE_FUNCTION std::string from_base64(std::string_view text, const std::string& where) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<std::int8_t, 256> values{};
  values.fill(-1);
  for (std::size_t i = 0; i < kDigits.size(); ++i) values[static_cast<unsigned char>(kDigits[i])] = static_cast<std::int8_t>(i);
  const auto bad = [&where] { return Error(where, "is not base64", {.expected = "letters, digits, + and /, with = at the end"}); };
  if (text.size() % 4 != 0) throw bad();
  while (!text.empty() && text.back() == '=' && text.size() % 4 != 2) text.remove_suffix(1);
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t held = 0;
  unsigned bits = 0;
  for (const char digit : text) {
    const std::int8_t value = values[static_cast<unsigned char>(digit)];
    if (value < 0) throw bad();
    held = (held << 6U) | static_cast<std::uint32_t>(value);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(held >> bits)));
  }
  return bytes;
}

}  // namespace deltatune::detail
