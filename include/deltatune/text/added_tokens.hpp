// Tokens that are found in the text itself before it is cut into words, such as "[SEP]" or a user's own "<url>".
// The search is that of the Hugging Face tokenizers library (added_vocabulary.rs).
#pragma once

#include <algorithm>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool single_word = false;  // not within a longer word
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // both the token and the text are normalised before they are compared
};

// Finds tokens leftmost first, the longest of those that begin at one place.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;

  explicit AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
    std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
    std::sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) { return a.content.size() > b.content.size(); });
    for (const AddedToken& token : tokens_) begins_.set(first_byte(token.content));
  }

  // Calls on_text(piece) and on_token(id) in the order of the text.
  template <class OnText, class OnToken>
  void split(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
    std::size_t text_begin = 0;  // of the piece not yet handed on
    for (std::size_t at = 0; at < text.size();) {
      const AddedToken* const token = begins_[first_byte(text.substr(at))] ? match(text.substr(at)) : nullptr;
      if (token == nullptr) {
        ++at;
        continue;
      }
      std::size_t begin = at;
      std::size_t end = at += token->content.size();
      if (token->single_word && (ends_with_word(text.substr(0, begin)) || begins_with_word(text.substr(end)))) continue;
      if (token->lstrip) begin = begin_of_trailing_space(text.substr(0, begin));  // may be taken already by the token before
      if (token->rstrip) end += length_of_leading_space(text.substr(end));
      if (text_begin < begin) on_text(text.substr(text_begin, begin - text_begin));
      on_token(token->id);
      text_begin = end;
    }
    if (text_begin < text.size()) on_text(text.substr(text_begin));
  }

 private:
  static std::size_t first_byte(std::string_view text) { return static_cast<unsigned char>(text.front()); }

  const AddedToken* match(std::string_view text) const {
    const auto found = std::find_if(tokens_.begin(), tokens_.end(), [&](const AddedToken& token) { return text.starts_with(token.content); });
    return found == tokens_.end() ? nullptr : &*found;
  }

  static std::size_t begin_of_last_code_point(std::string_view text) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && is_utf8_continuation(text[begin])) --begin;
    return begin;
  }

  static bool ends_with_word(std::string_view text) { return !text.empty() && unicode::is_word(decode_utf8(text, begin_of_last_code_point(text)).code_point); }

  static bool begins_with_word(std::string_view text) { return !text.empty() && unicode::is_word(decode_utf8(text, 0).code_point); }

  DELTATUNE_FUNCTION static std::size_t begin_of_trailing_space(std::string_view text) {
    while (!text.empty()) {
      const std::size_t begin = begin_of_last_code_point(text);
      if (!unicode::is_white_space(decode_utf8(text, begin).code_point)) break;
      text = text.substr(0, begin);
    }
    return text.size();
  }

  DELTATUNE_FUNCTION static std::size_t length_of_leading_space(std::string_view text) {
    std::size_t length = 0;
    while (length < text.size()) {
      const DecodedCodePoint next = decode_utf8(text, length);
      if (!unicode::is_white_space(next.code_point)) break;
      length += next.bytes;
    }
    return length;
  }

  std::vector<AddedToken> tokens_;  // longest first
  std::bitset<256> begins_;         // bytes with which a token begins
};

}  // namespace deltatune
