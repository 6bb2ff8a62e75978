// What the tests of the tokenizer share: golden files and hashes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/text/bert_normalizer.hpp"
#include "deltatune/text/tokenizer.hpp"

namespace tokenizer_files {

inline const std::filesystem::path data = std::filesystem::path(DELTATUNE_TEST_DIR) / "data";

inline std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<nlohmann::json> read_lines(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

inline std::vector<std::uint32_t> read_hashes(const std::filesystem::path& path) {
  const std::string bytes = read(path);
  std::vector<std::uint32_t> hashes(bytes.size() / sizeof(std::uint32_t));
  std::memcpy(hashes.data(), bytes.data(), bytes.size());
  return hashes;
}

inline std::uint32_t fnv1a(std::string_view bytes, std::uint32_t hash = 0x811C9DC5U) {
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x01000193U;
  return hash;
}

inline std::uint32_t fnv1a(const std::vector<std::int32_t>& ids) {
  return fnv1a({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(std::int32_t)});
}

// A file that a user of the tests may have: path in an environment variable.
inline std::optional<std::filesystem::path> from_environment(const char* variable) {
  const char* const value = std::getenv(variable);
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<std::filesystem::path>(value);
}

// Named as the generator names them.
inline deltatune::BertNormalizer normalizer(const std::string& name) {
  if (name == "uncased") return {};
  if (name == "cased") return {.lowercase = false};
  if (name == "cased_stripped") return {.strip_accents = true, .lowercase = false};
  if (name == "uncased_accents") return {.strip_accents = false};
  if (name == "not_cleaned") return {.clean_text = false};
  if (name == "chinese_whole") return {.handle_chinese_chars = false};
  if (name == "nothing") return {.clean_text = false, .handle_chinese_chars = false, .strip_accents = false, .lowercase = false};
  throw std::runtime_error("no normalizer " + name);
}

inline nlohmann::json as_json(const deltatune::BertNormalizer& normalizer) {
  nlohmann::json strips;
  if (normalizer.strip_accents) strips = *normalizer.strip_accents;
  return {{"type", "BertNormalizer"},
          {"clean_text", normalizer.clean_text},
          {"handle_chinese_chars", normalizer.handle_chinese_chars},
          {"strip_accents", strips},
          {"lowercase", normalizer.lowercase}};
}

// A tokenizer.json of BERT's kind: the tokens have their places as ids.
inline nlohmann::json word_piece_json(const std::vector<std::string>& tokens) {
  nlohmann::json vocabulary = nlohmann::json::object(), added = nlohmann::json::array();
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    vocabulary[tokens[id]] = id;
    const bool is_special = tokens[id] == "[PAD]" || tokens[id] == "[UNK]" || tokens[id] == "[CLS]" || tokens[id] == "[SEP]" || tokens[id] == "[MASK]";
    if (is_special) added.push_back({{"id", id}, {"content", tokens[id]}, {"special", true}});
  }
  return {{"added_tokens", added},
          {"normalizer", as_json({.lowercase = false})},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"model", {{"type", "WordPiece"}, {"unk_token", "[UNK]"}, {"vocab", vocabulary}}}};
}

inline deltatune::Tokenizer parsed(const nlohmann::json& tokenizer) { return deltatune::Tokenizer::parse(tokenizer.dump(), "tokenizer.json"); }

}  // namespace tokenizer_files
