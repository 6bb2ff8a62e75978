// Tokens to text as they come, for output while a language model writes: the pieces together are what Tokenizer::decode() makes of all tokens.
//
// Text whose characters depend on tokens to come is held back: bytes that may be the beginning of a character, and runs of byte tokens such as <0xE2>, which
// the library reads as a whole. A token is decoded with some before it, never alone: a first token loses blanks that others keep.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/text/tokenizer.hpp"

namespace deltatune {

class TextStream {
 public:
  explicit TextStream(Tokenizer tokenizer, bool skip_special_tokens = false) : tokenizer_(std::move(tokenizer)), skips_special_(skip_special_tokens) {}

  // The text that this token makes certain, often "". Throws Error for an id that no token has.
  DELTATUNE_FUNCTION std::string push(std::int32_t id) {
    window_.push_back(id);
    in_bytes_ = is_byte(id) || (in_bytes_ && tokenizer_.decode({&id, 1}, skips_special_).empty());
    if (in_bytes_) return {};
    const std::string text = tokenizer_.decode(window_, skips_special_);
    const std::size_t end = certain(text);
    std::string piece = end > given_ ? text.substr(given_, end - given_) : std::string();
    given_ = std::max(given_, end);
    if (end == text.size()) settle();
    return piece;
  }
  DELTATUNE_FUNCTION std::string push(std::span<const std::int32_t> ids) {
    std::string text;
    for (const std::int32_t id : ids) text += push(id);
    return text;
  }

  // Tokens that stand before those to come and whose text nobody wants again: a prompt.
  DELTATUNE_FUNCTION void push_given(std::span<const std::int32_t> ids) {
    push(ids);
    given_ += held().size();
  }

  // The text that is held back, as it is if no more tokens come.
  DELTATUNE_FUNCTION std::string held() const {
    const std::string text = tokenizer_.decode(window_, skips_special_);
    return text.size() > given_ ? text.substr(given_) : std::string();
  }
  // The same, for good: what comes next is another text.
  DELTATUNE_FUNCTION std::string finish() {
    std::string rest = held();
    window_.clear();
    settled_ = given_ = 0;
    in_bytes_ = false;
    return rest;
  }

 private:
  static constexpr std::string_view kReplacement = "\uFFFD";

  DELTATUNE_FUNCTION bool is_byte(std::int32_t id) const {
    const std::string token = tokenizer_.token_of(id);
    return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>');
  }
  // How much of a text later tokens leave as it is.
  static std::size_t certain(std::string_view text) {
    while (text.ends_with(kReplacement)) text.remove_suffix(kReplacement.size());
    return text.size();
  }
  // Forgets the tokens that the next one needn't be decoded with.
  DELTATUNE_FUNCTION void settle() {
    const std::vector<std::int32_t> last(window_.begin() + static_cast<std::ptrdiff_t>(settled_), window_.end());
    const std::string text = tokenizer_.decode(last, skips_special_);
    if (text.empty()) return;  // the next one would lose its blank
    window_ = last;
    settled_ = window_.size();
    given_ = text.size();
  }

  Tokenizer tokenizer_;
  bool skips_special_;
  std::vector<std::int32_t> window_;
  bool in_bytes_ = false;    // whether it ends in a run of byte tokens
  std::size_t settled_ = 0;  // tokens of the window whose text was complete when the window began
  std::size_t given_ = 0;    // bytes of the window's text
};

// Finds the token that completes one of some texts, as transformers' stop_strings does: the text may begin in the prompt and in the middle of a token, and end
// in the middle of one. Special tokens count as they are written.
class StopStrings {
 public:
  // prompt: the tokens before those of push(). Throws Error for an empty stop string.
  DELTATUNE_FUNCTION StopStrings(const Tokenizer& tokenizer, std::vector<std::string> strings, std::span<const std::int32_t> prompt = {})
      : stream_(tokenizer), strings_(std::move(strings)) {
    for (const std::string& string : strings_) {
      if (string.empty()) throw Error("stop strings", "one is empty", {.remedy = "leave it out"});
      longest_ = std::max(longest_, string.size());
    }
    if (!strings_.empty()) keep_tail(stream_.push(prompt));
  }

  // Whether one of the strings ends in this token.
  DELTATUNE_FUNCTION bool push(std::int32_t id) {
    if (strings_.empty()) return false;
    const std::size_t before = tail_.size();
    tail_ += stream_.push(id);
    const std::string text = tail_ + stream_.held();
    const bool found = std::any_of(strings_.begin(), strings_.end(), [&](const std::string& string) {
      return text.find(string, before >= string.size() ? before - string.size() + 1 : 0) != std::string::npos;
    });
    keep_tail("");
    return found;
  }

 private:
  void keep_tail(const std::string& text) {
    tail_ += text;
    if (tail_.size() >= longest_) tail_.erase(0, tail_.size() - longest_ + 1);
  }

  TextStream stream_;
  std::vector<std::string> strings_;
  std::size_t longest_ = 0;
  std::string tail_;  // of the text, shorter than the longest string
};

}  // namespace deltatune
