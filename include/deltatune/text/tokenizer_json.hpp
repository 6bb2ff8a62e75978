// Everything a folder says about its WordPiece tokenizer, as plain values: from tokenizer.json, or from vocab.txt with the settings of
// tokenizer_config.json. Only what the tokenizer can do is accepted; anything else is an Error that names the file and the field.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/text/bert_normalizer.hpp"
#include "deltatune/text/tokenizer_spec.hpp"

namespace deltatune {

struct WordPieceSpec : TokenizerSpec {
  std::string unknown_token = "[UNK]";
  std::string continuation_prefix = "##";  // of pieces that don't begin a word
  Index longest_word = 100;                // in code points; longer ones are unknown
  BertNormalizer normalizer;
};

namespace detail {

DELTATUNE_FUNCTION BertNormalizer read_normalizer(const JsonConfig& section) {
  require_type(section, "BertNormalizer");
  BertNormalizer normalizer;
  normalizer.clean_text = section.get_or("clean_text", true);
  normalizer.handle_chinese_chars = section.get_or("handle_chinese_chars", true);
  normalizer.lowercase = section.get_or("lowercase", true);
  if (section.has("strip_accents")) normalizer.strip_accents = section.get<bool>("strip_accents");
  return normalizer;
}

// The frame of BERT: [CLS] A [SEP], and [CLS] A [SEP] B [SEP] where B and its [SEP] have type 1.
DELTATUNE_FUNCTION void set_bert_template(std::int32_t cls, std::int32_t sep, TokenizerSpec& spec_io) {
  using Kind = TemplateItem::Kind;
  spec_io.single = {{Kind::kTokens, {cls}, 0}, {Kind::kFirst, {}, 0}, {Kind::kTokens, {sep}, 0}};
  spec_io.pair = spec_io.single;
  spec_io.pair.push_back({Kind::kSecond, {}, 1});
  spec_io.pair.push_back({Kind::kTokens, {sep}, 1});
}

DELTATUNE_FUNCTION void read_post_processor(const JsonConfig& file, WordPieceSpec& spec_io) {
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
DELTATUNE_FUNCTION WordPieceSpec read_tokenizer_json(const std::filesystem::path& path) {
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
DELTATUNE_FUNCTION WordPieceSpec read_vocab_txt(const std::filesystem::path& path, const std::filesystem::path& config_path) {
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
    std::string token = config.has(key) ? detail::token_content(config, key) : fallback;
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
