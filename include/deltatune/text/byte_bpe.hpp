// GPT-2's tokenizer: text to token ids, the same ids as the Hugging Face fast tokenizer gives, and back.
// text -> added tokens | words -> bytes -> pairs of neighbours merged, the best merge of the vocabulary first
// R. Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, 2016 (merges); A. Radford et al., GPT-2, 2019 (bytes).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/byte_bpe_files.hpp"
#include "deltatune/text/byte_level.hpp"
#include "deltatune/text/token_frame.hpp"
#include "deltatune/text/vocabulary.hpp"

namespace deltatune {

// After construction nothing changes: any number of threads may encode at once.
class ByteBpe {
 public:
  // Takes a tokenizer.json, or that of a model folder, else the folder's vocab.json and merges.txt.
  DELTATUNE_FUNCTION static ByteBpe open(const std::filesystem::path& path) {
    if (std::filesystem::is_regular_file(path)) return ByteBpe(read_byte_bpe_json(path));
    if (std::filesystem::exists(path / "tokenizer.json")) return ByteBpe(read_byte_bpe_json(path / "tokenizer.json"));
    if (std::filesystem::exists(path / "vocab.json")) return ByteBpe(read_vocab_and_merges(path));
    throw Error(path.string(), std::filesystem::is_directory(path) ? "no tokenizer in this folder" : "no such file or folder",
                {.expected = "tokenizer.json, or vocab.json and merges.txt", .remedy = "give the folder of a Hugging Face GPT-2 model"});
  }

  explicit ByteBpe(const ByteBpeSpec& spec)
      : add_prefix_space_(spec.add_prefix_space), use_regex_(spec.use_regex), vocabulary_(spec, as_it_is), frame_(spec, vocabulary_) {
    const TokenIds& tokens = vocabulary_.model_tokens();
    for (std::size_t byte = 0; byte < bytes_.size(); ++byte) {
      std::string token;
      append_utf8(kByteCharacters[byte], token);
      const auto entry = tokens.find(token);
      if (entry == tokens.end()) {
        throw Error(spec.name, "the byte " + std::to_string(byte) + " has no token", {.expected = "\"" + token + "\" in the vocabulary"});
      }
      bytes_[byte] = entry->second;
    }
    for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
      const auto& [left, right] = spec.merges[rank];
      const auto id = [&, merge = left + " " + right](const std::string& token) {
        const auto entry = tokens.find(token);
        if (entry != tokens.end()) return entry->second;
        throw Error(spec.name, "\"" + token + "\" is not in the vocabulary", {.remedy = "needed by merge " + std::to_string(rank + 1) + ", \"" + merge + "\""});
      };
      const std::int32_t left_id = id(left), right_id = id(right);
      merges_.insert_or_assign(key(left_id, right_id), Merge{rank, id(left + right)});
    }
    if (!spec.eos_token.empty()) eos_ = id_of(spec.eos_token);
    if (!spec.pad_token.empty()) pad_ = id_of(spec.pad_token);
  }

  // At most max_length ids (0: any number), special tokens included: the end of the text is cut off. Bytes that are not UTF-8 count as
  // U+FFFD.
  std::vector<std::int32_t> encode(std::string_view text, Index max_length = 0) const {
    return frame_.single(pieces(text), max_length == 0 ? std::numeric_limits<Index>::max() : max_length);
  }

  // The bytes of the tokens, special ones included. A token may end within a character: the text of some ids need not be UTF-8.
  DELTATUNE_FUNCTION std::string decode(std::span<const std::int32_t> ids) const {
    std::string text;
    for (const std::int32_t id : ids) {
      const std::string& token = token_of(id);
      if (vocabulary_.model_tokens().contains(token)) {
        append_bytes(token, text);
      } else {
        text += token;
      }
    }
    return text;
  }

  // One more than the largest id: the rows that the embedding must have.
  Index vocab_size() const { return vocabulary_.size(); }

  std::optional<std::int32_t> id_of(std::string_view token) const { return vocabulary_.id_of(token); }
  const std::string& token_of(std::int32_t id) const { return vocabulary_.token_of(id); }

  // Where the files name such a token.
  std::optional<std::int32_t> eos_id() const { return eos_; }
  std::optional<std::int32_t> pad_id() const { return pad_; }

 private:
  struct Merge {
    std::size_t rank;
    std::int32_t id;  // of what comes out
  };

  // A part of a word, in a list of neighbours.
  struct Part {
    std::int32_t id;  // -1: gone, merged into the one on its left
    std::size_t previous, next;
  };

  // A merge that may be done at a part, with its neighbour on the right.
  struct Candidate {
    Merge merge;
    std::size_t at;
    // Whether it comes after the other: the best rank first, then from the left.
    bool operator<(const Candidate& other) const { return std::pair(merge.rank, at) > std::pair(other.merge.rank, other.at); }
  };

  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

  static std::string as_it_is(std::string_view text) { return std::string(text); }

  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32U) | static_cast<std::uint32_t>(right);
  }

  // Ids of a text without special tokens around it.
  DELTATUNE_FUNCTION std::vector<std::int32_t> pieces(std::string_view text) const {
    std::string valid(text);
    replace_invalid_utf8(valid);
    std::vector<std::int32_t> ids;
    ids.reserve(valid.size() / 3);
    WordMerger merger(*this);
    const auto on_word = [&](std::string_view word) { merger.append(word, ids); };
    const auto on_text = [&](std::string_view part) {
      const std::string prefixed = (add_prefix_space_ && !part.starts_with(' ') ? " " : "") + std::string(part);
      if (use_regex_) {
        for_each_byte_level_word(prefixed, on_word);
      } else {
        on_word(prefixed);
      }
    };
    vocabulary_.split(valid, as_it_is, on_text, [&](std::int32_t id) { ids.push_back(id); });
    return ids;
  }

  // Words one after another, in the same memory.
  class WordMerger {
   public:
    explicit WordMerger(const ByteBpe& tokenizer) : tokenizer_(tokenizer) {}

    void append(std::string_view word, std::vector<std::int32_t>& ids_io) {
      parts_.clear();
      for (std::size_t i = 0; i < word.size(); ++i) {
        const std::size_t next = i + 1 < word.size() ? i + 1 : kNone;
        parts_.push_back({tokenizer_.bytes_[static_cast<unsigned char>(word[i])], i - 1, next});  // before the first one is kNone, too
      }
      candidates_.clear();
      for (std::size_t i = 0; i < parts_.size(); ++i) consider(i);
      while (!candidates_.empty()) {
        std::pop_heap(candidates_.begin(), candidates_.end());
        const Candidate best = candidates_.back();
        candidates_.pop_back();
        const Merge* const merge = merge_at(best.at);  // what is there may have changed since
        if (merge == nullptr || merge->id != best.merge.id) continue;
        Part& part = parts_[best.at];
        Part& right = parts_[part.next];
        part.id = best.merge.id;
        part.next = right.next;
        right.id = -1;
        if (part.next != kNone) parts_[part.next].previous = best.at;
        if (part.previous != kNone) consider(part.previous);
        consider(best.at);
      }
      for (const Part& part : parts_)
        if (part.id >= 0) ids_io.push_back(part.id);
    }

   private:
    const Merge* merge_at(std::size_t at) const {
      const Part& part = parts_[at];
      if (part.id < 0 || part.next == kNone) return nullptr;
      const auto merge = tokenizer_.merges_.find(key(part.id, parts_[part.next].id));
      return merge == tokenizer_.merges_.end() ? nullptr : &merge->second;
    }

    void consider(std::size_t at) {
      const Merge* const merge = merge_at(at);
      if (merge == nullptr) return;
      candidates_.push_back({*merge, at});
      std::push_heap(candidates_.begin(), candidates_.end());
    }

    const ByteBpe& tokenizer_;
    std::vector<Part> parts_;
    std::vector<Candidate> candidates_;  // a heap, the best in front
  };

  bool add_prefix_space_, use_regex_;
  Vocabulary vocabulary_;
  TokenFrame frame_;
  std::array<std::int32_t, 256> bytes_{};
  std::unordered_map<std::uint64_t, Merge> merges_;  // by the ids of left and right
  std::optional<std::int32_t> eos_, pad_;
};

}  // namespace deltatune
