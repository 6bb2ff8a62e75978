// UTF-8: decoding that never fails, encoding, and replacing what is not UTF-8.
// An ill-formed sequence becomes one U+FFFD for each maximal subpart (Unicode 15, section 3.9), as in most decoders.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

// One code point and the bytes it took. An ill-formed sequence gives U+FFFD with well_formed = false.
struct DecodedCodePoint {
  char32_t code_point = kReplacementCharacter;
  std::size_t bytes = 1;
  bool well_formed = false;
};

inline bool is_utf8_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

// Code point that begins at text[at]; at must be inside the text.
DELTATUNE_FUNCTION DecodedCodePoint decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return {lead, 1, true};

  std::size_t bytes = 0;
  char32_t code_point = 0;
  unsigned char lowest = 0x80, highest = 0xBF;  // of the second byte: excludes overlong forms, surrogates, values above 10FFFF
  if (lead >= 0xC2 && lead <= 0xDF) {
    bytes = 2, code_point = lead & 0x1FU;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    bytes = 3, code_point = lead & 0x0FU;
    if (lead == 0xE0) lowest = 0xA0;
    if (lead == 0xED) highest = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    bytes = 4, code_point = lead & 0x07U;
    if (lead == 0xF0) lowest = 0x90;
    if (lead == 0xF4) highest = 0x8F;
  } else {
    return {};
  }
  for (std::size_t i = 1; i < bytes; ++i) {
    if (at + i >= text.size() || byte(at + i) < lowest || byte(at + i) > highest) return {kReplacementCharacter, i, false};
    code_point = (code_point << 6U) | (byte(at + i) & 0x3FU);
    lowest = 0x80, highest = 0xBF;
  }
  return {code_point, bytes, true};
}

DELTATUNE_FUNCTION void append_utf8(char32_t code_point, std::string& text_io) {
  const auto push = [&](char32_t value) { text_io.push_back(static_cast<char>(static_cast<unsigned char>(value))); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xC0U | (code_point >> 6U));
    push(0x80U | (code_point & 0x3FU));
  } else if (code_point < 0x10000) {
    push(0xE0U | (code_point >> 12U));
    push(0x80U | ((code_point >> 6U) & 0x3FU));
    push(0x80U | (code_point & 0x3FU));
  } else {
    push(0xF0U | (code_point >> 18U));
    push(0x80U | ((code_point >> 12U) & 0x3FU));
    push(0x80U | ((code_point >> 6U) & 0x3FU));
    push(0x80U | (code_point & 0x3FU));
  }
}

// Replaces every ill-formed sequence by U+FFFD; returns how many there were.
DELTATUNE_FUNCTION Index replace_invalid_utf8(std::string& text_io) {
  std::size_t at = 0;
  const auto skip_valid = [&] {
    while (at < text_io.size()) {
      const DecodedCodePoint next = decode_utf8(text_io, at);
      if (!next.well_formed) return;
      at += next.bytes;
    }
  };
  skip_valid();
  if (at == text_io.size()) return 0;

  Index replaced = 0;
  std::string clean;
  for (std::size_t begin = 0; begin < text_io.size(); begin = at) {
    at = begin;
    skip_valid();
    clean.append(text_io, begin, at - begin);
    if (at == text_io.size()) break;
    at += decode_utf8(text_io, at).bytes;
    append_utf8(kReplacementCharacter, clean);
    ++replaced;
  }
  text_io = std::move(clean);
  return replaced;
}

}  // namespace deltatune
