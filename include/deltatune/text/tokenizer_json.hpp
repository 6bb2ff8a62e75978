// Reads tokenizer.json of Hugging Face tokenizers. What cannot be done is an Error that names file, stage and field.
// The truncation and padding sections are ignored: the caller of encode() says how long a sequence may be, and nothing is ever padded.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/text/tokenizer_parts.hpp"
#include "deltatune/text/vocabulary_json.hpp"

namespace deltatune::detail {

DELTATUNE_FUNCTION JsonConfig json_entry(const nlohmann::json& entry, const std::string& where) { return JsonConfig::of(entry, where); }

DELTATUNE_FUNCTION std::vector<JsonConfig> json_entries(const JsonConfig& config, const char* key) {
  std::vector<JsonConfig> entries;
  if (!config.has(key)) return entries;
  const nlohmann::json& list = config.raw().at(key);
  const std::string where = config.name() + ": " + key;
  if (!list.is_array()) throw Error(where, "wrong type", {.expected = "a list of objects", .got = describe(list)});
  for (const auto& entry : list) entries.push_back(json_entry(entry, where + "[" + std::to_string(entries.size()) + "]"));
  return entries;
}

// The stages of a section: itself, or those of a Sequence and of Sequences in it, in their order.
DELTATUNE_FUNCTION std::vector<JsonConfig> stages(const JsonConfig& section, const char* list) {
  if (section.get<std::string>("type") != "Sequence") return {section};
  std::vector<JsonConfig> all;
  if (!section.has(list)) throw Error(section.name() + ": " + list, "is missing", {.expected = "a list of objects"});
  for (const JsonConfig& entry : json_entries(section, list))
    for (JsonConfig& stage : stages(entry, list)) all.push_back(std::move(stage));
  return all;
}

[[noreturn]] DELTATUNE_FUNCTION void throw_unknown_stage(const JsonConfig& stage, const char* known) {
  throw Error(stage.name() + ": type", "is not known", {.expected = known, .got = stage.get<std::string>("type")});
}

// One character, as text.
DELTATUNE_FUNCTION std::string read_character(const JsonConfig& stage, const char* key) {
  const std::string text = stage.get<std::string>(key);
  if (text.empty() || decode_utf8(text, 0).bytes != text.size()) {
    throw Error(stage.name() + ": " + key, "wrong value", {.expected = "one character", .got = "\"" + text + "\""});
  }
  return text;
}

DELTATUNE_FUNCTION std::size_t read_count(const JsonConfig& stage, const char* key, std::int64_t least) {
  const std::int64_t value = stage.get<std::int64_t>(key);
  if (value < least) throw Error(stage.name() + ": " + key, "is too small", {.expected = "at least " + std::to_string(least), .got = std::to_string(value)});
  return static_cast<std::size_t>(value);
}

// {"String": ...} or {"Regex": ...}
DELTATUNE_FUNCTION TextPattern read_pattern(const JsonConfig& stage, const RegexCompiler& compiler) {
  const JsonConfig pattern = stage.object("pattern");
  if (pattern.has("Regex")) return TextPattern::regex(pattern.get<std::string>("Regex"), pattern.name() + ": Regex", compiler);
  std::string text = pattern.get<std::string>("String");
  if (text.empty()) throw Error(pattern.name() + ": String", "is empty", {.expected = "a text to look for"});
  return TextPattern::literal(std::move(text));
}

DELTATUNE_FUNCTION SplitBehavior read_behavior(const JsonConfig& stage) {
  const std::string name = stage.get_or<std::string>("behavior", "Isolated");
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  throw Error(stage.name() + ": behavior", "is not known",
              {.expected = "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous", .got = "\"" + name + "\""});
}

DELTATUNE_FUNCTION BertNormalizer read_bert_normalizer(const JsonConfig& stage) {
  BertNormalizer normalizer;
  normalizer.clean_text = stage.get_or("clean_text", true);
  normalizer.handle_chinese_chars = stage.get_or("handle_chinese_chars", true);
  normalizer.lowercase = stage.get_or("lowercase", true);
  if (stage.has("strip_accents")) normalizer.strip_accents = stage.get<bool>("strip_accents");
  return normalizer;
}

DELTATUNE_FUNCTION std::shared_ptr<const Charsmap> read_charsmap(const std::string& base64, const std::string& where) {
  return std::make_shared<const Charsmap>(from_base64(base64, where), where);
}

DELTATUNE_FUNCTION NormalizerStep read_normalizer_step(const JsonConfig& stage, const RegexCompiler& compiler) {
  const std::string type = stage.get<std::string>("type");
  if (type == "BertNormalizer") return read_bert_normalizer(stage);
  if (type == "NFC") return NormalForm::kNfc;
  if (type == "NFD") return NormalForm::kNfd;
  if (type == "NFKC") return NormalForm::kNfkc;
  if (type == "NFKD") return NormalForm::kNfkd;
  if (type == "Lowercase") return LowercaseStep{};
  if (type == "StripAccents") return StripAccentsStep{};
  if (type == "Nmt") return NmtStep{};
  if (type == "ByteLevel") return ByteLevelStep{};
  if (type == "Strip") return StripStep{stage.get_or("strip_left", true), stage.get_or("strip_right", true)};
  if (type == "Replace") return ReplaceStep{read_pattern(stage, compiler), stage.get<std::string>("content")};
  if (type == "Prepend") return PrependStep{stage.get<std::string>("prepend")};
  if (type == "Precompiled") return read_charsmap(stage.get<std::string>("precompiled_charsmap"), stage.name() + ": precompiled_charsmap");
  throw_unknown_stage(
      stage, "BertNormalizer, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Nmt, ByteLevel, Strip, Replace, Prepend, Precompiled or a Sequence of them");
}

DELTATUNE_FUNCTION Metaspace read_metaspace(const JsonConfig& stage) {
  Metaspace metaspace;
  metaspace.replacement = read_character(stage, "replacement");
  const std::string scheme = stage.get_or<std::string>("prepend_scheme", "always");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    throw Error(stage.name() + ": prepend_scheme", "is not known", {.expected = "always, first or never", .got = "\"" + scheme + "\""});
  }
  metaspace.prepend = scheme == "always" ? PrependScheme::kAlways : scheme == "first" ? PrependScheme::kFirst : PrependScheme::kNever;
  if (!stage.get_or("add_prefix_space", true) && scheme != "never") {
    throw Error(stage.name() + ": add_prefix_space", "is not what prepend_scheme says", {.expected = "never with false", .got = "\"" + scheme + "\""});
  }
  metaspace.split = stage.get_or("split", true);
  return metaspace;
}

DELTATUNE_FUNCTION PreTokenizerStep read_pre_tokenizer_step(const JsonConfig& stage, const RegexCompiler& compiler) {
  const std::string type = stage.get<std::string>("type");
  if (type == "BertPreTokenizer") return BertSplit{};
  if (type == "Whitespace") return WordSplit{};
  if (type == "WhitespaceSplit") return WhitespaceSplit{};
  if (type == "Digits") return DigitSplit{stage.get_or("individual_digits", false)};
  if (type == "Punctuation") return PunctuationSplit{read_behavior(stage)};
  if (type == "CharDelimiterSplit") return PatternSplit{TextPattern::literal(read_character(stage, "delimiter")), SplitBehavior::kRemoved};
  if (type == "FixedLength") return FixedLengthSplit{stage.has("length") ? read_count(stage, "length", 1) : 5};
  if (type == "Metaspace") return read_metaspace(stage);
  if (type == "Split") {
    if (!stage.has("behavior")) throw Error(stage.name() + ": behavior", "is missing", {.expected = "a string"});
    return PatternSplit{read_pattern(stage, compiler), read_behavior(stage), stage.get_or("invert", false)};
  }
  if (type == "ByteLevel") return ByteLevelSplit{stage.get<bool>("add_prefix_space"), stage.get_or("use_regex", true)};
  throw_unknown_stage(stage,
                      "BertPreTokenizer, Whitespace, WhitespaceSplit, Digits, Punctuation, CharDelimiterSplit, FixedLength, Metaspace, Split, ByteLevel or a "
                      "Sequence of them");
}

DELTATUNE_FUNCTION DecoderStep read_decoder_step(const JsonConfig& stage, const RegexCompiler& compiler) {
  const std::string type = stage.get<std::string>("type");
  if (type == "ByteLevel") return ByteLevelDecoder{};
  if (type == "ByteFallback") return ByteFallbackDecoder{};
  if (type == "Fuse") return FuseDecoder{};
  if (type == "WordPiece") return WordPieceDecoder{stage.get_or<std::string>("prefix", "##"), stage.get_or("cleanup", true)};
  if (type == "BPEDecoder") return SuffixDecoder{stage.get_or<std::string>("suffix", "</w>")};
  if (type == "Strip") return StripDecoder{read_character(stage, "content"), read_count(stage, "start", 0), read_count(stage, "stop", 0)};
  if (type == "Replace") return ReplaceDecoder{read_pattern(stage, compiler), stage.get<std::string>("content")};
  if (type == "Metaspace") {
    const Metaspace metaspace = read_metaspace(stage);
    return MetaspaceDecoder{metaspace.replacement, metaspace.prepend != PrependScheme::kNever};
  }
  throw_unknown_stage(stage, "ByteLevel, ByteFallback, Fuse, WordPiece, BPEDecoder, Strip, Replace, Metaspace or a Sequence of them");
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
      item.tokens = token.get_or<std::vector<std::string>>("tokens", {});
      item.tokens.resize(item.ids.size(), id);
    } else if (id == "A" || (id == "B" && pair)) {
      item.kind = id == "A" ? Kind::kFirst : Kind::kSecond;
    } else {
      throw Error(body.name() + ": id", "no such sequence", {.expected = pair ? "A or B" : "A", .got = id});
    }
    items.push_back(std::move(item));
  }
  if (items.empty() && pair) return items;  // no pairs
  const auto has = [&](Kind kind) { return std::any_of(items.begin(), items.end(), [&](const auto& item) { return item.kind == kind; }); };
  if (!has(Kind::kFirst) || (pair && !has(Kind::kSecond))) {
    throw Error(processor.name() + ": " + key, "not a template", {.expected = pair ? "both A and B" : "A"});
  }
  return items;
}

// [token, id]
DELTATUNE_FUNCTION TemplateItem read_fixed_token(const JsonConfig& processor, const char* key, std::int32_t type) {
  const nlohmann::json token = processor.has(key) ? processor.raw().at(key) : nlohmann::json();
  const std::string where = processor.name() + ": " + key;
  if (!token.is_array() || token.size() != 2) throw Error(where, "wrong type", {.expected = "[token, id]", .got = describe(token)});
  return {.ids = {token_id(json_value<std::int64_t>(token[1], where), where)}, .tokens = {json_value<std::string>(token[0], where)}, .type = type};
}

// BERT's frame: [CLS] A [SEP], and [CLS] A [SEP] B [SEP] where B and its [SEP] have type 1.
DELTATUNE_FUNCTION void set_bert_template(const TemplateItem& cls, const TemplateItem& sep, PostProcessor& processor_io) {
  using Kind = TemplateItem::Kind;
  TemplateItem last = sep;
  last.type = 1;
  processor_io.single = {cls, {.kind = Kind::kFirst}, sep};
  processor_io.pair = {cls, {.kind = Kind::kFirst}, sep, {.kind = Kind::kSecond, .type = 1}, last};
}

// RoBERTa's: <s> A </s>, and <s> A </s></s> B </s>, all of type 0.
DELTATUNE_FUNCTION void set_roberta_template(const TemplateItem& cls, const TemplateItem& sep, PostProcessor& processor_io) {
  using Kind = TemplateItem::Kind;
  processor_io.single = {cls, {.kind = Kind::kFirst}, sep};
  processor_io.pair = {cls, {.kind = Kind::kFirst}, sep, sep, {.kind = Kind::kSecond}, sep};
}

DELTATUNE_FUNCTION void read_post_processor_step(const JsonConfig& stage, PostProcessor& processor_io) {
  const std::string type = stage.get<std::string>("type");
  if (type == "ByteLevel") {
    if (stage.get_or("trim_offsets", true)) processor_io.trims_adding_prefix_space.push_back(stage.get_or("add_prefix_space", true));
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    const TemplateItem cls = read_fixed_token(stage, "cls", 0);
    const TemplateItem sep = read_fixed_token(stage, "sep", 0);
    if (type == "BertProcessing") return set_bert_template(cls, sep, processor_io);
    set_roberta_template(cls, sep, processor_io);
    if (stage.get_or("trim_offsets", true)) processor_io.trims_adding_prefix_space.push_back(stage.get_or("add_prefix_space", true));
  } else if (type == "TemplateProcessing") {
    processor_io.single = read_template(stage, "single", false);
    processor_io.pair = read_template(stage, "pair", true);
  } else {
    throw_unknown_stage(stage, "ByteLevel, BertProcessing, RobertaProcessing, TemplateProcessing or a Sequence of them");
  }
}

DELTATUNE_FUNCTION PostProcessor read_post_processor(const JsonConfig& section) {
  PostProcessor processor;
  std::string frame;  // the stage that sets one
  for (const JsonConfig& stage : stages(section, "processors")) {
    read_post_processor_step(stage, processor);
    if (stage.get<std::string>("type") == "ByteLevel") continue;
    if (!frame.empty()) throw Error(stage.name(), "is a second frame of special tokens", {.expected = "one", .got = "another one in " + frame});
    frame = stage.name();
  }
  return processor;
}

DELTATUNE_FUNCTION void require_ids(const ModelEntries& entries, const JsonConfig& model) {
  if (entries.kind == ModelEntries::Kind::kIds) return;
  const std::string where = model.name() + ": vocab";
  if (entries.kind == ModelEntries::Kind::kScores) throw Error(where, "wrong type", {.expected = "an object from token to id", .got = "an array"});
  throw Error(where, model.has("vocab") ? "wrong type" : "is missing", {.expected = "an object from token to id"});
}

DELTATUNE_FUNCTION void fill_vocabulary(const ModelEntries& entries, const std::string& where, TokenTable& vocabulary_out) {
  vocabulary_out.reserve(entries.tokens.size());
  for (std::size_t i = 0; i < entries.tokens.size(); ++i)
    vocabulary_out.add(entries.tokens[i], token_id(entries.ids[i], where + "." + std::string(entries.tokens[i])));
}

DELTATUNE_FUNCTION BpeModel make_bpe(const TokenTable& vocabulary, BpeModel::Options options, const StringPool& merges) {
  BpeModel model(vocabulary, std::move(options));
  model.reserve_merges(merges.size() / 2);
  for (std::size_t i = 0; i + 1 < merges.size(); i += 2) model.add_merge(vocabulary, merges[i], merges[i + 1], static_cast<std::uint32_t>(i / 2));
  return model;
}

DELTATUNE_FUNCTION void read_bpe(const JsonConfig& model, const ModelEntries& entries, TokenizerParts& parts_io) {
  if (const double dropout = model.get_or("dropout", 0.0); dropout != 0) {
    throw Error(model.name() + ": dropout", "not supported",
                {.expected = "null or 0", .got = model.raw().at("dropout").dump(), .remedy = "with dropout a text has other ids every time"});
  }
  require_ids(entries, model);
  if (!entries.has_merges) {
    const nlohmann::json merges = model.has("merges") ? model.raw().at("merges") : nlohmann::json();
    throw Error(model.name() + ": merges", "wrong type", {.expected = "a list of merges", .got = describe(merges)});
  }
  fill_vocabulary(entries, model.name() + ": vocab", parts_io.vocabulary);
  BpeModel::Options options;
  options.unknown = model.get_or<std::string>("unk_token", "");
  options.continuing_prefix = model.get_or<std::string>("continuing_subword_prefix", "");
  options.word_suffix = model.get_or<std::string>("end_of_word_suffix", "");
  options.byte_fallback = model.get_or("byte_fallback", false);
  options.fuse_unknown = model.get_or("fuse_unk", false);
  options.ignore_merges = model.get_or("ignore_merges", false);
  const bool is_plain = options.continuing_prefix.empty() && options.word_suffix.empty() && !options.byte_fallback;
  options.takes_bytes = is_plain && keeps_bytes(parts_io.pre_tokenizer);
  options.where = model.name();
  parts_io.model = make_bpe(parts_io.vocabulary, std::move(options), entries.merges);
}

DELTATUNE_FUNCTION void read_word_piece(const JsonConfig& model, const ModelEntries& entries, TokenizerParts& parts_io) {
  require_ids(entries, model);
  fill_vocabulary(entries, model.name() + ": vocab", parts_io.vocabulary);
  parts_io.unknown_of_model = model.get<std::string>("unk_token");
  const std::int32_t unknown = parts_io.vocabulary.find(parts_io.unknown_of_model);
  if (unknown == TokenTable::kNone) {
    throw Error(model.name() + ": unk_token", "the unknown token " + parts_io.unknown_of_model + " is not in the vocabulary");
  }
  const std::int64_t longest = model.get_or<std::int64_t>("max_input_chars_per_word", 100);
  if (longest < 0) throw Error(model.name() + ": max_input_chars_per_word", "is negative", {.got = std::to_string(longest)});
  parts_io.model =
      WordPieceModel(parts_io.vocabulary, model.get_or<std::string>("continuing_subword_prefix", "##"), unknown, static_cast<std::size_t>(longest));
}

DELTATUNE_FUNCTION void read_unigram(const JsonConfig& model, const ModelEntries& entries, TokenizerParts& parts_io) {
  const std::string where = model.name() + ": vocab";
  if (entries.kind != ModelEntries::Kind::kScores) {
    throw Error(where, model.has("vocab") || entries.kind == ModelEntries::Kind::kIds ? "wrong type" : "is missing",
                {.expected = "a list of tokens and their scores"});
  }
  std::int32_t unknown = TokenTable::kNone;
  if (model.has("unk_id")) {
    unknown = token_id(model.get<std::int64_t>("unk_id"), model.name() + ": unk_id");
    if (static_cast<std::size_t>(unknown) >= entries.tokens.size()) {
      throw Error(model.name() + ": unk_id", "is not in the vocabulary",
                  {.expected = "less than " + std::to_string(entries.tokens.size()), .got = std::to_string(unknown)});
    }
  }
  parts_io.vocabulary.reserve(entries.tokens.size());
  for (std::size_t i = 0; i < entries.tokens.size(); ++i) parts_io.vocabulary.add(entries.tokens[i], static_cast<std::int32_t>(i));
  parts_io.model = UnigramModel(parts_io.vocabulary, entries.scores, unknown, model.get_or("byte_fallback", false), model.name());
}

DELTATUNE_FUNCTION void read_word_level(const JsonConfig& model, const ModelEntries& entries, TokenizerParts& parts_io) {
  require_ids(entries, model);
  fill_vocabulary(entries, model.name() + ": vocab", parts_io.vocabulary);
  parts_io.unknown_of_model = model.get<std::string>("unk_token");
  parts_io.model = WordLevelModel(parts_io.vocabulary, parts_io.unknown_of_model, model.name());
}

// Older files leave the type out.
DELTATUNE_FUNCTION std::string model_type(const JsonConfig& model, const ModelEntries& entries) {
  if (model.has("type")) return model.get<std::string>("type");
  if (entries.has_merges) return "BPE";
  if (entries.kind == ModelEntries::Kind::kScores) return "Unigram";
  return model.has("max_input_chars_per_word") || model.has("continuing_subword_prefix") ? "WordPiece" : "WordLevel";
}

// The tokens of "added_tokens". A token of the model has its id; others follow the vocabulary, in their order.
DELTATUNE_FUNCTION void read_added_tokens(const JsonConfig& file, TokenizerParts& parts_io) {
  for (const JsonConfig& entry : json_entries(file, "added_tokens")) {
    AddedToken token = read_added_token(entry, entry.get<std::int64_t>("id"));
    if (token.content.empty()) continue;
    const std::string where = file.name() + ": added_tokens";
    require_id(find_token(parts_io, token.content), token, where);
    add_token(std::move(token), where, parts_io);
  }
}

// The added tokens of tokenizer_config.json, an object from id to token. They may be special tokens again, with other settings.
DELTATUNE_FUNCTION void read_added_tokens_decoder(const JsonConfig& section, TokenizerParts& parts_io) {
  for (const auto& [key, entry] : section.raw().items()) {
    const JsonConfig config = json_entry(entry, section.name() + "." + key);
    std::int64_t id = -1;
    const auto [end, failure] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (failure != std::errc{} || end != key.data() + key.size()) throw Error(config.name(), "not a token id", {.expected = "a number"});
    add_token(read_added_token(config, id), config.name(), parts_io);
  }
}

// Which tokens begin, end and pad a text, as the files beside tokenizer.json say.
DELTATUNE_FUNCTION void read_ends(const std::vector<JsonConfig>& files, TokenizerParts& parts_io) {
  constexpr const char* kEndOfText = "<|endoftext|>";  // what ends a text unless a file says otherwise
  if (find_token(parts_io, kEndOfText) != TokenTable::kNone) parts_io.eos_token = kEndOfText;
  for (const auto& [key, token] :
       {std::pair("bos_token", &parts_io.bos_token), std::pair("eos_token", &parts_io.eos_token), std::pair("pad_token", &parts_io.pad_token)}) {
    const JsonConfig* const file = file_with(files, key);
    if (file == nullptr) continue;
    *token = token_content(*file, key);
    if (find_token(parts_io, *token) != TokenTable::kNone) continue;
    if (token == &parts_io.bos_token) {  // which nothing here needs
      token->clear();
    } else {
      throw Error(file->name() + ": " + key, "not a token of this tokenizer", {.got = "\"" + *token + "\""});
    }
  }
}

// The parts that the text of a tokenizer.json describes; `name` stands for it in messages.
DELTATUNE_FUNCTION TokenizerParts read_tokenizer_json(std::string_view text, const std::string& name, const RegexCompiler& compiler) {
  ModelEntries entries;
  const std::size_t zero = text.find('\0');  // the parser would take it for the end
  if (zero != std::string_view::npos) throw Error(name, "not valid JSON at " + line_and_column(text, zero) + ": a zero byte", {.expected = "text in UTF-8"});
  TokenizerJsonReader reader(text, name, entries);
  sax_parse<JsonBuilder>(text, reader);  // by its virtual functions: one parser is enough
  const JsonConfig file = JsonConfig::of(std::move(reader.root()), name);

  TokenizerParts parts;
  parts.name = name;
  if (file.has("normalizer")) {
    std::vector<NormalizerStep> steps;
    for (const JsonConfig& stage : stages(file.object("normalizer"), "normalizers")) steps.push_back(read_normalizer_step(stage, compiler));
    parts.normalizer = Normalizer(std::move(steps));
  }
  if (file.has("pre_tokenizer")) {
    std::vector<PreTokenizerStep> steps;
    for (const JsonConfig& stage : stages(file.object("pre_tokenizer"), "pretokenizers")) steps.push_back(read_pre_tokenizer_step(stage, compiler));
    parts.pre_tokenizer = PreTokenizer(std::move(steps));
  }
  const JsonConfig model = file.object("model");
  const std::string type = model_type(model, entries);
  if (type == "BPE") {
    read_bpe(model, entries, parts);
  } else if (type == "WordPiece") {
    read_word_piece(model, entries, parts);
  } else if (type == "Unigram") {
    read_unigram(model, entries, parts);
  } else if (type == "WordLevel") {
    read_word_level(model, entries, parts);
  } else {
    throw_unknown_stage(model, "WordPiece, BPE, Unigram or WordLevel");
  }
  read_added_tokens(file, parts);
  if (file.has("post_processor")) parts.post_processor = read_post_processor(file.object("post_processor"));
  if (file.has("decoder")) {
    std::vector<DecoderStep> steps;
    for (const JsonConfig& stage : stages(file.object("decoder"), "decoders")) steps.push_back(read_decoder_step(stage, compiler));
    if (steps.empty()) steps.push_back(FuseDecoder{});
    parts.decoder = Decoder(std::move(steps));
  }
  return parts;
}

DELTATUNE_FUNCTION TokenizerParts read_tokenizer_json(const std::filesystem::path& path, const RegexCompiler& compiler) {
  const MappedFile file(path);
  TokenizerParts parts = read_tokenizer_json(file.text(), path.string(), compiler);
  read_ends(special_token_files(path.parent_path()), parts);
  return parts;
}

}  // namespace deltatune::detail
