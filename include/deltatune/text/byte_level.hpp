// What happens to a text before GPT-2's vocabulary sees it: cutting into words, and a visible character for every byte.
// A. Radford et al., Language Models are Unsupervised Multitask Learners, 2019; both as in the Hugging Face tokenizers library
// (pre_tokenizers/byte_level.rs).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/unicode.hpp"

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

// Appends the bytes for which a token's characters stand; a token with any other character is taken as it is written.
DELTATUNE_FUNCTION void append_bytes(std::string_view token, std::string& text_io) {
  const std::size_t before = text_io.size();
  for (std::size_t at = 0; at < token.size();) {
    const DecodedCodePoint next = decode_utf8(token, at);
    const auto character = std::find(kByteCharacters.begin(), kByteCharacters.end(), next.code_point);
    if (character == kByteCharacters.end()) {
      text_io.replace(before, std::string::npos, token);
      return;
    }
    text_io.push_back(static_cast<char>(static_cast<unsigned char>(character - kByteCharacters.begin())));
    at += next.bytes;
  }
}

namespace detail {

// Length of an English ending ('s 't 'm 'd 're 've 'll) with which the text begins.
DELTATUNE_FUNCTION std::size_t contraction_length(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  if (text[1] == 's' || text[1] == 't' || text[1] == 'm' || text[1] == 'd') return 2;
  const std::string_view two = text.substr(1, 2);
  return two == "re" || two == "ve" || two == "ll" ? 3 : 0;
}

}  // namespace detail

// Calls visit(word) for each word; the words joined are the text. They are the matches of GPT-2's pattern
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// that is endings, then runs of letters, of numbers, of neither, each with one blank before it, then the white space between.
template <class Visit>
void for_each_byte_level_word(std::string_view text, Visit&& visit) {
  enum class Kind { kLetter, kNumber, kWhiteSpace, kOther };
  struct Character {
    Kind kind;
    std::size_t end;
  };
  const auto character_at = [&](std::size_t at) -> Character {
    const DecodedCodePoint next = decode_utf8(text, at);
    const char32_t c = next.code_point;
    return {unicode::is_letter(c)        ? Kind::kLetter
            : unicode::is_number(c)      ? Kind::kNumber
            : unicode::is_white_space(c) ? Kind::kWhiteSpace
                                         : Kind::kOther,
            at + next.bytes};
  };

  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = begin + detail::contraction_length(text.substr(begin));
    if (end == begin) {
      Character first = character_at(begin);
      if (text[begin] == ' ' && first.end < text.size()) {
        const Character second = character_at(first.end);
        if (second.kind != Kind::kWhiteSpace) first = second;
      }
      end = first.end;
      std::size_t last = begin;  // where the run's last character begins
      while (end < text.size()) {
        const Character next = character_at(end);
        if (next.kind != first.kind) break;
        last = end;
        end = next.end;
      }
      // The last of several white spaces is left to the word behind them.
      if (first.kind == Kind::kWhiteSpace && end < text.size() && last > begin) end = last;
    }
    visit(text.substr(begin, end - begin));
  }
}

}  // namespace deltatune
