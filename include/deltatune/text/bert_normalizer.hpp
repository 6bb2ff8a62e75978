// What happens to a text before BERT's vocabulary sees it: cleaning (BertNormalizer), then cutting into words (for_each_word).
// Both as in the Hugging Face tokenizers library (normalizers/bert.rs, pre_tokenizers/bert.rs).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune {

struct BertNormalizer {
  bool clean_text = true;                            // drop control characters and U+FFFD; every white space becomes a blank
  bool handle_chinese_chars = true;                  // blanks around every Chinese ideograph: each one is a word
  std::optional<bool> strip_accents = std::nullopt;  // decompose and drop non-spacing marks; when not set, as lowercase says
  bool lowercase = true;

  std::string operator()(std::string_view text) const {
    std::string result;
    result.reserve(text.size());
    std::size_t at = 0;
    while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) append_ascii(text[at++], result);
    if (at == text.size()) return result;

    // A mark may change the character before it: the whole text goes the long way.
    result.clear();
    const bool strips = strip_accents.value_or(lowercase);
    const std::u32string cleaned = clean(text);
    for (const char32_t c : strips ? unicode::decompose(cleaned) : cleaned) {
      if (strips && unicode::is_nonspacing_mark(c)) continue;
      if (lowercase) {
        unicode::append_lowercase(c, result);
      } else {
        append_utf8(c, result);
      }
    }
    return result;
  }

 private:
  DELTATUNE_FUNCTION void append_ascii(char c, std::string& text_io) const {
    if (clean_text) {
      if (c == '\t' || c == '\n' || c == '\r') c = ' ';
      if (c < ' ' || c == 0x7F) return;
    }
    text_io.push_back(lowercase && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }

  DELTATUNE_FUNCTION std::u32string clean(std::string_view text) const {
    std::u32string result;
    result.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
      const DecodedCodePoint next = decode_utf8(text, at);
      at += next.bytes;
      char32_t c = next.code_point;
      if (clean_text) {
        if (c == kReplacementCharacter || unicode::is_control(c)) continue;
        if (unicode::is_white_space(c)) c = U' ';
      }
      if (handle_chinese_chars && unicode::is_chinese(c)) {
        result += {U' ', c, U' '};
      } else {
        result.push_back(c);
      }
    }
    return result;
  }
};

// Calls visit(word) for each word of a normalised text: white space separates words, every punctuation character is a word.
template <class Visit>
void for_each_word(std::string_view text, Visit&& visit) {
  std::size_t begin = 0;
  const auto finish_word = [&](std::size_t end) {
    if (end > begin) visit(text.substr(begin, end - begin));
  };
  for (std::size_t at = 0; at < text.size();) {
    const DecodedCodePoint next = decode_utf8(text, at);
    const std::size_t after = at + next.bytes;
    if (unicode::is_white_space(next.code_point)) {
      finish_word(at);
      begin = after;
    } else if (unicode::is_punctuation(next.code_point)) {
      finish_word(at);
      visit(text.substr(at, next.bytes));
      begin = after;
    }
    at = after;
  }
  finish_word(text.size());
}

}  // namespace deltatune
