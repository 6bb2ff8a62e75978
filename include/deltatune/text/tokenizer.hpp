// Text to token ids and back, the same ids as the Hugging Face tokenizers library gives: everything that a tokenizer.json may hold, or the older files of the
// families whose tokenizers are known (tokenizer_files.hpp).
//
// text -> added tokens | normalizers -> pre-tokenizers -> model -> special tokens around -> ids
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/shape.hpp"
#include "deltatune/text/encoding.hpp"
#include "deltatune/text/regex_search.hpp"

namespace deltatune {

namespace detail {
class TokenizerState;
struct PostProcessor;
}  // namespace detail

// After construction nothing changes: any number of threads may encode at once. Copies share what was read.
class Tokenizer {
 public:
  // Takes a tokenizer.json, or the folder of a model: its tokenizer.json, else the files of an older kind. Throws Error for a folder without a tokenizer, and
  // for files that are damaged or ask for something that is not known. Without `regex`, only the regular expressions of well-known tokenizers can be read
  // (split_expression.hpp); tokenizers.hpp brings Oniguruma for all others.
  static Tokenizer open(const std::filesystem::path& path, const RegexCompiler& regex = nullptr);

  // The text of a tokenizer.json; `name` stands for it in messages.
  static Tokenizer parse(std::string_view json, const std::string& name, const RegexCompiler& regex = nullptr);

  // The ids of a text, special tokens included. More than max_length (0: any number) are cut off at the end. Bytes that are not UTF-8 count as U+FFFD. Throws
  // Error for a max_length that has no room for the special tokens.
  std::vector<std::int32_t> encode(std::string_view text, Index max_length = 0) const;
  std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options) const;

  // The ids of two texts. Of more than max_length the longer text is cut first, then both.
  EncodedPair encode_pair(std::string_view first, std::string_view second, Index max_length = 0) const;
  EncodedPair encode_pair(std::string_view first, std::string_view second, const EncodeOptions& options) const;

  // The same with the place of each token in its text. Takes a multiple of the time.
  Encoding encode_with_offsets(std::string_view text, const EncodeOptions& options = {}) const;
  Encoding encode_with_offsets(std::string_view first, std::string_view second, const EncodeOptions& options = {}) const;

  // Many texts or pairs by several threads (0: one per processor). The ids are those of encode() for any number of threads.
  EncodedBatch encode_batch(std::span<const std::string_view> texts, const EncodeOptions& options = {}, unsigned threads = 0) const;
  EncodedBatch encode_batch(std::span<const std::pair<std::string_view, std::string_view>> pairs, const EncodeOptions& options = {},
                            unsigned threads = 0) const;

  // The text of some ids. Bytes that are not UTF-8, such as those of half a character, come out as U+FFFD. Throws Error for an id that no token has.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = false) const;

  // One more than the largest id: the rows that the embedding must have.
  Index vocab_size() const;

  std::optional<std::int32_t> id_of(std::string_view token) const;
  // Throws Error for an id that no token has.
  std::string token_of(std::int32_t id) const;

  // The tokens that begin, end and pad a text, where the files name them.
  std::optional<std::int32_t> bos_id() const;
  std::optional<std::int32_t> eos_id() const;
  std::optional<std::int32_t> pad_id() const;

  // Whether the tokenizer puts two texts together.
  bool has_pairs() const;

  // The same tokenizer with these tokens before and behind a text, or before and behind two, instead of those that its files say. What it has read is shared.
  // Throws Error for an id that no token has.
  Tokenizer with_tokens_around(const std::vector<std::int32_t>& before, const std::vector<std::int32_t>& behind) const;

  // What a user should know of it, a sentence each: which characters of a text it leaves out, as the Python library does.
  std::vector<std::string> notes() const;

 private:
  explicit Tokenizer(std::shared_ptr<const detail::TokenizerState> state) : state_(std::move(state)) {}
  const detail::PostProcessor& around() const;

  std::shared_ptr<const detail::TokenizerState> state_;
  std::shared_ptr<const detail::PostProcessor> around_ = {};  // null: as its files say
};

}  // namespace deltatune

#ifndef DELTATUNE_COMPILED
#include "deltatune/text/tokenizer_body.hpp"
#endif
