// Everything a folder says about its WordPiece tokenizer, as plain values: from tokenizer.json, or from vocab.txt with the settings of
// tokenizer_config.json. Only what the tokenizer can do is accepted; anything else is an Error that names the file and the field.
// The truncation and padding sections are ignored: the caller of encode() says how long a sequence may be, and nothing is ever padded.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/text/added_tokens.hpp"
#include "deltatune/text/bert_normalizer.hpp"

namespace deltatune {

// One place of the frame around a text: a sequence or fixed tokens.
struct TemplateItem {
  enum class Kind { kFirst, kSecond, kTokens };
  Kind kind = Kind::kTokens;
  std::vector<std::int32_t> ids;  // of kTokens
  std::int32_t type = 0;
};

struct WordPieceSpec {
  std::string name;  // of the file, for messages
  std::unordered_map<std::string, std::int32_t> vocabulary;
  std::vector<AddedToken> added_tokens;
  std::string unknown_token = "[UNK]";
  std::string continuation_prefix = "##";  // of pieces that don't begin a word
  Index longest_word = 100;                // in code points; longer ones are unknown
  BertNormalizer normalizer;
  std::vector<TemplateItem> single{{TemplateItem::Kind::kFirst, {}, 0}};
  std::vector<TemplateItem> pair{{TemplateItem::Kind::kFirst, {}, 0}, {TemplateItem::Kind::kSecond, {}, 1}};
};

namespace detail {

// Entries of a list or object that aren't plain values.
inline JsonConfig json_entry(const nlohmann::json& entry, const std::string& where) { return JsonConfig::parse(entry.dump(), where); }

inline std::vector<JsonConfig> json_entries(const JsonConfig& config, const char* key) {
  std::vector<JsonConfig> entries;
  if (!config.has(key)) return entries;
  const nlohmann::json& list = config.raw().at(key);
  const std::string where = config.name() + ": " + key;
  if (!list.is_array()) throw Error(where, "wrong type", {.expected = "a list of objects", .got = describe(list)});
  for (const auto& entry : list) entries.push_back(json_entry(entry, where + "[" + std::to_string(entries.size()) + "]"));
  return entries;
}

inline std::int32_t token_id(std::int64_t value, const std::string& where) {
  if (value < 0 || value > std::numeric_limits<std::int32_t>::max()) {
    throw Error(where, "not a token id", {.expected = "0 to 2147483647", .got = std::to_string(value)});
  }
  return static_cast<std::int32_t>(value);
}

// Refuses a component of another kind, for example a byte-level BPE model.
inline void require_type(const JsonConfig& section, const std::string& supported) {
  const std::string type = section.get<std::string>("type");
  if (type == supported) return;
  throw Error(section.name() + ": type", "not supported",
              {.expected = supported, .got = type, .remedy = "only the WordPiece tokenizers of BERT models can be read"});
}

inline BertNormalizer read_normalizer(const JsonConfig& section) {
  require_type(section, "BertNormalizer");
  BertNormalizer normalizer;
  normalizer.clean_text = section.get_or("clean_text", true);
  normalizer.handle_chinese_chars = section.get_or("handle_chinese_chars", true);
  normalizer.lowercase = section.get_or("lowercase", true);
  if (section.has("strip_accents")) normalizer.strip_accents = section.get<bool>("strip_accents");
  return normalizer;
}

inline AddedToken read_added_token(const JsonConfig& entry, std::int64_t id) {
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
inline void read_added_tokens_decoder(const JsonConfig& section, WordPieceSpec& spec_io) {
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

inline std::unordered_map<std::string, std::int32_t> read_vocabulary(const JsonConfig& model) {
  const std::string where = model.name() + ": vocab";
  if (!model.has("vocab")) throw Error(where, "is missing", {.expected = "an object from token to id"});
  const nlohmann::json& entries = model.raw().at("vocab");
  if (!entries.is_object()) throw Error(where, "wrong type", {.expected = "an object from token to id", .got = describe(entries)});
  std::unordered_map<std::string, std::int32_t> vocabulary;
  vocabulary.reserve(entries.size());
  for (const auto& [token, id] : entries.items()) {
    vocabulary.emplace(token, token_id(json_value<std::int64_t>(id, where + "." + token), where + "." + token));
  }
  return vocabulary;
}

// The frame of BERT: [CLS] A [SEP], and [CLS] A [SEP] B [SEP] where B and its [SEP] have type 1.
inline void set_bert_template(std::int32_t cls, std::int32_t sep, WordPieceSpec& spec_io) {
  using Kind = TemplateItem::Kind;
  spec_io.single = {{Kind::kTokens, {cls}, 0}, {Kind::kFirst, {}, 0}, {Kind::kTokens, {sep}, 0}};
  spec_io.pair = spec_io.single;
  spec_io.pair.push_back({Kind::kSecond, {}, 1});
  spec_io.pair.push_back({Kind::kTokens, {sep}, 1});
}

inline std::vector<TemplateItem> read_template(const JsonConfig& processor, const char* key, bool pair) {
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
      for (const std::int64_t value : token.get<std::vector<std::int64_t>>("ids"))
        item.ids.push_back(token_id(value, token.name() + ": ids"));
    } else if (id == "A" || (id == "B" && pair)) {
      item.kind = id == "A" ? Kind::kFirst : Kind::kSecond;
    } else {
      throw Error(body.name() + ": id", "no such sequence", {.expected = pair ? "A or B" : "A", .got = id});
    }
    items.push_back(std::move(item));
  }
  const auto count = [&](Kind kind) {
    return std::count_if(items.begin(), items.end(), [&](const auto& item) { return item.kind == kind; });
  };
  if (count(Kind::kFirst) != 1 || count(Kind::kSecond) != (pair ? 1 : 0)) {
    throw Error(processor.name() + ": " + key, "not a template", {.expected = pair ? "A once and B once" : "A once"});
  }
  return items;
}

inline void read_post_processor(const JsonConfig& file, WordPieceSpec& spec_io) {
  if (!file.has("post_processor")) return;
  const JsonConfig processor = file.object("post_processor");
  if (processor.get<std::string>("type") == "BertProcessing") {
    const auto id = [&](const char* key) {
      const nlohmann::json token = processor.has(key) ? processor.raw().at(key) : nlohmann::json();
      const std::string where = processor.name() + ": " + key;
      if (!token.is_array() || token.size() != 2) throw Error(where, "wrong type", {.expected = "[token, id]", .got = describe(token)});
      return token_id(json_value<std::int64_t>(token[1], where), where);
    };
    set_bert_template(id("cls"), id("sep"), spec_io);
    return;
  }
  require_type(processor, "TemplateProcessing");
  spec_io.single = read_template(processor, "single", false);
  spec_io.pair = read_template(processor, "pair", true);
}

}  // namespace detail

// Reads tokenizer.json.
inline WordPieceSpec read_tokenizer_json(const std::filesystem::path& path) {
  const JsonConfig file = JsonConfig::open(path);
  WordPieceSpec spec;
  spec.name = path.string();

  const JsonConfig model = file.object("model");
  // Older files leave the type out; only WordPiece has a prefix together with this limit.
  if (model.has("type") || !model.has("max_input_chars_per_word")) detail::require_type(model, "WordPiece");
  spec.vocabulary = detail::read_vocabulary(model);
  spec.unknown_token = model.get_or("unk_token", spec.unknown_token);
  spec.continuation_prefix = model.get_or("continuing_subword_prefix", spec.continuation_prefix);
  spec.longest_word = model.get_or<std::int64_t>("max_input_chars_per_word", spec.longest_word);
  if (spec.longest_word < 0) {
    throw Error(model.name() + ": max_input_chars_per_word", "is negative", {.got = std::to_string(spec.longest_word)});
  }

  if (file.has("normalizer")) {
    spec.normalizer = detail::read_normalizer(file.object("normalizer"));
  } else {
    spec.normalizer = {.clean_text = false, .handle_chinese_chars = false, .strip_accents = false, .lowercase = false};
  }
  detail::require_type(file.object("pre_tokenizer"), "BertPreTokenizer");
  for (const JsonConfig& entry : detail::json_entries(file, "added_tokens")) {
    spec.added_tokens.push_back(detail::read_added_token(entry, entry.get<std::int64_t>("id")));
  }
  detail::read_post_processor(file, spec);
  return spec;
}

// Reads vocab.txt, one token a line, the line number is the id. `config_path` (tokenizer_config.json) need not exist.
inline WordPieceSpec read_vocab_txt(const std::filesystem::path& path, const std::filesystem::path& config_path) {
  const MappedFile file(path);
  WordPieceSpec spec;
  spec.name = path.string();
  std::string_view rest = file.text();
  for (std::int32_t id = 0; !rest.empty(); ++id) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string token(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (token.ends_with('\r')) token.pop_back();
    if (replace_invalid_utf8(token) > 0) {
      throw Error(spec.name + ": line " + std::to_string(id + 1), "not UTF-8", {.remedy = "the file is damaged; fetch it again"});
    }
    spec.vocabulary[std::move(token)] = id;
  }

  const bool has_config = std::filesystem::exists(config_path);
  const JsonConfig config = has_config ? JsonConfig::open(config_path) : JsonConfig::parse("{}", config_path.string());
  spec.normalizer.lowercase = config.get_or("do_lower_case", true);
  spec.normalizer.handle_chinese_chars = config.get_or("tokenize_chinese_chars", true);
  if (config.has("strip_accents")) spec.normalizer.strip_accents = config.get<bool>("strip_accents");

  const auto special_token = [&](const char* key, const char* fallback) {
    std::string token = fallback;
    if (config.has(key)) {  // a string, or an object with settings
      token = config.raw().at(key).is_object() ? config.object(key).get<std::string>("content") : config.get<std::string>(key);
    }
    const auto entry = spec.vocabulary.find(token);
    if (entry != spec.vocabulary.end()) spec.added_tokens.push_back({.content = token, .id = entry->second});
    return token;
  };
  spec.unknown_token = special_token("unk_token", "[UNK]");
  const std::string sep = special_token("sep_token", "[SEP]");
  special_token("pad_token", "[PAD]");
  const std::string cls = special_token("cls_token", "[CLS]");
  special_token("mask_token", "[MASK]");
  if (config.has("added_tokens_decoder")) detail::read_added_tokens_decoder(config.object("added_tokens_decoder"), spec);
  for (const std::string& token : {cls, sep}) {
    if (spec.vocabulary.contains(token)) continue;
    throw Error(spec.name, "has no token " + token, {.remedy = "cls_token and sep_token in tokenizer_config.json name the special tokens"});
  }
  detail::set_bert_template(spec.vocabulary.at(cls), spec.vocabulary.at(sep), spec);
  return spec;
}

}  // namespace deltatune
