// The normalizers of tokenizer.json, each a step from one text to the next. As in the Hugging Face tokenizers library (normalizers/).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/aligned_text.hpp"
#include "deltatune/text/bert_normalizer.hpp"
#include "deltatune/text/byte_level.hpp"
#include "deltatune/text/charsmap.hpp"
#include "deltatune/text/normal_form.hpp"
#include "deltatune/text/text_pattern.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune::detail {

struct LowercaseStep {};
struct StripAccentsStep {};
struct NmtStep {};
struct ByteLevelStep {};
struct StripStep {
  bool left = true, right = true;
};
struct ReplaceStep {
  TextPattern pattern;
  std::string content;
};
struct PrependStep {
  std::string text;
};

using NormalizerStep = std::variant<BertNormalizer, NormalForm, LowercaseStep, StripAccentsStep, NmtStep, ByteLevelStep, StripStep, ReplaceStep, PrependStep,
                                    std::shared_ptr<const Charsmap>>;

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

  bool is_identity() const { return steps_.empty(); }

  // Changes a text in place; `other` and `scratch` hold nothing that is needed.
  DELTATUNE_FUNCTION void apply(AlignedText& text_io, AlignedText& other, std::vector<CharacterChange>& scratch) const {
    const std::size_t before = text_io.text.size();
    for (const NormalizerStep& step : steps_) {
      check_growth(text_io.text.size(), before, "normalizer");
      other.clear();
      other.tracked = text_io.tracked;
      other.origin = text_io.origin;
      other.text.reserve(text_io.text.size() + text_io.text.size() / 8);
      if (std::visit([&](const auto& kind) { return append(kind, text_io, scratch, other); }, step)) std::swap(text_io, other);
    }
    check_growth(text_io.text.size(), before, "normalizer");
  }

 private:
  // Each of them appends the new text and returns true, or returns false for a text that stays as it is.
  static bool append(const BertNormalizer& step, const AlignedText& from, std::vector<CharacterChange>& scratch, AlignedText& to_io) {
    step.append_normalized(from, scratch, to_io);
    return true;
  }

  static bool append(NormalForm form, const AlignedText& from, std::vector<CharacterChange>& scratch, AlignedText& to_io) {
    if (!may_change(form, from.text)) return false;
    append_normal_form(form, from, scratch, to_io);
    return true;
  }

  static bool append(const std::shared_ptr<const Charsmap>& map, const AlignedText& from, std::vector<CharacterChange>& scratch, AlignedText& to_io) {
    map->append_mapped(from, scratch, to_io);
    return true;
  }

  DELTATUNE_FUNCTION static bool append(const LowercaseStep&, const AlignedText& from, std::vector<CharacterChange>&, AlignedText& to_io) {
    for (std::size_t at = 0; at < from.text.size();) {
      const char c = from.text[at];
      if (static_cast<unsigned char>(c) < 0x80) {
        to_io.text.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
        if (to_io.tracked) to_io.source.push_back(from.source[at]);
        ++at;
        continue;
      }
      const DecodedCodePoint next = decode_utf8(from.text, at);
      const std::size_t before = to_io.text.size();
      unicode::append_lowercase(next.code_point, to_io.text);
      if (to_io.tracked) to_io.source.insert(to_io.source.end(), to_io.text.size() - before, from.source[at]);
      at += next.bytes;
    }
    return true;
  }

  // Characters one by one: `changed` gives what replaces one, or kDropped.
  static constexpr char32_t kDropped = 0xFFFFFFFF;
  template <class Changed>
  static bool append_mapped(const AlignedText& from, AlignedText& to_io, Changed&& changed) {
    for (std::size_t at = 0; at < from.text.size();) {
      const DecodedCodePoint next = decode_utf8(from.text, at);
      const char32_t c = changed(next.code_point);
      if (c != kDropped) {
        const std::size_t before = to_io.text.size();
        append_utf8(c, to_io.text);
        if (to_io.tracked) to_io.source.insert(to_io.source.end(), to_io.text.size() - before, from.source[at]);
      }
      at += next.bytes;
    }
    return true;
  }

  DELTATUNE_FUNCTION static bool append(const StripAccentsStep&, const AlignedText& from, std::vector<CharacterChange>&, AlignedText& to_io) {
    if (ascii_length(from.text, 0) == from.text.size()) return false;
    return append_mapped(from, to_io, [](char32_t c) { return unicode::is_combining_mark(c) ? kDropped : c; });
  }

  DELTATUNE_FUNCTION static bool append(const NmtStep&, const AlignedText& from, std::vector<CharacterChange>&, AlignedText& to_io) {
    return append_mapped(from, to_io, [](char32_t c) {
      if ((c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) return kDropped;
      const bool is_blank = c == '\t' || c == '\n' || c == 0x0C || c == '\r' || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
                            c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      return is_blank ? U' ' : c;
    });
  }

  DELTATUNE_FUNCTION static bool append(const ByteLevelStep&, const AlignedText& from, std::vector<CharacterChange>&, AlignedText& to_io) {
    append_byte_characters(from, 0, from.text.size(), to_io);
    return true;
  }

  DELTATUNE_FUNCTION static bool append(const StripStep& step, const AlignedText& from, std::vector<CharacterChange>&, AlignedText& to_io) {
    const std::string_view text = from.text;
    std::size_t begin = 0, end = text.size();
    while (step.left && begin < end) {
      const DecodedCodePoint next = decode_utf8(text, begin);
      if (!unicode::is_white_space(next.code_point)) break;
      begin += next.bytes;
    }
    while (step.right && end > begin) {
      std::size_t last = end - 1;
      while (last > begin && is_utf8_continuation(text[last])) --last;
      if (!unicode::is_white_space(decode_utf8(text, last).code_point)) break;
      end = last;
    }
    if (begin == 0 && end == text.size()) return false;
    to_io.append_part(from, begin, end);
    return true;
  }

  DELTATUNE_FUNCTION static bool append(const ReplaceStep& step, const AlignedText& from, std::vector<CharacterChange>&, AlignedText& to_io) {
    if (from.text.empty()) return false;
    std::size_t copied = 0;  // up to here
    bool matched = false;
    step.pattern.for_each_match(from.text, [&](std::size_t begin, std::size_t end) {
      check_growth(to_io.text.size(), from.text.size(), "normalizer: Replace");
      to_io.append_part(from, copied, begin);
      to_io.append(step.content, from.tracked && end > 0 ? from.source[end - 1] : TextSpan{from.origin, from.origin});
      copied = end;
      matched = true;
    });
    if (!matched) return false;
    to_io.append_part(from, copied, from.text.size());
    return true;
  }

  static bool append(const PrependStep& step, const AlignedText& from, std::vector<CharacterChange>&, AlignedText& to_io) {
    if (from.text.empty()) return false;
    to_io.append(step.text, from.tracked ? from.source.front() : TextSpan{});
    to_io.append_part(from, 0, from.text.size());
    return true;
  }

  std::vector<NormalizerStep> steps_;
};

}  // namespace deltatune::detail
