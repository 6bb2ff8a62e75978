// BERT's tokenizer: text to token ids, the same ids as the Hugging Face fast tokenizer gives.
// text -> added tokens | cleaning -> words -> longest pieces of the vocabulary, from the left -> [CLS] ... [SEP]
// Y. Wu et al., Google's Neural Machine Translation System, 2016 (pieces); J. Devlin et al., BERT, 2018.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/bert_normalizer.hpp"
#include "deltatune/text/token_frame.hpp"
#include "deltatune/text/tokenizer_json.hpp"
#include "deltatune/text/vocabulary.hpp"

namespace deltatune {

// After construction nothing changes: any number of threads may encode at once.
class WordPiece {
 public:
  // Takes tokenizer.json of a model folder, else vocab.txt (with tokenizer_config.json where there is one).
  DELTATUNE_FUNCTION static WordPiece load(const std::filesystem::path& model_dir) {
    const std::filesystem::path json = model_dir / "tokenizer.json", vocabulary = model_dir / "vocab.txt";
    if (std::filesystem::exists(json)) return WordPiece(read_tokenizer_json(json));
    if (std::filesystem::exists(vocabulary)) return WordPiece(read_vocab_txt(vocabulary, model_dir / "tokenizer_config.json"));
    throw Error(model_dir.string(), std::filesystem::is_directory(model_dir) ? "no tokenizer in this folder" : "no such folder",
                {.expected = "tokenizer.json or vocab.txt", .remedy = "give the folder of a Hugging Face BERT model"});
  }

  explicit WordPiece(const WordPieceSpec& spec)
      : normalizer_(spec.normalizer), longest_word_(static_cast<std::size_t>(spec.longest_word)), vocabulary_(spec, normalizer_), frame_(spec, vocabulary_) {
    for (const auto& [token, id] : vocabulary_.model_tokens()) {
      if (token.starts_with(spec.continuation_prefix)) continuations_.emplace(token.substr(spec.continuation_prefix.size()), id);
      longest_piece_ = std::max(longest_piece_, token.size());
    }
    const auto unknown = vocabulary_.model_tokens().find(spec.unknown_token);
    if (unknown == vocabulary_.model_tokens().end()) {
      throw Error(spec.name, "the unknown token " + spec.unknown_token + " is not in the vocabulary");
    }
    unknown_ = unknown->second;
  }

  // At most max_length ids, special tokens included: the end of the text is cut off.
  std::vector<std::int32_t> encode(std::string_view text, Index max_length) const { return frame_.single(pieces(text), max_length); }

  // At most max_length ids, special tokens included: the longer text is cut first, then both.
  EncodedPair encode_pair(std::string_view first, std::string_view second, Index max_length) const {
    return frame_.pair(pieces(first), pieces(second), max_length);
  }

  // One more than the largest id: the rows that the embedding must have.
  Index vocab_size() const { return vocabulary_.size(); }

  std::optional<std::int32_t> id_of(std::string_view token) const { return vocabulary_.id_of(token); }
  const std::string& token_of(std::int32_t id) const { return vocabulary_.token_of(id); }

 private:
  // Ids of a text without special tokens around it.
  DELTATUNE_FUNCTION std::vector<std::int32_t> pieces(std::string_view text) const {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size() / 3);
    vocabulary_.split(
        text, normalizer_, [&](std::string_view normalized) { for_each_word(normalized, [&](std::string_view word) { append_word(word, ids); }); },
        [&](std::int32_t id) { ids.push_back(id); });
    return ids;
  }

  // The longest piece that begins the word, then the longest continuation, and so on; one unknown token if that fails anywhere.
  DELTATUNE_FUNCTION void append_word(std::string_view word, std::vector<std::int32_t>& ids_io) const {
    const std::size_t ids_before = ids_io.size();
    const auto unknown = [&] {
      ids_io.resize(ids_before);
      ids_io.push_back(unknown_);
    };
    if (is_too_long(word)) return unknown();
    for (const TokenIds* vocabulary = &vocabulary_.model_tokens(); !word.empty(); vocabulary = &continuations_) {
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

  BertNormalizer normalizer_;
  std::size_t longest_word_;  // in code points
  Vocabulary vocabulary_;
  TokenFrame frame_;
  TokenIds continuations_;         // the tokens that continue a word, without their prefix
  std::size_t longest_piece_ = 0;  // in bytes
  std::int32_t unknown_ = 0;
};

}  // namespace deltatune
