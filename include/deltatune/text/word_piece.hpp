// BERT's tokenizer: text to token ids, the same ids as the Hugging Face fast tokenizer gives.
// text -> added tokens | cleaning -> words -> longest pieces of the vocabulary, from the left -> [CLS] ... [SEP]
// Y. Wu et al., Google's Neural Machine Translation System, 2016 (pieces); J. Devlin et al., BERT, 2018.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/added_tokens.hpp"
#include "deltatune/text/bert_normalizer.hpp"
#include "deltatune/text/tokenizer_json.hpp"

namespace deltatune {

struct EncodedPair {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> token_types;
};

// After construction nothing changes: any number of threads may encode at once.
class WordPiece {
 public:
  // Takes tokenizer.json of a model folder, else vocab.txt (with tokenizer_config.json where there is one).
  static WordPiece load(const std::filesystem::path& model_dir) {
    const std::filesystem::path json = model_dir / "tokenizer.json", vocabulary = model_dir / "vocab.txt";
    if (std::filesystem::exists(json)) return WordPiece(read_tokenizer_json(json));
    if (std::filesystem::exists(vocabulary)) return WordPiece(read_vocab_txt(vocabulary, model_dir / "tokenizer_config.json"));
    throw Error(model_dir.string(), std::filesystem::is_directory(model_dir) ? "no tokenizer in this folder" : "no such folder",
                {.expected = "tokenizer.json or vocab.txt", .remedy = "give the folder of a Hugging Face BERT model"});
  }

  explicit WordPiece(const WordPieceSpec& spec)
      : normalizer_(spec.normalizer), longest_word_(static_cast<std::size_t>(spec.longest_word)), single_(spec.single), pair_(spec.pair) {
    for (const auto& [token, id] : spec.vocabulary) {
      add(token, id, vocabulary_, spec.name);
      if (token.starts_with(spec.continuation_prefix)) continuations_.emplace(token.substr(spec.continuation_prefix.size()), id);
      longest_piece_ = std::max(longest_piece_, token.size());
    }
    const auto unknown = vocabulary_.find(spec.unknown_token);
    if (unknown == vocabulary_.end()) throw Error(spec.name, "the unknown token " + spec.unknown_token + " is not in the vocabulary");
    unknown_ = unknown->second;
    add_tokens(spec);
    check_template(spec);
  }

  // At most max_length ids, special tokens included: the end of the text is cut off.
  std::vector<std::int32_t> encode(std::string_view text, Index max_length) const {
    std::vector<std::int32_t> ids = pieces(text);
    ids.resize(std::min(ids.size(), room(single_, max_length)));
    return framed(single_, ids, {}).ids;
  }

  // At most max_length ids, special tokens included: the longer text is cut first, then both.
  EncodedPair encode_pair(std::string_view first, std::string_view second, Index max_length) const {
    std::vector<std::int32_t> a = pieces(first), b = pieces(second);
    const std::size_t available = room(pair_, max_length);
    if (a.size() + b.size() > available) {
      const bool second_is_longer = a.size() <= b.size();
      std::vector<std::int32_t>& shorter = second_is_longer ? a : b;
      std::vector<std::int32_t>& longer = second_is_longer ? b : a;
      shorter.resize(std::min(shorter.size(), available / 2));
      longer.resize(available - shorter.size());
    }
    return framed(pair_, a, b);
  }

  // One more than the largest id: the rows that the embedding must have.
  Index vocab_size() const { return vocab_size_; }

  std::optional<std::int32_t> id_of(std::string_view token) const {
    for (const Ids* ids : {&vocabulary_, &added_}) {
      if (const auto entry = ids->find(token); entry != ids->end()) return entry->second;
    }
    return std::nullopt;
  }

  const std::string& token_of(std::int32_t id) const {
    const auto entry = tokens_.find(id);
    if (entry == tokens_.end()) {
      throw Error("token id " + std::to_string(id), "not in the vocabulary", {.expected = "0 to " + std::to_string(vocab_size() - 1)});
    }
    return entry->second;
  }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Ids = std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>>;

  void add(const std::string& token, std::int32_t id, Ids& ids_io, const std::string& file) {
    const auto [entry, is_new] = tokens_.emplace(id, token);
    if (!is_new) {
      throw Error(file, "two tokens have one id", {.got = std::to_string(id) + " for \"" + entry->second + "\" and \"" + token + "\""});
    }
    ids_io.emplace(token, id);
    vocab_size_ = std::max(vocab_size_, Index{id} + 1);
  }

  void add_tokens(const WordPieceSpec& spec) {
    std::vector<AddedToken> raw, normalized;
    for (AddedToken token : spec.added_tokens) {
      const std::optional<std::int32_t> known = id_of(token.content);
      if (!known) {
        add(token.content, token.id, added_, spec.name);
      } else if (*known != token.id) {
        throw Error(spec.name + ": added_tokens", "another id than in the vocabulary for \"" + token.content + "\"",
                    {.expected = std::to_string(*known), .got = std::to_string(token.id)});
      }
      if (token.normalized) token.content = normalizer_(token.content);
      (token.normalized ? normalized : raw).push_back(std::move(token));
    }
    raw_tokens_ = AddedTokenFinder(std::move(raw));
    normalized_tokens_ = AddedTokenFinder(std::move(normalized));
  }

  void check_template(const WordPieceSpec& spec) const {
    for (const auto* items : {&single_, &pair_}) {
      for (const TemplateItem& item : *items) {
        for (const std::int32_t id : item.ids) {
          if (!tokens_.contains(id)) throw Error(spec.name + ": post_processor", "id not in the vocabulary", {.got = std::to_string(id)});
        }
      }
    }
  }

  // Ids of a text without special tokens around it.
  std::vector<std::int32_t> pieces(std::string_view text) const {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size() / 3);
    const auto on_token = [&](std::int32_t id) { ids.push_back(id); };
    raw_tokens_.split(
        text,
        [&](std::string_view part) {
          normalized_tokens_.split(
              normalizer_(part),
              [&](std::string_view normalized) { for_each_word(normalized, [&](std::string_view word) { append_word(word, ids); }); },
              on_token);
        },
        on_token);
    return ids;
  }

  // The longest piece that begins the word, then the longest continuation, and so on; one unknown token if that fails anywhere.
  void append_word(std::string_view word, std::vector<std::int32_t>& ids_io) const {
    const std::size_t ids_before = ids_io.size();
    const auto unknown = [&] {
      ids_io.resize(ids_before);
      ids_io.push_back(unknown_);
    };
    if (is_too_long(word)) return unknown();
    for (const Ids* vocabulary = &vocabulary_; !word.empty(); vocabulary = &continuations_) {
      std::size_t length = std::min(word.size(), longest_piece_);
      auto piece = vocabulary->end();
      for (; length > 0; --length) {
        if (length < word.size() && is_utf8_continuation(word[length])) continue;  // not between two characters
        piece = vocabulary->find(word.substr(0, length));
        if (piece != vocabulary->end()) break;
      }
      if (length == 0) return unknown();
      ids_io.push_back(piece->second);
      word.remove_prefix(length);
    }
  }

  bool is_too_long(std::string_view word) const {
    if (word.size() <= longest_word_) return false;
    const auto characters = std::count_if(word.begin(), word.end(), [](char byte) { return !is_utf8_continuation(byte); });
    return static_cast<std::size_t>(characters) > longest_word_;
  }

  // Places that the fixed tokens of a template leave.
  static std::size_t room(const std::vector<TemplateItem>& items, Index max_length) {
    Index fixed = 0;
    for (const TemplateItem& item : items) fixed += static_cast<Index>(item.ids.size());
    if (max_length < fixed) {
      throw Error("max_length", "too short for the special tokens",
                  {.expected = "at least " + std::to_string(fixed), .got = std::to_string(max_length)});
    }
    return static_cast<std::size_t>(max_length - fixed);
  }

  static EncodedPair framed(const std::vector<TemplateItem>& items, const std::vector<std::int32_t>& first,
                            const std::vector<std::int32_t>& second) {
    EncodedPair result;
    for (const TemplateItem& item : items) {
      const auto& ids = item.kind == TemplateItem::Kind::kFirst ? first : item.kind == TemplateItem::Kind::kSecond ? second : item.ids;
      result.ids.insert(result.ids.end(), ids.begin(), ids.end());
      result.token_types.resize(result.ids.size(), item.type);
    }
    return result;
  }

  BertNormalizer normalizer_;
  std::size_t longest_word_;                              // in code points
  std::size_t longest_piece_ = 0;                         // in bytes
  Ids vocabulary_;                                        // the model's own tokens
  Ids continuations_;                                     // those that continue a word, without their prefix
  Ids added_;                                             // tokens that only the text search knows
  std::unordered_map<std::int32_t, std::string> tokens_;  // by id
  std::int32_t unknown_ = 0;
  Index vocab_size_ = 0;
  AddedTokenFinder raw_tokens_, normalized_tokens_;
  std::vector<TemplateItem> single_, pair_;
};

}  // namespace deltatune
