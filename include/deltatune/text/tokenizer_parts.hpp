// Everything that a tokenizer is made of, whichever files it comes from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/text/added_tokens.hpp"
#include "deltatune/text/decoders.hpp"
#include "deltatune/text/normalizers.hpp"
#include "deltatune/text/post_processor.hpp"
#include "deltatune/text/pre_tokenizers.hpp"
#include "deltatune/text/token_models.hpp"
#include "deltatune/text/token_table.hpp"

namespace deltatune::detail {

using TokenModel = std::variant<WordLevelModel, WordPieceModel, UnigramModel, BpeModel>;

struct TokenizerParts {
  std::string name;                      // of the file, for messages
  TokenTable vocabulary;                 // the model's own tokens
  std::vector<AddedToken> added_tokens;  // may be among the model's own
  std::unordered_map<std::string, std::int32_t> added_ids;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::optional<TokenModel> model;
  std::string unknown_of_model;  // the token that WordPiece and WordLevel give for an unknown word, empty for the others
  PostProcessor post_processor;
  Decoder decoder;
  std::string bos_token, eos_token, pad_token;  // empty: none
};

DELTATUNE_FUNCTION std::int32_t token_id(std::int64_t value, const std::string& where) {
  if (value < 0 || value > std::numeric_limits<std::int32_t>::max()) {
    throw Error(where, "not a token id", {.expected = "0 to 2147483647", .got = std::to_string(value)});
  }
  return static_cast<std::int32_t>(value);
}

// The id of a token, the model's own or an added one, or kNone.
DELTATUNE_FUNCTION std::int32_t find_token(const TokenizerParts& parts, std::string_view token) {
  if (const std::int32_t id = parts.vocabulary.find(token); id != TokenTable::kNone) return id;
  const auto added = parts.added_ids.find(std::string(token));
  return added == parts.added_ids.end() ? TokenTable::kNone : added->second;
}

// A byte-level pre-tokenizer in front of a model of bytes leaves the bytes as they are: nothing becomes visible characters on the way.
DELTATUNE_FUNCTION bool keeps_bytes(PreTokenizer& pre_tokenizer_io) {
  if (pre_tokenizer_io.steps().empty()) return false;
  auto* const last = std::get_if<ByteLevelSplit>(&pre_tokenizer_io.steps().back());
  if (last != nullptr) last->keeps_bytes = true;
  return last != nullptr;
}

// Throws Error, which names `where`, for a token that is known by another id.
DELTATUNE_FUNCTION void require_id(std::int32_t known, const AddedToken& token, const std::string& where) {
  if (known != TokenTable::kNone && known != token.id)
    throw Error(where, "another id than in the vocabulary for \"" + token.content + "\"", {.expected = std::to_string(known), .got = std::to_string(token.id)});
}

// Adds a token, in place of one with the same content. A token of the model keeps its id. where: for messages.
DELTATUNE_FUNCTION void add_token(AddedToken token, const std::string& where, TokenizerParts& parts_io) {
  require_id(parts_io.vocabulary.find(token.content), token, where);
  if (!parts_io.added_ids.insert_or_assign(token.content, token.id).second)
    std::erase_if(parts_io.added_tokens, [&](const AddedToken& other) { return other.content == token.content; });
  parts_io.added_tokens.push_back(std::move(token));
}

// A token as the settings name it, a string or an object with settings; empty where they don't.
DELTATUNE_FUNCTION std::string token_content(const JsonConfig& config, const std::string& key) {
  if (!config.has(key)) return "";
  return config.raw().at(key).is_object() ? config.object(key).get<std::string>("content") : config.get<std::string>(key);
}

DELTATUNE_FUNCTION AddedToken read_added_token(const JsonConfig& entry, std::int64_t id) {
  AddedToken token;
  token.content = entry.get<std::string>("content");
  token.id = token_id(id, entry.name() + ": id");
  token.single_word = entry.get_or("single_word", false);
  token.lstrip = entry.get_or("lstrip", false);
  token.rstrip = entry.get_or("rstrip", false);
  token.special = entry.get_or("special", false);
  token.normalized = entry.get_or("normalized", !token.special);
  return token;
}

// The files of a folder that say which tokens are special, as far as there are such.
DELTATUNE_FUNCTION std::vector<JsonConfig> special_token_files(const std::filesystem::path& folder) {
  std::vector<JsonConfig> files;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"})
    if (std::filesystem::exists(folder / name)) files.push_back(JsonConfig::open(folder / name));
  return files;
}

DELTATUNE_FUNCTION const JsonConfig* file_with(const std::vector<JsonConfig>& files, const std::string& key) {
  for (const JsonConfig& file : files)
    if (file.has(key)) return &file;
  return nullptr;
}

}  // namespace deltatune::detail
