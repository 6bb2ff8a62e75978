// The pre-tokenizers of tokenizer.json, each a step that cuts the pieces of a text into smaller ones. As in the Hugging Face tokenizers library
// (pre_tokenizers/, tokenizer/normalizer.rs: split).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/aligned_text.hpp"
#include "deltatune/text/byte_level.hpp"
#include "deltatune/text/character_class.hpp"
#include "deltatune/text/split_expression.hpp"
#include "deltatune/text/text_pattern.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune::detail {

// A part of a normalised text: still to be cut into tokens, or an added token.
struct Piece {
  std::uint32_t begin = 0, end = 0;  // bytes of the normalised text
  std::int32_t id = kText;
  static constexpr std::int32_t kText = -1;
};

// A text in pieces, and room for the next step's.
struct PiecedText {
  AlignedText text;
  std::vector<Piece> pieces;
  AlignedText next_text;
  std::vector<Piece> next_pieces;

  std::string_view view(const Piece& piece) const { return std::string_view(text.text).substr(piece.begin, piece.end - piece.begin); }
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct BertSplit {};
struct WhitespaceSplit {};
struct WordSplit {};  // \w+|[^\w\s]+
struct DigitSplit {
  bool individual = false;
};
struct PunctuationSplit {
  SplitBehavior behavior = SplitBehavior::kIsolated;
};
struct PatternSplit {
  TextPattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};
struct FixedLengthSplit {
  std::size_t length = 5;
};
struct ByteLevelSplit {
  bool add_prefix_space = true;
  bool use_regex = true;
  bool keeps_bytes = false;  // the model takes the bytes themselves
};
enum class PrependScheme { kAlways, kFirst, kNever };
struct Metaspace {
  std::string replacement = "\u2581";
  PrependScheme prepend = PrependScheme::kAlways;
  bool split = true;
};

using PreTokenizerStep =
    std::variant<BertSplit, WhitespaceSplit, WordSplit, DigitSplit, PunctuationSplit, PatternSplit, FixedLengthSplit, ByteLevelSplit, Metaspace>;

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  std::vector<PreTokenizerStep>& steps() { return steps_; }
  const std::vector<PreTokenizerStep>& steps() const { return steps_; }

  DELTATUNE_FUNCTION void apply(PiecedText& text_io) const {
    const std::size_t before = text_io.text.text.size();
    for (const PreTokenizerStep& step : steps_) {
      std::visit([&](const auto& kind) { cut(kind, text_io); }, step);
      check_growth(text_io.text.text.size(), before, "pre_tokenizer");
    }
  }

 private:
  // Cuts each piece of text: of_piece(piece, add) calls add(begin, end) for the parts of one, in bytes of the whole text. Empty ones are left out.
  template <class OfPiece>
  static void cut_pieces(PiecedText& text_io, OfPiece&& of_piece) {
    text_io.next_pieces.clear();
    for (const Piece& piece : text_io.pieces) {
      if (piece.id != Piece::kText) {
        text_io.next_pieces.push_back(piece);
        continue;
      }
      of_piece(piece, [&](std::size_t begin, std::size_t end) {
        if (begin < end) text_io.next_pieces.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)});
      });
    }
    text_io.pieces.swap(text_io.next_pieces);
  }

  struct Event {
    std::size_t begin, end;
    bool match;
  };

  // Cuts each piece at the matches in it: matches(view, visit) calls visit(begin, end) for each.
  template <class Matches>
  static void split(PiecedText& text_io, SplitBehavior behavior, bool invert, Matches&& matches) {
    std::vector<Event> events;
    cut_pieces(text_io, [&](const Piece& piece, auto&& add) {
      const std::string_view view = text_io.view(piece);
      std::size_t last = 0;
      if (behavior == SplitBehavior::kIsolated || behavior == SplitBehavior::kRemoved) {
        const bool keeps_matches = behavior == SplitBehavior::kIsolated || invert, keeps_others = behavior == SplitBehavior::kIsolated || !invert;
        matches(view, [&](std::size_t begin, std::size_t end) {
          if (keeps_others) add(piece.begin + last, piece.begin + begin);
          if (keeps_matches) add(piece.begin + begin, piece.begin + end);
          last = end;
        });
        if (keeps_others) add(piece.begin + last, piece.end);
        return;
      }
      events.clear();
      matches(view, [&](std::size_t begin, std::size_t end) {
        if (last < begin) events.push_back({last, begin, invert});
        events.push_back({begin, end, !invert});
        last = end;
      });
      if (last < view.size()) events.push_back({last, view.size(), invert});
      join(events, behavior);
      for (const Event& event : events) add(piece.begin + event.begin, piece.begin + event.end);
    });
  }

  DELTATUNE_FUNCTION static void join(std::vector<Event>& events_io, SplitBehavior behavior) {
    std::vector<Event> joined;
    bool previous = false;
    const auto add = [&](const Event& event) {
      const bool joins = behavior == SplitBehavior::kContiguous ? event.match == previous : event.match && !previous;
      if (joins && !joined.empty()) {
        if (behavior == SplitBehavior::kMergedWithNext) {
          joined.back().begin = event.begin;
        } else {
          joined.back().end = event.end;
        }
      } else {
        joined.push_back(event);
      }
      previous = event.match;
    };
    if (behavior == SplitBehavior::kMergedWithNext) {
      for (std::size_t i = events_io.size(); i-- > 0;) add(events_io[i]);
      events_io.assign(joined.rbegin(), joined.rend());
    } else {
      for (const Event& event : events_io) add(event);
      events_io.swap(joined);
    }
  }

  // Cuts at each character of which is_delimiter says so.
  template <class IsDelimiter>
  static void split_at(PiecedText& text_io, SplitBehavior behavior, IsDelimiter&& is_delimiter) {
    split(text_io, behavior, false, [&](std::string_view view, auto&& visit) {
      const ClassReader reader(view);
      for (std::size_t at = 0; at < view.size();) {
        const ClassReader::Character next = reader.at(at);
        if (is_delimiter(next)) visit(at, next.end);
        at = next.end;
      }
    });
  }

  static void cut(const BertSplit&, PiecedText& text_io) {
    cut_pieces(text_io, [&](const Piece& piece, auto&& add) {
      const std::string_view view = text_io.view(piece);
      const ClassReader reader(view);
      std::size_t begin = 0;
      for (std::size_t at = 0; at < view.size();) {
        const ClassReader::Character next = reader.at(at);
        if (next.is(kWhiteSpace | kPunctuation)) {
          add(piece.begin + begin, piece.begin + at);
          if (next.is(kPunctuation)) add(piece.begin + at, piece.begin + next.end);
          begin = next.end;
        }
        at = next.end;
      }
      add(piece.begin + begin, piece.end);
    });
  }

  static void cut(const WhitespaceSplit&, PiecedText& text_io) {
    split_at(text_io, SplitBehavior::kRemoved, [](const ClassReader::Character& c) { return c.is(kWhiteSpace); });
  }

  DELTATUNE_FUNCTION static void cut(const WordSplit&, PiecedText& text_io) {
    cut_pieces(text_io, [&](const Piece& piece, auto&& add) {
      const std::string_view view = text_io.view(piece);
      enum class Kind { kSpace, kWord, kOther };
      Kind last = Kind::kSpace;
      std::size_t begin = 0;
      for (std::size_t at = 0; at < view.size();) {
        const DecodedCodePoint next = decode_utf8(view, at);
        const Kind kind = unicode::is_word(next.code_point) ? Kind::kWord : unicode::is_white_space(next.code_point) ? Kind::kSpace : Kind::kOther;
        if (kind != last) {
          if (last != Kind::kSpace) add(piece.begin + begin, piece.begin + at);
          begin = at;
          last = kind;
        }
        at += next.bytes;
      }
      if (last != Kind::kSpace) add(piece.begin + begin, piece.end);
    });
  }

  static void cut(const DigitSplit& step, PiecedText& text_io) {
    split_at(text_io, step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
             [](const ClassReader::Character& c) { return c.is(kNumber) || (c.code_point >= 0x11DE0 && unicode::is_numeric(c.code_point)); });
  }

  static void cut(const PunctuationSplit& step, PiecedText& text_io) {
    split_at(text_io, step.behavior, [](const ClassReader::Character& c) { return c.is(kPunctuation); });
  }

  static void cut(const PatternSplit& step, PiecedText& text_io) {
    split(text_io, step.behavior, step.invert, [&](std::string_view view, auto&& visit) { step.pattern.for_each_match(view, visit); });
  }

  static void cut(const FixedLengthSplit& step, PiecedText& text_io) {
    cut_pieces(text_io, [&](const Piece& piece, auto&& add) {
      const std::string_view view = text_io.view(piece);
      std::size_t begin = 0, characters = 0;
      for (std::size_t at = 0; at < view.size();) {
        at += decode_utf8(view, at).bytes;
        if (++characters % step.length != 0) continue;
        add(piece.begin + begin, piece.begin + at);
        begin = at;
      }
      add(piece.begin + begin, piece.end);
    });
  }

  // Writes the text anew: of_piece(piece, add) appends a piece's new text to next_text and calls add(begin) where a part of it begins.
  template <class OfPiece>
  static void rewrite(PiecedText& text_io, OfPiece&& of_piece) {
    AlignedText& to = text_io.next_text;
    to.clear();
    to.tracked = text_io.text.tracked;
    to.text.reserve(text_io.text.text.size() + text_io.text.text.size() / 8 + 16);
    text_io.next_pieces.clear();
    std::uint32_t begin = 0;
    const auto finish_part = [&] {
      const std::uint32_t end = static_cast<std::uint32_t>(to.text.size());
      if (begin < end) text_io.next_pieces.push_back({begin, end});
      begin = end;
    };
    for (const Piece& piece : text_io.pieces) {
      if (piece.id == Piece::kText) {
        of_piece(piece, to, finish_part);
        finish_part();
      } else {
        to.append_part(text_io.text, piece.begin, piece.end);
        text_io.next_pieces.push_back({begin, static_cast<std::uint32_t>(to.text.size()), piece.id});
        begin = static_cast<std::uint32_t>(to.text.size());
      }
    }
    std::swap(text_io.text, text_io.next_text);
    text_io.pieces.swap(text_io.next_pieces);
  }

  static TextSpan source_of(const AlignedText& text, std::size_t at) { return text.tracked ? text.source[at] : TextSpan{}; }

  DELTATUNE_FUNCTION static void cut(const ByteLevelSplit& step, PiecedText& text_io) {
    if (step.add_prefix_space) {
      bool all_begin_with_blank = true;
      for (const Piece& piece : text_io.pieces)
        if (piece.id == Piece::kText && text_io.text.text[piece.begin] != ' ') all_begin_with_blank = false;
      if (!all_begin_with_blank) {
        rewrite(text_io, [&](const Piece& piece, AlignedText& to, auto&&) {
          if (text_io.text.text[piece.begin] != ' ') to.append(" ", source_of(text_io.text, piece.begin));
          to.append_part(text_io.text, piece.begin, piece.end);
        });
      }
    }
    if (step.use_regex) {
      cut_pieces(text_io, [&](const Piece& piece, auto&& add) {
        for_each_word_of({KnownExpression::kGpt2}, text_io.view(piece),
                         [&](std::size_t begin, std::size_t end) { add(piece.begin + begin, piece.begin + end); });
      });
    }
    if (step.keeps_bytes) return;
    rewrite(text_io, [&](const Piece& piece, AlignedText& to, auto&&) { append_byte_characters(text_io.text, piece.begin, piece.end, to); });
  }

  DELTATUNE_FUNCTION static void cut(const Metaspace& step, PiecedText& text_io) {
    const std::string_view mark = step.replacement;
    rewrite(text_io, [&](const Piece& piece, AlignedText& to, auto&& finish_part) {
      const AlignedText& from = text_io.text;
      const std::string_view text = from.text;
      const bool begins_with_mark = text[piece.begin] == ' ' || text_io.view(piece).starts_with(mark);
      const bool prepends = step.prepend == PrependScheme::kAlways ||
                            (step.prepend == PrependScheme::kFirst && (from.tracked ? from.source[piece.begin].begin : piece.begin) == 0);
      if (prepends && !begins_with_mark) to.append(mark, source_of(from, piece.begin));
      std::size_t copied = piece.begin;
      for (std::size_t at = piece.begin; at < piece.end;) {
        const bool is_blank = text[at] == ' ';
        if (!is_blank && (text[at] != mark[0] || !text.substr(at, piece.end - at).starts_with(mark))) {
          ++at;
          continue;
        }
        to.append_part(from, copied, at);
        if (step.split) finish_part();
        to.append(mark, source_of(from, at));
        at += is_blank ? 1 : mark.size();
        copied = at;
      }
      to.append_part(from, copied, piece.end);
    });
  }

  std::vector<PreTokenizerStep> steps_;
};

}  // namespace deltatune::detail
