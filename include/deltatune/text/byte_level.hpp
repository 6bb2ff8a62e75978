// The visible characters that stand for bytes in the vocabulary of a byte-level BPE tokenizer.
// A. Radford et al., Language Models are Unsupervised Multitask Learners, 2019; as in the Hugging Face tokenizers library (pre_tokenizers/byte_level.rs).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/aligned_text.hpp"

namespace deltatune {

// The character that stands for a byte in the vocabulary: itself if it can be seen, else one from U+0100 on, in the order of the bytes.
inline constexpr std::array<char32_t, 256> kByteCharacters = [] {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte > ' ' && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    characters[byte] = visible ? byte : next++;
  }
  return characters;
}();

namespace detail {

// The way back; -1 for a character that stands for no byte.
inline constexpr std::array<std::int16_t, 0x144> kBytesOfCharacters = [] {
  std::array<std::int16_t, 0x144> bytes{};
  bytes.fill(-1);
  for (std::size_t byte = 0; byte < 256; ++byte) bytes[kByteCharacters[byte]] = static_cast<std::int16_t>(byte);
  return bytes;
}();

// Appends from[begin, end) in visible characters.
DELTATUNE_FUNCTION void append_byte_characters(const AlignedText& from, std::size_t begin, std::size_t end, AlignedText& to_io) {
  for (std::size_t at = begin; at < end; ++at) {
    const std::size_t before = to_io.text.size();
    append_utf8(kByteCharacters[static_cast<unsigned char>(from.text[at])], to_io.text);
    if (to_io.tracked) to_io.source.insert(to_io.source.end(), to_io.text.size() - before, from.source[at]);
  }
}

}  // namespace detail

// Appends the bytes for which a token's characters stand, and returns true; a token with any other character is appended as it is written.
DELTATUNE_FUNCTION bool append_bytes(std::string_view token, std::string& text_io) {
  const std::size_t before = text_io.size();
  for (std::size_t at = 0; at < token.size();) {
    const DecodedCodePoint next = decode_utf8(token, at);
    const int byte = next.code_point < detail::kBytesOfCharacters.size() ? detail::kBytesOfCharacters[next.code_point] : -1;
    if (byte < 0) {
      text_io.replace(before, std::string::npos, token);
      return false;
    }
    text_io.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    at += next.bytes;
  }
  return true;
}

}  // namespace deltatune
