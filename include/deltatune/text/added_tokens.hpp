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
#include "deltatune/text/prefix_trie.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool single_word = false;  // not within a longer word
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // both the token and the text are normalised before they are compared
  bool special = false;      // decoding may leave it out
};

// Finds tokens leftmost first, the longest of those that begin at one place.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;

  // Of two with one content the first counts.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
    std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
    std::vector<std::pair<std::string_view, std::int32_t>> keys;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const std::string_view content = tokens_[i].content;
      begins_.set(static_cast<unsigned char>(content.front()));
      if (std::none_of(keys.begin(), keys.end(), [&](const auto& key) { return key.first == content; }))
        keys.emplace_back(content, static_cast<std::int32_t>(i));
    }
    for (std::size_t byte = 0; byte < begins_.size(); ++byte)
      if (begins_[byte]) last_begin_ = static_cast<char>(static_cast<unsigned char>(byte));
    trie_ = detail::PrefixTrie(std::move(keys));
  }

  // Calls on_text(begin, end) and on_token(id, begin, end) in the order of the text.
  template <class OnText, class OnToken>
  void split(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
    std::size_t text_begin = 0;  // of the piece not yet handed on
    for (std::size_t at = next_begin(text, 0); at < text.size(); at = next_begin(text, at)) {
      std::size_t length = 0;
      std::int32_t index = 0;
      trie_.for_each_prefix(text, at, [&](std::size_t prefix, std::int32_t value) {
        length = prefix;
        index = value;
      });
      if (length == 0) {
        ++at;
        continue;
      }
      const AddedToken& token = tokens_[static_cast<std::size_t>(index)];
      std::size_t begin = at;
      std::size_t end = at += length;
      if (token.single_word && (ends_with_word(text.substr(0, begin)) || begins_with_word(text.substr(end)))) continue;
      if (token.lstrip) begin = std::min(end, std::max(text_begin, begin_of_trailing_space(text.substr(0, begin))));  // some may be the last token's
      if (token.rstrip) end += length_of_leading_space(text.substr(end));
      if (text_begin < begin) on_text(text_begin, begin);
      on_token(token.id, begin, end);
      text_begin = end;
    }
    if (text_begin < text.size()) on_text(text_begin, text.size());
  }

 private:
  // The first place from `at` on where a token may begin.
  std::size_t next_begin(std::string_view text, std::size_t at) const {
    if (tokens_.empty()) return text.size();
    if (begins_.count() == 1) return std::min(text.find(last_begin_, at), text.size());
    while (at < text.size() && !begins_[static_cast<unsigned char>(text[at])]) ++at;
    return at;
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

  std::vector<AddedToken> tokens_;
  detail::PrefixTrie trie_;  // content to place in tokens_
  std::bitset<256> begins_;  // bytes with which a token begins
  char last_begin_ = 0;      // the last of those
};

}  // namespace deltatune
