// What happens to a text before BERT's vocabulary sees it: cleaning (BertNormalizer), then cutting into words (for_each_word).
// Both as in the Hugging Face tokenizers library (normalizers/bert.rs, pre_tokenizers/bert.rs).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/aligned_text.hpp"
#include "deltatune/text/character_class.hpp"
#include "deltatune/text/normal_form.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune {

struct BertNormalizer {
  bool clean_text = true;                            // drop control characters and U+FFFD; every white space becomes a blank
  bool handle_chinese_chars = true;                  // blanks around every Chinese ideograph: each one is a word
  std::optional<bool> strip_accents = std::nullopt;  // decompose and drop non-spacing marks; when not set, as lowercase says
  bool lowercase = true;

  DELTATUNE_FUNCTION std::string operator()(std::string_view text) const {
    detail::AlignedText from{.text = std::string(text)}, to;
    std::vector<detail::CharacterChange> scratch;
    replace_invalid_utf8(from.text);
    append_normalized(from, scratch, to);
    return to.text;
  }

  // `scratch` holds nothing that is needed.
  DELTATUNE_FUNCTION void append_normalized(const detail::AlignedText& from, std::vector<detail::CharacterChange>& scratch, detail::AlignedText& to_io) const {
    for (std::size_t at = 0; at < from.text.size();) {
      const std::size_t ascii_end = at + detail::ascii_length(from.text, at);
      for (; at < ascii_end; ++at) append_ascii(from, at, to_io);
      std::size_t end = at;
      while (end < from.text.size() && static_cast<unsigned char>(from.text[end]) >= 0x80) ++end;
      if (end > at) append_others(from, at, end, scratch, to_io);
      at = end;
    }
  }

 private:
  struct Character {
    char32_t c;
    TextSpan of;
  };

  void append_ascii(const detail::AlignedText& from, std::size_t at, detail::AlignedText& to_io) const {
    char c = from.text[at];
    if (clean_text) {
      if (c == '\t' || c == '\n' || c == '\r') c = ' ';
      if (c < ' ' || c == 0x7F) return;
    }
    to_io.text.push_back(lowercase && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
    if (to_io.tracked) to_io.source.push_back(from.source[at]);
  }

  // A run of characters none of which is ASCII.
  DELTATUNE_FUNCTION void append_others(const detail::AlignedText& from, std::size_t begin, std::size_t end, std::vector<detail::CharacterChange>& scratch,
                                        detail::AlignedText& to_io) const {
    std::vector<Character> characters;
    characters.reserve((end - begin) / 2 + 2);
    for (std::size_t at = begin; at < end;) {
      const DecodedCodePoint next = decode_utf8(from.text, at);
      const TextSpan of = from.tracked ? from.source[at] : TextSpan{};
      at += next.bytes;
      char32_t c = next.code_point;
      if (clean_text) {
        if (c == kReplacementCharacter || unicode::is_control(c)) continue;
        if (unicode::is_white_space(c)) c = U' ';
      }
      const bool is_word = handle_chinese_chars && unicode::is_chinese(c);
      if (is_word) characters.push_back({U' ', of});
      characters.push_back({c, of});
      if (is_word) characters.push_back({U' ', of});
    }
    if (strip_accents.value_or(lowercase)) strip(characters, scratch);
    for (const Character& each : characters) {
      const std::size_t before = to_io.text.size();
      if (lowercase) {
        unicode::append_lowercase(each.c, to_io.text);
      } else {
        append_utf8(each.c, to_io.text);
      }
      if (to_io.tracked) to_io.source.insert(to_io.source.end(), to_io.text.size() - before, each.of);
    }
  }

  DELTATUNE_FUNCTION static void strip(std::vector<Character>& characters_io, std::vector<detail::CharacterChange>& scratch) {
    scratch.clear();
    detail::Decomposition decomposition(false, scratch);
    for (const Character& each : characters_io) decomposition.add(each.c);
    decomposition.finish();
    std::vector<Character> stripped;
    stripped.reserve(scratch.size());
    std::size_t old = 0;  // the next one that is replaced
    for (const auto& [c, change] : scratch) {
      const std::size_t of = change <= 0 ? old++ : old == 0 ? 0 : old - 1;
      if (!unicode::is_nonspacing_mark(c)) stripped.push_back({c, characters_io[of].of});
    }
    characters_io = std::move(stripped);
  }
};

// Calls visit(word) for each word of a normalised text: white space separates words, every punctuation character is a word.
template <class Visit>
void for_each_word(std::string_view text, Visit&& visit) {
  const detail::ClassReader reader(text);
  std::size_t begin = 0;
  const auto finish_word = [&](std::size_t end) {
    if (end > begin) visit(text.substr(begin, end - begin));
  };
  for (std::size_t at = 0; at < text.size();) {
    const detail::ClassReader::Character next = reader.at(at);
    if (next.is(detail::kWhiteSpace | detail::kPunctuation)) {
      finish_word(at);
      if (next.is(detail::kPunctuation)) visit(text.substr(at, next.end - at));
      begin = next.end;
    }
    at = next.end;
  }
  finish_word(text.size());
}

}  // namespace deltatune
