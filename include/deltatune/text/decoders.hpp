// The decoders of tokenizer.json: tokens to text. As in the Hugging Face tokenizers library (decoders/).
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/byte_level.hpp"
#include "deltatune/text/text_pattern.hpp"

namespace deltatune::detail {

struct ByteLevelDecoder {};
struct ByteFallbackDecoder {};
struct FuseDecoder {};
struct WordPieceDecoder {
  std::string prefix = "##";
  bool cleanup = true;
};
struct MetaspaceDecoder {
  std::string replacement = "\u2581";
  bool drops_first = true;
};
struct SuffixDecoder {
  std::string suffix = "</w>";
};
struct StripDecoder {
  std::string content;  // one character
  std::size_t start = 0, stop = 0;
};
struct ReplaceDecoder {
  TextPattern pattern;
  std::string content;
};

using DecoderStep =
    std::variant<ByteLevelDecoder, ByteFallbackDecoder, FuseDecoder, WordPieceDecoder, MetaspaceDecoder, SuffixDecoder, StripDecoder, ReplaceDecoder>;

class Decoder {
 public:
  Decoder() = default;
  explicit Decoder(std::vector<DecoderStep> steps) : steps_(std::move(steps)) {}

  // Whether tokens are taken for bytes in visible characters.
  bool reads_bytes() const { return !steps_.empty() && std::holds_alternative<ByteLevelDecoder>(steps_.front()); }

  // Without any step the tokens stand with blanks between them.
  DELTATUNE_FUNCTION std::string decode(std::vector<std::string> tokens) const {
    for (const DecoderStep& step : steps_) std::visit([&](const auto& kind) { run(kind, tokens); }, step);
    std::string text;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0 && steps_.empty()) text += ' ';
      text += tokens[i];
    }
    return text;
  }

 private:
  using Tokens = std::vector<std::string>;

  static void replace_all(std::string& text_io, std::string_view what, std::string_view by) {
    if (what.empty()) return;
    for (std::size_t at = 0; (at = text_io.find(what, at)) != std::string::npos; at += by.size()) text_io.replace(at, what.size(), by);
  }

  static void run(const ByteLevelDecoder&, Tokens& tokens_io) {
    std::string bytes;
    for (const std::string& token : tokens_io) append_bytes(token, bytes);
    deltatune::replace_invalid_utf8(bytes);
    tokens_io.clear();
    tokens_io.push_back(std::move(bytes));
  }

  DELTATUNE_FUNCTION static void run(const ByteFallbackDecoder&, Tokens& tokens_io) {
    Tokens result;
    std::string bytes;
    const auto finish_bytes = [&] {
      if (bytes.empty()) return;
      std::string text = bytes;
      if (deltatune::replace_invalid_utf8(text) == 0) {
        result.push_back(std::move(text));
      } else {
        result.insert(result.end(), bytes.size(), "\uFFFD");
      }
      bytes.clear();
    };
    for (std::string& token : tokens_io) {
      unsigned value = 0;
      const bool has_shape = token.size() == 6 && token.starts_with("<0x") && token.ends_with('>');
      if (has_shape && std::from_chars(token.data() + 3, token.data() + 5, value, 16).ptr == token.data() + 5) {
        bytes.push_back(static_cast<char>(static_cast<unsigned char>(value)));
        continue;
      }
      finish_bytes();
      result.push_back(std::move(token));
    }
    finish_bytes();
    tokens_io = std::move(result);
  }

  static void run(const FuseDecoder&, Tokens& tokens_io) {
    std::string text;
    for (const std::string& token : tokens_io) text += token;
    tokens_io.clear();
    tokens_io.push_back(std::move(text));
  }

  DELTATUNE_FUNCTION static void run(const WordPieceDecoder& step, Tokens& tokens_io) {
    static constexpr std::array<std::pair<const char*, const char*>, 11> kCleanups{{{" .", "."},
                                                                                    {" ?", "?"},
                                                                                    {" !", "!"},
                                                                                    {" ,", ","},
                                                                                    {" ' ", "'"},
                                                                                    {" n't", "n't"},
                                                                                    {" 'm", "'m"},
                                                                                    {" do not", " don't"},
                                                                                    {" 's", "'s"},
                                                                                    {" 've", "'ve"},
                                                                                    {" 're", "'re"}}};
    for (std::size_t i = 0; i < tokens_io.size(); ++i) {
      std::string& token = tokens_io[i];
      if (i > 0) {
        if (token.starts_with(step.prefix)) {
          token.erase(0, step.prefix.size());
        } else {
          token.insert(token.begin(), ' ');
        }
      }
      if (!step.cleanup) continue;
      for (const auto& [what, by] : kCleanups) replace_all(token, what, by);
    }
  }

  static void run(const MetaspaceDecoder& step, Tokens& tokens_io) {
    for (std::size_t i = 0; i < tokens_io.size(); ++i) replace_all(tokens_io[i], step.replacement, i == 0 && step.drops_first ? "" : " ");
  }

  static void run(const SuffixDecoder& step, Tokens& tokens_io) {
    for (std::size_t i = 0; i < tokens_io.size(); ++i) replace_all(tokens_io[i], step.suffix, i + 1 == tokens_io.size() ? "" : " ");
  }

  static void run(const StripDecoder& step, Tokens& tokens_io) {
    for (std::string& token : tokens_io) {
      std::string_view kept = token;
      for (std::size_t i = 0; i < step.start && kept.starts_with(step.content); ++i) kept.remove_prefix(step.content.size());
      for (std::size_t i = 0; i < step.stop && kept.ends_with(step.content); ++i) kept.remove_suffix(step.content.size());
      token = std::string(kept);
    }
  }

  static void run(const ReplaceDecoder& step, Tokens& tokens_io) {
    for (std::string& token : tokens_io) {
      std::string result;
      std::size_t last = 0;
      step.pattern.for_each_match(token, [&](std::size_t begin, std::size_t end) {
        result.append(token, last, begin - last);
        result += step.content;
        last = end;
      });
      token = result + token.substr(last);
    }
  }

  std::vector<DecoderStep> steps_;
};

}  // namespace deltatune::detail
