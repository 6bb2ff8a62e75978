// What every kind of tokenizer is made of, as plain values, and how tokenizer.json and tokenizer_config.json write it.
// The truncation and padding sections are ignored: the caller of encode() says how long a sequence may be, and nothing is ever padded.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/text/added_tokens.hpp"

namespace deltatune {

// One place of the frame around a text: a sequence or fixed tokens.
struct TemplateItem {
  enum class Kind { kFirst, kSecond, kTokens };
  Kind kind = Kind::kTokens;
  std::vector<std::int32_t> ids;  // of kTokens
  std::int32_t type = 0;
};

struct TokenizerSpec {
  std::string name;                                          // of the file, for messages
  std::unordered_map<std::string, std::int32_t> vocabulary;  // the model's own tokens
  std::vector<AddedToken> added_tokens;                      // may be among the model's own
  std::vector<TemplateItem> single{{TemplateItem::Kind::kFirst, {}, 0}};
  std::vector<TemplateItem> pair{{TemplateItem::Kind::kFirst, {}, 0}, {TemplateItem::Kind::kSecond, {}, 1}};
};

namespace detail {

// Entries of a list or object that aren't plain values.
inline JsonConfig json_entry(const nlohmann::json& entry, const std::string& where) { return JsonConfig::parse(entry.dump(), where); }

DELTATUNE_FUNCTION std::vector<JsonConfig> json_entries(const JsonConfig& config, const char* key) {
  std::vector<JsonConfig> entries;
  if (!config.has(key)) return entries;
  const nlohmann::json& list = config.raw().at(key);
  const std::string where = config.name() + ": " + key;
  if (!list.is_array()) throw Error(where, "wrong type", {.expected = "a list of objects", .got = describe(list)});
  for (const auto& entry : list) entries.push_back(json_entry(entry, where + "[" + std::to_string(entries.size()) + "]"));
  return entries;
}

DELTATUNE_FUNCTION std::int32_t token_id(std::int64_t value, const std::string& where) {
  if (value < 0 || value > std::numeric_limits<std::int32_t>::max()) {
    throw Error(where, "not a token id", {.expected = "0 to 2147483647", .got = std::to_string(value)});
  }
  return static_cast<std::int32_t>(value);
}

// Refuses a component of another kind, for example a Unigram model.
DELTATUNE_FUNCTION void require_type(const JsonConfig& section, const std::string& supported) {
  const std::string type = section.get<std::string>("type");
  if (type == supported) return;
  throw Error(section.name() + ": type", "not supported",
              {.expected = supported, .got = type, .remedy = "only the WordPiece tokenizers of BERT and the byte-level BPE of GPT-2 can be read"});
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
  token.normalized = entry.get_or("normalized", !entry.get_or("special", false));
  return token;
}

// The added tokens of tokenizer_config.json, an object from id to token. They may be special tokens again, with other settings.
DELTATUNE_FUNCTION void read_added_tokens_decoder(const JsonConfig& section, TokenizerSpec& spec_io) {
  for (const auto& [key, entry] : section.raw().items()) {
    const JsonConfig config = json_entry(entry, section.name() + "." + key);
    std::int64_t id = -1;
    const auto [end, failure] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (failure != std::errc{} || end != key.data() + key.size()) throw Error(config.name(), "not a token id", {.expected = "a number"});
    AddedToken token = read_added_token(config, id);
    std::erase_if(spec_io.added_tokens, [&](const AddedToken& other) { return other.content == token.content; });
    spec_io.added_tokens.push_back(std::move(token));
  }
}

// The entries of an object from token to id; `where` is what stands before a token in messages.
DELTATUNE_FUNCTION std::unordered_map<std::string, std::int32_t> read_token_ids(const nlohmann::json& entries, const std::string& where) {
  std::unordered_map<std::string, std::int32_t> vocabulary;
  vocabulary.reserve(entries.size());
  for (const auto& [token, id] : entries.items()) {
    vocabulary.emplace(token, token_id(json_value<std::int64_t>(id, where + token), where + token));
  }
  return vocabulary;
}

DELTATUNE_FUNCTION std::unordered_map<std::string, std::int32_t> read_vocabulary(const JsonConfig& model) {
  const std::string where = model.name() + ": vocab";
  if (!model.has("vocab")) throw Error(where, "is missing", {.expected = "an object from token to id"});
  const nlohmann::json& entries = model.raw().at("vocab");
  if (!entries.is_object()) throw Error(where, "wrong type", {.expected = "an object from token to id", .got = describe(entries)});
  return read_token_ids(entries, where + ".");
}

DELTATUNE_FUNCTION std::vector<TemplateItem> read_template(const JsonConfig& processor, const char* key, bool pair) {
  using Kind = TemplateItem::Kind;
  std::vector<TemplateItem> items;
  for (const JsonConfig& entry : json_entries(processor, key)) {
    TemplateItem item;
    const bool special = entry.has("SpecialToken");
    const JsonConfig body = entry.object(special ? "SpecialToken" : "Sequence");
    const std::string id = body.get<std::string>("id");
    item.type = token_id(body.get_or<std::int64_t>("type_id", 0), body.name() + ": type_id");
    if (special) {
      const JsonConfig token = processor.object("special_tokens").object(id);
      for (const std::int64_t value : token.get<std::vector<std::int64_t>>("ids")) item.ids.push_back(token_id(value, token.name() + ": ids"));
    } else if (id == "A" || (id == "B" && pair)) {
      item.kind = id == "A" ? Kind::kFirst : Kind::kSecond;
    } else {
      throw Error(body.name() + ": id", "no such sequence", {.expected = pair ? "A or B" : "A", .got = id});
    }
    items.push_back(std::move(item));
  }
  const auto count = [&](Kind kind) { return std::count_if(items.begin(), items.end(), [&](const auto& item) { return item.kind == kind; }); };
  if (count(Kind::kFirst) != 1 || count(Kind::kSecond) != (pair ? 1 : 0)) {
    throw Error(processor.name() + ": " + key, "not a template", {.expected = pair ? "A once and B once" : "A once"});
  }
  return items;
}

}  // namespace detail

}  // namespace deltatune
