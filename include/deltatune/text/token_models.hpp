// The models of tokenizer.json: a piece of text to token ids. As in the Hugging Face tokenizers library (models/).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/aligned_text.hpp"
#include "deltatune/text/byte_level.hpp"
#include "deltatune/text/prefix_trie.hpp"
#include "deltatune/text/token_table.hpp"
#include "deltatune/text/word_cache.hpp"

namespace deltatune::detail {

// What encoding needs room for; the contents mean nothing between two calls.
struct ModelScratch {
  struct Symbol {
    std::int32_t id;              // -1: gone, merged into the one on its left
    std::int32_t previous, next;  // -1: none
    std::uint32_t bytes;          // of the piece
  };
  struct Merge {
    std::uint32_t rank, at;
    std::int32_t id;                                                                                             // what comes out
    bool operator<(const Merge& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }  // the best one is the largest
  };
  struct Best {
    double score = 0;
    std::int32_t begin = -1, id = 0;  // of the last token on the best way to a place
  };

  std::vector<Symbol> symbols;
  std::vector<Merge> queue;
  std::vector<Best> best;
  std::vector<TextSpan> path;
  std::string text;
  WordCache cache;
};

// Ids, and for those who ask the bytes of the piece that each of them stands for.
struct TokenSink {
  std::vector<std::int32_t>& ids;
  std::vector<TextSpan>* places = nullptr;

  void add(std::int32_t id, std::size_t begin, std::size_t end) const {
    ids.push_back(id);
    if (places != nullptr) places->push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)});
  }
};

// Every model has this: encode(vocabulary, piece, scratch, sink) for a piece that is not empty.

// The ids of a word from the cache, or computed and put there. Places are not cached.
template <class Compute>
void encode_cached(std::string_view word, ModelScratch& scratch, const TokenSink& sink, Compute&& compute) {
  if (sink.places != nullptr || word.size() > WordCache::kLongestWord) return compute();
  const std::uint64_t hash = hash_of(word);
  if (scratch.cache.append(word, hash, sink.ids)) return;
  const std::size_t before = sink.ids.size();
  compute();
  scratch.cache.insert(word, hash, std::span(sink.ids).subspan(before));
}

// One token per piece.
class WordLevelModel {
 public:
  WordLevelModel(const TokenTable& vocabulary, const std::string& unknown, std::string where)
      : unknown_(vocabulary.find(unknown)), where_(std::move(where)), unknown_token_(unknown) {}

  void encode(const TokenTable& vocabulary, std::string_view piece, ModelScratch&, const TokenSink& sink) const {
    std::int32_t id = vocabulary.find(piece);
    if (id == TokenTable::kNone) id = unknown_;
    if (id == TokenTable::kNone) {
      throw Error(where_ + ": unk_token", "is not in the vocabulary, and a text has unknown words", {.got = "\"" + unknown_token_ + "\""});
    }
    sink.add(id, 0, piece.size());
  }

 private:
  std::int32_t unknown_;
  std::string where_, unknown_token_;
};

// The longest token with which a word begins, then the longest continuation, and so on; one unknown token if that fails anywhere.
// Y. Wu et al., Google's Neural Machine Translation System, 2016
class WordPieceModel {
 public:
  DELTATUNE_FUNCTION WordPieceModel(const TokenTable& vocabulary, const std::string& prefix, std::int32_t unknown, std::size_t longest_word)
      : unknown_(unknown), longest_word_(longest_word) {
    std::vector<std::pair<std::string_view, std::int32_t>> words, continuations;
    for (std::size_t i = 0; i < vocabulary.count(); ++i) {
      const std::string_view token = vocabulary.token(i);
      if (!token.empty()) words.emplace_back(token, vocabulary.id(i));
      if (token.size() > prefix.size() && token.starts_with(prefix)) continuations.emplace_back(token.substr(prefix.size()), vocabulary.id(i));
    }
    words_ = PrefixTrie(std::move(words));
    continuations_ = PrefixTrie(std::move(continuations));
  }

  void encode(const TokenTable&, std::string_view word, ModelScratch& scratch, const TokenSink& sink) const {
    encode_cached(word, scratch, sink, [&] { cut(word, sink); });
  }

 private:
  DELTATUNE_FUNCTION void cut(std::string_view word, const TokenSink& sink) const {
    const std::size_t ids_before = sink.ids.size(), places_before = sink.places == nullptr ? 0 : sink.places->size();
    const auto unknown = [&] {
      sink.ids.resize(ids_before);
      if (sink.places != nullptr) sink.places->resize(places_before);
      sink.add(unknown_, 0, word.size());
    };
    if (is_too_long(word)) return unknown();
    const PrefixTrie* trie = &words_;
    for (std::size_t at = 0; at < word.size();) {
      std::size_t length = 0;
      std::int32_t id = 0;
      trie->for_each_prefix(word, at, [&](std::size_t prefix, std::int32_t value) {
        if (at + prefix < word.size() && is_utf8_continuation(word[at + prefix])) return;  // between two characters only
        length = prefix;
        id = value;
      });
      if (length == 0) return unknown();
      sink.add(id, at, at + length);
      at += length;
      trie = &continuations_;
    }
  }

  bool is_too_long(std::string_view word) const {
    if (word.size() <= longest_word_) return false;
    const auto characters = std::count_if(word.begin(), word.end(), [](char byte) { return !is_utf8_continuation(byte); });
    return static_cast<std::size_t>(characters) > longest_word_;
  }

  PrefixTrie words_, continuations_;  // the latter without their prefix
  std::int32_t unknown_;
  std::size_t longest_word_;  // in code points
};

// The most probable way to cut a piece into tokens.
// T. Kudo, Subword Regularization, 2018
class UnigramModel {
 public:
  // scores: one per token, by id. unknown: TokenTable::kNone without one.
  DELTATUNE_FUNCTION UnigramModel(const TokenTable& vocabulary, std::vector<double> scores, std::int32_t unknown, bool byte_fallback, std::string where)
      : scores_(std::move(scores)), unknown_(unknown), where_(std::move(where)) {
    std::vector<std::pair<std::string_view, std::int32_t>> keys;
    keys.reserve(vocabulary.count());
    for (std::size_t i = 0; i < vocabulary.count(); ++i)
      if (!vocabulary.token(i).empty()) keys.emplace_back(vocabulary.token(i), vocabulary.id(i));
    trie_ = PrefixTrie(std::move(keys));
    double lowest = std::numeric_limits<double>::infinity();
    for (const double score : scores_) lowest = std::min(lowest, score);
    constexpr double kPenalty = 10;
    unknown_score_ = lowest - kPenalty;
    bytes_.fill(TokenTable::kNone);
    if (!byte_fallback) return;
    for (std::size_t byte = 0; byte < bytes_.size(); ++byte) bytes_[byte] = vocabulary.find(byte_token(byte));
  }

  // "<0x0A>"
  static std::string byte_token(std::size_t byte) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    return {'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'};
  }

  void encode(const TokenTable& vocabulary, std::string_view piece, ModelScratch& scratch, const TokenSink& sink) const {
    encode_cached(piece, scratch, sink, [&] { find_best(vocabulary, piece, scratch, sink); });
  }

 private:
  DELTATUNE_FUNCTION void find_best(const TokenTable& vocabulary, std::string_view piece, ModelScratch& scratch, const TokenSink& sink) const {
    auto& best = scratch.best;
    best.assign(piece.size() + 1, {});
    const auto offer = [&best](std::size_t begin, std::size_t end, double score, std::int32_t id) {
      ModelScratch::Best& target = best[end];
      if (target.begin >= 0 && score <= target.score) return;
      target = {score, static_cast<std::int32_t>(begin), id};
    };
    for (std::size_t at = 0; at < piece.size();) {
      const std::size_t bytes = decode_utf8(piece, at).bytes;
      const double score = best[at].score;
      bool is_token = false;  // the character alone
      trie_.for_each_prefix(piece, at, [&](std::size_t length, std::int32_t id) {
        offer(at, at + length, scores_[static_cast<std::size_t>(id)] + score, id);
        is_token = is_token || length == bytes;
      });
      if (!is_token) {
        if (unknown_ == TokenTable::kNone) throw Error(where_ + ": unk_id", "is missing, and a text has unknown characters");
        offer(at, at + bytes, unknown_score_ + score, unknown_);
      }
      at += bytes;
    }
    // The way back; unknown ones in a row are one.
    auto& path = scratch.path;
    path.clear();
    bool last_is_unknown = false;
    for (std::size_t end = piece.size(); end > 0;) {
      const ModelScratch::Best& node = best[end];
      const std::uint32_t begin = static_cast<std::uint32_t>(node.begin);
      const bool is_unknown = node.id == unknown_;
      if (is_unknown && last_is_unknown) {
        path.back().begin = begin;
      } else {
        path.push_back({begin, static_cast<std::uint32_t>(end)});
      }
      last_is_unknown = is_unknown;
      end = begin;
    }
    for (std::size_t i = path.size(); i-- > 0;) {
      const auto [begin, end] = path[i];
      const ModelScratch::Best& node = best[end];
      if (node.id != unknown_) {
        sink.add(node.id, begin, end);
      } else {
        append_unknown(vocabulary, piece, begin, end, sink);
      }
    }
  }

  DELTATUNE_FUNCTION void append_unknown(const TokenTable& vocabulary, std::string_view piece, std::size_t begin, std::size_t end,
                                         const TokenSink& sink) const {
    const std::string_view run = piece.substr(begin, end - begin);
    if (const std::int32_t id = vocabulary.find(run); id != TokenTable::kNone) return sink.add(id, begin, end);
    const bool has_bytes = std::all_of(run.begin(), run.end(), [this](char byte) { return bytes_[static_cast<unsigned char>(byte)] != TokenTable::kNone; });
    if (!has_bytes) return sink.add(unknown_, begin, end);
    for (const char byte : run) sink.add(bytes_[static_cast<unsigned char>(byte)], begin, end);
  }

  PrefixTrie trie_;
  std::vector<double> scores_;
  double unknown_score_ = 0;
  std::int32_t unknown_;
  std::array<std::int32_t, 256> bytes_{};  // of byte fallback, or kNone
  std::string where_;
};

// Pairs of neighbours merged, the best merge first.
// R. Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, 2016
class BpeModel {
 public:
  struct Options {
    std::string unknown;  // empty: characters without a token vanish
    std::string continuing_prefix, word_suffix;
    bool byte_fallback = false, fuse_unknown = false, ignore_merges = false;
    bool takes_bytes = false;  // pieces are bytes and not the characters that stand for them in the vocabulary
    std::string where;         // of the model, for messages
  };

  DELTATUNE_FUNCTION BpeModel(const TokenTable& vocabulary, Options options) : options_(std::move(options)) {
    if (!options_.unknown.empty()) unknown_ = vocabulary.find(options_.unknown);
    bytes_.fill(TokenTable::kNone);
    for (std::size_t byte = 0; byte < bytes_.size(); ++byte) {
      std::string token;
      if (options_.takes_bytes) {
        append_utf8(kByteCharacters[byte], token);
      } else if (options_.byte_fallback) {
        token = UnigramModel::byte_token(byte);
      }
      if (!token.empty()) bytes_[byte] = vocabulary.find(token);
    }
    for (std::size_t c = 0; c < ascii_.size(); ++c) {
      const char character = static_cast<char>(c);
      ascii_[c] = vocabulary.find({&character, 1});
    }
    if (options_.takes_bytes && options_.ignore_merges) {
      for (std::size_t i = 0; i < vocabulary.count(); ++i) {
        std::string bytes;
        if (append_bytes(vocabulary.token(i), bytes)) words_.add(bytes, vocabulary.id(i));
      }
    }
    has_affixes_ = !options_.continuing_prefix.empty() || !options_.word_suffix.empty();
    // Where characters can vanish, what is left and right of them may merge.
    cuts_at_mark_ = !options_.takes_bytes && !has_affixes_ && !options_.ignore_merges && keeps_all() && vocabulary.find(kMark) != TokenTable::kNone;
  }

  // What a text may lose, in a sentence; empty where it loses nothing.
  DELTATUNE_FUNCTION std::string note() const {
    if (keeps_all()) return "";
    const std::string what = options_.takes_bytes ? std::to_string(std::count_if(bytes_.begin(), bytes_.end(), is_none)) + " of the 256 bytes"
                                                  : std::string("characters outside the vocabulary");
    return options_.where + ": no token for " + what + ", and no unknown token: they are left out of a text";
  }

  void reserve_merges(std::size_t count) { merges_.assign(power_of_two_above(count * 2 + 1), {}); }

  // Merges in the order of their ranks. A pair that comes again gets the later rank. Throws Error for one without its tokens.
  DELTATUNE_FUNCTION void add_merge(const TokenTable& vocabulary, std::string_view left, std::string_view right, std::uint32_t rank) {
    const auto id = [&](std::string_view token) {
      const std::int32_t found = vocabulary.find(token);
      if (found != TokenTable::kNone) return found;
      throw Error(options_.where + ": merges[" + std::to_string(rank) + "]", "\"" + std::string(token) + "\" is not in the vocabulary",
                  {.remedy = "needed by merge " + std::to_string(rank + 1) + ", \"" + std::string(left) + " " + std::string(right) + "\""});
    };
    const std::int32_t left_id = id(left), right_id = id(right);
    if (right.size() < options_.continuing_prefix.size()) {
      throw Error(options_.where + ": merges[" + std::to_string(rank) + "]", "has a right part without the prefix of continuations",
                  {.expected = options_.continuing_prefix + "...", .got = "\"" + std::string(right) + "\""});
    }
    const std::int32_t merged = id(std::string(left) + std::string(right.substr(options_.continuing_prefix.size())));
    MergeSlot& slot = *slot_of(key(left_id, right_id));
    slot = {key(left_id, right_id), rank, merged};
    if (right.starts_with(kMark) && !left.ends_with(kMark)) cuts_at_mark_ = false;
  }

  void encode(const TokenTable& vocabulary, std::string_view piece, ModelScratch& scratch, const TokenSink& sink) const {
    if (!cuts_at_mark_) return encode_word(vocabulary, piece, 0, scratch, sink);
    // No merge goes across the beginning of a word, so words come out one by one as they would together.
    for (std::size_t begin = 0; begin < piece.size();) {
      std::size_t end = begin;
      while (end < piece.size() && piece.compare(end, kMark.size(), kMark) == 0) end += kMark.size();
      end = std::min(piece.find(kMark, end), piece.size());
      encode_word(vocabulary, piece.substr(begin, end - begin), begin, scratch, sink);
      begin = end;
    }
  }

 private:
  using Symbol = ModelScratch::Symbol;
  using Merge = ModelScratch::Merge;
  struct MergeSlot {
    std::uint64_t pair = kNoPair;
    std::uint32_t rank = 0;
    std::int32_t id = 0;
  };
  static constexpr std::uint64_t kNoPair = std::numeric_limits<std::uint64_t>::max();
  static constexpr std::string_view kMark = "\u2581";

  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32U) | static_cast<std::uint32_t>(right);
  }

  MergeSlot* slot_of(std::uint64_t pair) {
    const std::size_t mask = merges_.size() - 1;
    std::size_t at = static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15U) >> 32U) & mask;
    while (merges_[at].pair != pair && merges_[at].pair != kNoPair) at = (at + 1) & mask;
    return &merges_[at];
  }

  // Null where two tokens don't merge.
  const MergeSlot* merge_of(std::int32_t left, std::int32_t right) const {
    const MergeSlot* const slot = const_cast<BpeModel*>(this)->slot_of(key(left, right));
    return slot->pair == kNoPair ? nullptr : slot;
  }

  // `at`: where the word begins in its piece.
  void encode_word(const TokenTable& vocabulary, std::string_view word, std::size_t at, ModelScratch& scratch, const TokenSink& sink) const {
    encode_cached(word, scratch, sink, [&] { merge_word(vocabulary, word, at, scratch, sink); });
  }

  DELTATUNE_FUNCTION void merge_word(const TokenTable& vocabulary, std::string_view word, std::size_t at, ModelScratch& scratch, const TokenSink& sink) const {
    if (options_.ignore_merges) {
      if (const std::int32_t id = (options_.takes_bytes ? words_ : vocabulary).find(word); id != TokenTable::kNone) return sink.add(id, at, at + word.size());
    }
    fill_symbols(vocabulary, word, scratch);
    auto& symbols = scratch.symbols;
    if (symbols.empty()) return;
    constexpr std::size_t kFew = 24;
    if (symbols.size() <= kFew) {
      merge_few(symbols);
    } else {
      merge_many(symbols, scratch.queue);
    }
    std::size_t begin = at;
    for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
      const Symbol& symbol = symbols[static_cast<std::size_t>(i)];
      sink.add(symbol.id, begin, begin + symbol.bytes);
      begin += symbol.bytes;
    }
  }

  static void push(std::int32_t id, std::size_t bytes, std::vector<Symbol>& symbols_io) {
    const std::int32_t place = static_cast<std::int32_t>(symbols_io.size());
    if (place > 0) symbols_io.back().next = place;
    symbols_io.push_back({id, place - 1, -1, static_cast<std::uint32_t>(bytes)});
  }

  static bool is_none(std::int32_t id) { return id == TokenTable::kNone; }
  bool keeps_all() const { return !options_.unknown.empty() || std::none_of(bytes_.begin(), bytes_.end(), is_none); }

  // The token of a character, with the affixes that its place asks for.
  DELTATUNE_FUNCTION std::int32_t character_id(const TokenTable& vocabulary, std::string_view word, std::size_t begin, std::size_t end,
                                               std::string& text) const {
    const unsigned char lead = static_cast<unsigned char>(word[begin]);
    if (!has_affixes_) return lead < 0x80 ? ascii_[lead] : vocabulary.find(word.substr(begin, end - begin));
    affixed(word, begin, end, text);
    return vocabulary.find(text);
  }

  void affixed(std::string_view word, std::size_t begin, std::size_t end, std::string& text) const {
    text.assign(begin > 0 ? options_.continuing_prefix : std::string());
    text += word.substr(begin, end - begin);
    if (end == word.size()) text += options_.word_suffix;
  }

  DELTATUNE_FUNCTION void fill_symbols(const TokenTable& vocabulary, std::string_view word, ModelScratch& scratch) const {
    auto& symbols = scratch.symbols;
    symbols.clear();
    std::size_t unknown_bytes = 0;  // of an unknown token that waits: an ordinary one lets it go first
    const auto finish_unknown = [&] {
      if (unknown_bytes > 0) push(unknown_, unknown_bytes, symbols);
      unknown_bytes = 0;
    };
    const auto add_unknown = [&](std::size_t bytes) {
      if (options_.unknown.empty()) return;
      if (unknown_ == TokenTable::kNone) {
        throw Error(options_.where + ": unk_token", "is not in the vocabulary, and a text has unknown characters", {.got = "\"" + options_.unknown + "\""});
      }
      if (!options_.fuse_unknown) finish_unknown();
      unknown_bytes += bytes;
    };
    if (options_.takes_bytes) {
      // A byte's visible character takes two bytes where the byte is none of its own, but its place is that of the byte.
      for (const char byte : word) {
        const std::int32_t id = bytes_[static_cast<unsigned char>(byte)];
        if (id == TokenTable::kNone) {
          add_unknown(1);
        } else {
          finish_unknown();
          push(id, 1, symbols);
        }
      }
      return finish_unknown();
    }
    for (std::size_t begin = 0; begin < word.size();) {
      const std::size_t end = begin + decode_utf8(word, begin).bytes;
      const std::int32_t id = character_id(vocabulary, word, begin, end, scratch.text);
      if (id != TokenTable::kNone) {
        finish_unknown();
        push(id, end - begin, symbols);
      } else if (!append_bytes_of(word, begin, end, scratch.text, symbols)) {
        add_unknown(end - begin);
      }
      begin = end;
    }
    finish_unknown();
  }

  // False where a byte has no token.
  DELTATUNE_FUNCTION bool append_bytes_of(std::string_view word, std::size_t begin, std::size_t end, std::string& text, std::vector<Symbol>& symbols_io) const {
    if (!options_.byte_fallback) return false;
    affixed(word, begin, end, text);
    const auto id = [this](char byte) { return bytes_[static_cast<unsigned char>(byte)]; };
    if (std::any_of(text.begin(), text.end(), [&](char byte) { return id(byte) == TokenTable::kNone; })) return false;
    for (const char byte : text) push(id(byte), 1, symbols_io);
    return true;
  }

  // Looks at all pairs for each merge.
  void merge_few(std::vector<Symbol>& symbols_io) const {
    std::array<const MergeSlot*, 24> merges{};  // of each symbol with its right neighbour
    const auto find = [&](std::int32_t at) {
      const Symbol& symbol = symbols_io[static_cast<std::size_t>(at)];
      merges[static_cast<std::size_t>(at)] = symbol.next < 0 ? nullptr : merge_of(symbol.id, symbols_io[static_cast<std::size_t>(symbol.next)].id);
    };
    for (std::size_t i = 0; i < symbols_io.size(); ++i) find(static_cast<std::int32_t>(i));
    while (true) {
      std::int32_t best = -1;
      std::uint32_t rank = std::numeric_limits<std::uint32_t>::max();
      for (std::int32_t i = 0; i >= 0; i = symbols_io[static_cast<std::size_t>(i)].next) {
        const MergeSlot* const merge = merges[static_cast<std::size_t>(i)];
        if (merge == nullptr || merge->rank >= rank) continue;
        best = i;
        rank = merge->rank;
      }
      if (best < 0) return;
      merge_at(best, merges[static_cast<std::size_t>(best)]->id, symbols_io);
      find(best);
      if (const std::int32_t previous = symbols_io[static_cast<std::size_t>(best)].previous; previous >= 0) find(previous);
    }
  }

  static void merge_at(std::int32_t at, std::int32_t id, std::vector<Symbol>& symbols_io) {
    Symbol& left = symbols_io[static_cast<std::size_t>(at)];
    Symbol& right = symbols_io[static_cast<std::size_t>(left.next)];
    left.id = id;
    left.bytes += right.bytes;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols_io[static_cast<std::size_t>(left.next)].previous = at;
  }

  DELTATUNE_FUNCTION void merge_many(std::vector<Symbol>& symbols_io, std::vector<Merge>& queue) const {
    queue.clear();
    const auto merge_right_of = [&](std::size_t at) -> const MergeSlot* {
      const Symbol& symbol = symbols_io[at];
      return symbol.id < 0 || symbol.next < 0 ? nullptr : merge_of(symbol.id, symbols_io[static_cast<std::size_t>(symbol.next)].id);
    };
    for (std::size_t at = 0; at < symbols_io.size(); ++at)
      if (const MergeSlot* const merge = merge_right_of(at)) queue.push_back({merge->rank, static_cast<std::uint32_t>(at), merge->id});
    std::make_heap(queue.begin(), queue.end());
    const auto consider = [&](std::size_t at) {
      if (const MergeSlot* const merge = merge_right_of(at)) {
        queue.push_back({merge->rank, static_cast<std::uint32_t>(at), merge->id});
        std::push_heap(queue.begin(), queue.end());
      }
    };
    while (!queue.empty()) {
      std::pop_heap(queue.begin(), queue.end());
      const Merge best = queue.back();
      queue.pop_back();
      const MergeSlot* const merge = merge_right_of(best.at);  // the pair may be another one by now
      if (merge == nullptr || merge->id != best.id) continue;
      merge_at(static_cast<std::int32_t>(best.at), best.id, symbols_io);
      if (const std::int32_t previous = symbols_io[best.at].previous; previous >= 0) consider(static_cast<std::size_t>(previous));
      consider(best.at);
    }
  }

  Options options_;
  std::int32_t unknown_ = TokenTable::kNone;
  bool has_affixes_ = false;
  bool cuts_at_mark_ = false;              // no merge goes from a word into the next one's mark
  std::array<std::int32_t, 256> bytes_{};  // of takes_bytes or byte_fallback
  std::array<std::int32_t, 128> ascii_{};
  TokenTable words_;               // by their bytes, for ignore_merges with takes_bytes
  std::vector<MergeSlot> merges_;  // open addressing; a power of two
};

}  // namespace deltatune::detail
