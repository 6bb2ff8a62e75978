// The tokenizer of a model folder, whichever of the two kinds it is: BERT's (WordPiece) or GPT-2's (ByteBpe).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/text/byte_bpe.hpp"
#include "deltatune/text/token_frame.hpp"
#include "deltatune/text/word_piece.hpp"

namespace deltatune {

class Tokenizer {
 public:
  // The kind is that of tokenizer.json, else vocab.json means ByteBpe and vocab.txt WordPiece. Throws Error for a folder without a tokenizer, and for one whose
  // files do not say all of it, or something that is not read here.
  DELTATUNE_FUNCTION static Tokenizer open(const std::filesystem::path& model_dir) {
    const auto exists = [&](const char* name) { return std::filesystem::exists(model_dir / name); };
    if (exists("tokenizer.json")) {
      const JsonConfig model = JsonConfig::open(model_dir / "tokenizer.json").object("model");
      const bool is_bpe = model.has("type") ? model.get<std::string>("type") == "BPE" : model.has("merges");
      if (is_bpe) return Tokenizer(ByteBpe::open(model_dir));
      return Tokenizer(WordPiece::load(model_dir));
    }
    if (exists("vocab.json")) {
      // RoBERTa's files look the same, and put special tokens around a text.
      const std::string type = exists("config.json") ? JsonConfig::open(model_dir / "config.json").get_or<std::string>("model_type", "gpt2") : "gpt2";
      if (type != "gpt2")
        throw Error((model_dir / "vocab.json").string(), "does not say which special tokens a " + type + " model has around a text",
                    {.expected = "tokenizer.json"});
      return Tokenizer(ByteBpe::open(model_dir));
    }
    if (exists("vocab.txt")) return Tokenizer(WordPiece::load(model_dir));
    throw Error(model_dir.string(), std::filesystem::is_directory(model_dir) ? "no tokenizer in this folder" : "no such folder",
                {.expected = "tokenizer.json, or vocab.txt, or vocab.json and merges.txt", .remedy = "give the folder of a Hugging Face BERT or GPT-2 model"});
  }

  explicit Tokenizer(WordPiece tokenizer) : kind_(std::move(tokenizer)) {}
  explicit Tokenizer(ByteBpe tokenizer) : kind_(std::move(tokenizer)) {}

  std::vector<std::int32_t> encode(std::string_view text, Index max_length) const {
    return std::visit([&](const auto& kind) { return kind.encode(text, max_length); }, kind_);
  }

  EncodedPair encode_pair(std::string_view first, std::string_view second, Index max_length) const {
    if (const auto* const word_piece = std::get_if<WordPiece>(&kind_)) return word_piece->encode_pair(first, second, max_length);
    throw Error("tokenizer", "GPT-2 has no pairs of texts", {.remedy = "join the two into one text"});
  }

  std::string decode(std::span<const std::int32_t> ids) const {
    if (const auto* const byte_bpe = std::get_if<ByteBpe>(&kind_)) return byte_bpe->decode(ids);
    throw Error("tokenizer", "BERT's tokens can't be turned back into a text", {.remedy = "use the model folder of a GPT-2"});
  }

  Index vocab_size() const {
    return std::visit([](const auto& kind) { return kind.vocab_size(); }, kind_);
  }

  // To ask for what only one kind has, for example eos_id(); null if it is the other.
  const WordPiece* word_piece() const { return std::get_if<WordPiece>(&kind_); }
  const ByteBpe* byte_bpe() const { return std::get_if<ByteBpe>(&kind_); }

 private:
  std::variant<WordPiece, ByteBpe> kind_;
};

}  // namespace deltatune
