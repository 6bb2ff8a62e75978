// Everything a folder says about its byte-level BPE tokenizer, as plain values: from tokenizer.json, or from vocab.json and merges.txt,
// with the settings of tokenizer_config.json and special_tokens_map.json. Only what the tokenizer can do is accepted; anything else is an
// Error that names the file and the field.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/text/tokenizer_spec.hpp"

namespace deltatune {

struct ByteBpeSpec : TokenizerSpec {
  std::vector<std::pair<std::string, std::string>> merges;  // the best one first
  bool add_prefix_space = false;                            // a blank before a text that begins without one
  bool use_regex = true;                                    // cut into words
  std::string eos_token, pad_token;                         // empty: none
};

namespace detail {

// "left right"
DELTATUNE_FUNCTION std::pair<std::string, std::string> read_merge(std::string_view line, const std::string& where) {
  const std::size_t blank = line.find(' ');
  if (blank == std::string_view::npos || line.find(' ', blank + 1) != std::string_view::npos) {
    throw Error(where, "not a merge", {.expected = "two tokens with one blank between them", .got = "\"" + std::string(line) + "\""});
  }
  return {std::string(line.substr(0, blank)), std::string(line.substr(blank + 1))};
}

// A list of "left right", or of ["left", "right"] as newer files have it.
DELTATUNE_FUNCTION std::vector<std::pair<std::string, std::string>> read_merges(const JsonConfig& model) {
  const std::string where = model.name() + ": merges";
  const nlohmann::json entries = model.has("merges") ? model.raw().at("merges") : nlohmann::json();
  if (!entries.is_array()) throw Error(where, "wrong type", {.expected = "a list of merges", .got = describe(entries)});
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(entries.size());
  for (const auto& entry : entries) {
    const std::string here = where + "[" + std::to_string(merges.size()) + "]";
    if (entry.is_string()) {
      merges.push_back(read_merge(entry.get<std::string>(), here));
      continue;
    }
    auto parts = json_value<std::vector<std::string>>(entry, here);
    if (parts.size() != 2) throw Error(here, "not a merge", {.expected = "two tokens", .got = std::to_string(parts.size())});
    merges.emplace_back(std::move(parts[0]), std::move(parts[1]));
  }
  return merges;
}

// unk_token, fuse_unk and byte_fallback say nothing here: every byte has a token.
DELTATUNE_FUNCTION void refuse_bpe_options(const JsonConfig& model) {
  if (const double dropout = model.get_or("dropout", 0.0); dropout != 0) {
    throw Error(model.name() + ": dropout", "not supported",
                {.expected = "null or 0", .got = std::to_string(dropout), .remedy = "with dropout a text has other ids every time"});
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string affix = model.get_or<std::string>(key, "");
    if (!affix.empty()) {
      throw Error(model.name() + ": " + key, "not supported",
                  {.expected = "null or \"\"", .got = "\"" + affix + "\"", .remedy = "only byte-level BPE can be read"});
    }
  }
  if (model.get_or("ignore_merges", false)) throw Error(model.name() + ": ignore_merges", "not supported", {.expected = "false", .got = "true"});
}

// The two files that say which tokens are special, as far as they are there.
DELTATUNE_FUNCTION std::vector<JsonConfig> special_token_files(const std::filesystem::path& folder) {
  std::vector<JsonConfig> files;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"})
    if (std::filesystem::exists(folder / name)) files.push_back(JsonConfig::open(folder / name));
  return files;
}

DELTATUNE_FUNCTION const JsonConfig* file_with(const std::vector<JsonConfig>& files, const std::string& key) {
  const auto file = std::find_if(files.begin(), files.end(), [&](const JsonConfig& candidate) { return candidate.has(key); });
  return file == files.end() ? nullptr : &*file;
}

DELTATUNE_FUNCTION std::optional<std::int32_t> find_id(const TokenizerSpec& spec, const std::string& token) {
  if (const auto entry = spec.vocabulary.find(token); entry != spec.vocabulary.end()) return entry->second;
  for (const AddedToken& added : spec.added_tokens)
    if (added.content == token) return added.id;
  return std::nullopt;
}

inline constexpr const char* kEndOfText = "<|endoftext|>";  // what begins and ends a text unless a file says otherwise

// Sets eos_token and pad_token.
DELTATUNE_FUNCTION void read_ends(const std::vector<JsonConfig>& files, ByteBpeSpec& spec_io) {
  if (find_id(spec_io, kEndOfText)) spec_io.eos_token = kEndOfText;
  for (const auto& [key, token] : {std::pair("eos_token", &spec_io.eos_token), std::pair("pad_token", &spec_io.pad_token)}) {
    const JsonConfig* const file = file_with(files, key);
    if (file == nullptr) continue;
    *token = token_content(*file, key);
    if (!find_id(spec_io, *token)) throw Error(file->name() + ": " + key, "not a token of this tokenizer", {.got = "\"" + *token + "\""});
  }
}

// The special tokens that are in the vocabulary are found in a text, too.
DELTATUNE_FUNCTION void read_special_tokens(const std::vector<JsonConfig>& files, ByteBpeSpec& spec_io) {
  const auto add = [&](const std::string& content, const auto& token_with_id) {
    const auto entry = spec_io.vocabulary.find(content);
    if (entry == spec_io.vocabulary.end()) return;
    for (const AddedToken& added : spec_io.added_tokens)
      if (added.content == content) return;
    spec_io.added_tokens.push_back(token_with_id(entry->second));
  };
  for (const std::string key : {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"}) {
    const JsonConfig* const file = file_with(files, key);
    if (file == nullptr) continue;
    const std::string content = token_content(*file, key);
    add(content,
        [&](std::int32_t id) { return file->raw().at(key).is_object() ? read_added_token(file->object(key), id) : AddedToken{.content = content, .id = id}; });
  }
  for (const char* key : {"bos_token", "eos_token", "unk_token"})
    if (file_with(files, key) == nullptr) add(kEndOfText, [](std::int32_t id) { return AddedToken{.content = kEndOfText, .id = id}; });
}

// A text begins with bos_token where add_bos_token says so.
DELTATUNE_FUNCTION void read_begin(const std::vector<JsonConfig>& files, ByteBpeSpec& spec_io) {
  const JsonConfig* const file = file_with(files, "add_bos_token");
  if (file == nullptr || !file->get<bool>("add_bos_token")) return;
  const JsonConfig* const names = file_with(files, "bos_token");
  const std::string token = names == nullptr ? kEndOfText : token_content(*names, "bos_token");
  const std::optional<std::int32_t> id = find_id(spec_io, token);
  if (!id) throw Error(file->name() + ": add_bos_token", "the token to begin with is not in the vocabulary", {.got = "\"" + token + "\""});
  spec_io.single.insert(spec_io.single.begin(), {TemplateItem::Kind::kTokens, {*id}, 0});
}

}  // namespace detail

// Reads tokenizer.json, and which tokens end and pad a text from the files beside it.
DELTATUNE_FUNCTION ByteBpeSpec read_byte_bpe_json(const std::filesystem::path& path) {
  const JsonConfig file = JsonConfig::open(path);
  ByteBpeSpec spec;
  spec.name = path.string();

  const JsonConfig model = file.object("model");
  if (model.has("type") || !model.has("merges")) detail::require_type(model, "BPE");  // older files leave the type out
  detail::refuse_bpe_options(model);
  spec.vocabulary = detail::read_vocabulary(model);
  spec.merges = detail::read_merges(model);

  if (file.has("normalizer")) {
    throw Error(path.string() + ": normalizer", "not supported", {.expected = "null", .got = file.object("normalizer").get<std::string>("type")});
  }
  const JsonConfig pre_tokenizer = file.object("pre_tokenizer");
  detail::require_type(pre_tokenizer, "ByteLevel");
  spec.add_prefix_space = pre_tokenizer.get<bool>("add_prefix_space");
  spec.use_regex = pre_tokenizer.get_or("use_regex", true);
  if (file.has("decoder")) detail::require_type(file.object("decoder"), "ByteLevel");

  for (const JsonConfig& entry : detail::json_entries(file, "added_tokens")) {
    spec.added_tokens.push_back(detail::read_added_token(entry, entry.get<std::int64_t>("id")));
  }
  if (file.has("post_processor")) {
    const JsonConfig processor = file.object("post_processor");
    if (processor.get<std::string>("type") != "ByteLevel") {  // which changes offsets only
      detail::require_type(processor, "TemplateProcessing");
      spec.single = detail::read_template(processor, "single", false);
    }
  }
  detail::read_ends(detail::special_token_files(path.parent_path()), spec);
  return spec;
}

// Reads vocab.json and merges.txt of a folder, and the settings in the files beside them. added_tokens.json is from older versions of
// transformers.
DELTATUNE_FUNCTION ByteBpeSpec read_vocab_and_merges(const std::filesystem::path& folder) {
  const std::filesystem::path vocabulary_path = folder / "vocab.json", merges_path = folder / "merges.txt";
  ByteBpeSpec spec;
  spec.name = vocabulary_path.string();
  spec.vocabulary = detail::read_token_ids(JsonConfig::open(vocabulary_path).raw(), spec.name + ": ");

  const MappedFile merges(merges_path);
  std::string_view rest = merges.text();
  for (int number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version")) continue;
    spec.merges.push_back(detail::read_merge(line, merges_path.string() + ": line " + std::to_string(number)));
  }

  if (std::filesystem::exists(folder / "added_tokens.json")) {
    const JsonConfig added = JsonConfig::open(folder / "added_tokens.json");
    for (auto& [token, id] : detail::read_token_ids(added.raw(), added.name() + ": ")) spec.added_tokens.push_back({.content = token, .id = id});
  }
  const std::vector<JsonConfig> files = detail::special_token_files(folder);
  if (const JsonConfig* const file = detail::file_with(files, "added_tokens_decoder")) {
    detail::read_added_tokens_decoder(file->object("added_tokens_decoder"), spec);
  }
  if (const JsonConfig* const file = detail::file_with(files, "add_prefix_space")) spec.add_prefix_space = file->get<bool>("add_prefix_space");
  detail::read_special_tokens(files, spec);
  detail::read_begin(files, spec);
  detail::read_ends(files, spec);
  return spec;
}

}  // namespace deltatune
