// The tokenizer of a model folder: tokenizer.json, else the older files of a family whose tokenizer is known, with the settings of tokenizer_config.json,
// special_tokens_map.json and added_tokens.json beside them. As the converters of transformers 4.57 make them (convert_slow_tokenizer.py).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/text/sentence_piece_folder.hpp"
#include "deltatune/text/tokenizer_json.hpp"
#include "deltatune/text/tokenizer_parts.hpp"

namespace deltatune::detail {

// Calls visit(number, line) for each line, counted from 1, without its end.
template <class Visit>
void for_each_line(std::string_view text, Visit&& visit) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    visit(number, line);
  }
}

// The name that the settings have for a special token, else `fallback`; a token of the vocabulary is found in texts, too.
DELTATUNE_FUNCTION std::string read_special_token(const std::vector<JsonConfig>& files, const char* key, const std::string& fallback,
                                                  TokenizerParts& parts_io) {
  const JsonConfig* const file = file_with(files, key);
  const std::string content = file == nullptr ? fallback : token_content(*file, key);
  const std::int32_t id = parts_io.vocabulary.find(content);
  if (id == TokenTable::kNone || parts_io.added_ids.contains(content)) return content;
  AddedToken token{.content = content, .id = id};
  if (file != nullptr && file->raw().at(key).is_object()) token = read_added_token(file->object(key), id);
  token.special = true;
  add_token(std::move(token), parts_io.name, parts_io);
  return content;
}

DELTATUNE_FUNCTION TemplateItem fixed_token(const std::string& token, const char* key, std::int32_t type, const TokenizerParts& parts) {
  const std::int32_t id = find_token(parts, token);
  if (id == TokenTable::kNone) {
    throw Error(parts.name, "has no token " + token, {.remedy = std::string(key) + " in tokenizer_config.json names it"});
  }
  return {.ids = {id}, .tokens = {token}, .type = type};
}

// vocab.txt of BERT and its relatives: one token per line, the line number is the id.
DELTATUNE_FUNCTION TokenizerParts read_vocab_txt(const std::filesystem::path& folder, const std::string& family) {
  const std::filesystem::path path = folder / "vocab.txt";
  const MappedFile file(path);
  TokenizerParts parts;
  parts.name = path.string();
  for_each_line(file.text(), [&](std::size_t number, std::string_view line) {
    if (std::string copy(line); deltatune::replace_invalid_utf8(copy) > 0) {
      throw Error(parts.name + ": line " + std::to_string(number), "not UTF-8", {.remedy = "the file is damaged; fetch it again"});
    }
    parts.vocabulary.add(line, static_cast<std::int32_t>(number - 1));
  });
  const std::vector<JsonConfig> files = special_token_files(folder);
  const auto setting = [&files](const char* key, bool fallback) {
    const JsonConfig* const settings = file_with(files, key);
    return settings == nullptr ? fallback : settings->get<bool>(key);
  };
  BertNormalizer normalizer;
  normalizer.lowercase = setting("do_lower_case", true);
  normalizer.handle_chinese_chars = setting("tokenize_chinese_chars", true);
  if (file_with(files, "strip_accents") != nullptr) normalizer.strip_accents = setting("strip_accents", false);
  parts.normalizer = Normalizer({normalizer});
  parts.pre_tokenizer = PreTokenizer({BertSplit{}});
  parts.decoder = Decoder({WordPieceDecoder{}});

  const bool is_mpnet = family == "mpnet";
  if (const JsonConfig* const settings = file_with(files, "added_tokens_decoder")) read_added_tokens_decoder(settings->object("added_tokens_decoder"), parts);
  parts.unknown_of_model = read_special_token(files, "unk_token", "[UNK]", parts);
  const std::string sep = read_special_token(files, "sep_token", is_mpnet ? "</s>" : "[SEP]", parts);
  parts.pad_token = read_special_token(files, "pad_token", is_mpnet ? "<pad>" : "[PAD]", parts);
  const std::string cls = read_special_token(files, "cls_token", is_mpnet ? "<s>" : "[CLS]", parts);
  read_special_token(files, "mask_token", is_mpnet ? "<mask>" : "[MASK]", parts);
  if (find_token(parts, parts.pad_token) == TokenTable::kNone) parts.pad_token.clear();
  const TemplateItem begin = fixed_token(cls, "cls_token", 0, parts), end = fixed_token(sep, "sep_token", 0, parts);
  if (is_mpnet) {
    set_roberta_template(begin, end, parts.post_processor);
    for (std::size_t i = 4; i < 6; ++i) parts.post_processor.pair[i].type = 1;
  } else {
    set_bert_template(begin, end, parts.post_processor);
  }
  const std::int32_t unknown = parts.vocabulary.find(parts.unknown_of_model);
  if (unknown == TokenTable::kNone) throw Error(parts.name, "the unknown token " + parts.unknown_of_model + " is not in the vocabulary");
  constexpr std::size_t kLongestWord = 100;
  parts.model = WordPieceModel(parts.vocabulary, "##", unknown, kLongestWord);
  return parts;
}

// vocab.json and merges.txt of GPT-2 or RoBERTa.
DELTATUNE_FUNCTION TokenizerParts read_vocab_and_merges(const std::filesystem::path& folder, const std::string& family) {
  const std::filesystem::path vocabulary_path = folder / "vocab.json", merges_path = folder / "merges.txt";
  const bool is_roberta = family == "roberta";
  TokenizerParts parts;
  parts.name = vocabulary_path.string();
  const JsonConfig vocabulary = JsonConfig::open(vocabulary_path);
  const auto id_in = [](const JsonConfig& file, const nlohmann::json& value, const std::string& token) {
    const std::string where = file.name() + ": " + token;
    return token_id(json_value<std::int64_t>(value, where), where);
  };
  for (const auto& [token, id] : vocabulary.raw().items()) parts.vocabulary.add(token, id_in(vocabulary, id, token));

  StringPool merges;
  const MappedFile merges_file(merges_path);
  for_each_line(merges_file.text(), [&](std::size_t number, std::string_view line) {
    if (line.starts_with("#version")) return;
    const auto [left, right] = split_merge(line, merges_path.string() + ": line " + std::to_string(number));
    merges.add(left);
    merges.add(right);
  });

  if (std::filesystem::exists(folder / "added_tokens.json")) {
    const JsonConfig added = JsonConfig::open(folder / "added_tokens.json");
    for (const auto& [token, id] : added.raw().items()) add_token({.content = token, .id = id_in(added, id, token)}, added.name(), parts);
  }
  const std::vector<JsonConfig> files = special_token_files(folder);
  if (const JsonConfig* const file = file_with(files, "added_tokens_decoder")) read_added_tokens_decoder(file->object("added_tokens_decoder"), parts);
  const JsonConfig* const prefix = file_with(files, "add_prefix_space");
  const bool adds_prefix_space = prefix != nullptr && prefix->get<bool>("add_prefix_space");

  const std::string end_of_text = "<|endoftext|>";
  for (const char* const key : {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"})
    if (file_with(files, key) != nullptr) read_special_token(files, key, "", parts);
  const std::string bos = read_special_token(files, "bos_token", is_roberta ? "<s>" : end_of_text, parts);
  const std::string eos = read_special_token(files, "eos_token", is_roberta ? "</s>" : end_of_text, parts);
  read_special_token(files, "unk_token", is_roberta ? "<unk>" : end_of_text, parts);
  read_special_token(files, "pad_token", is_roberta ? "<pad>" : "", parts);
  const std::string sep = read_special_token(files, "sep_token", is_roberta ? "</s>" : "", parts);
  const std::string cls = read_special_token(files, "cls_token", is_roberta ? "<s>" : "", parts);
  const std::string mask = read_special_token(files, "mask_token", is_roberta ? "<mask>" : "", parts);

  parts.pre_tokenizer = PreTokenizer({ByteLevelSplit{.add_prefix_space = adds_prefix_space, .keeps_bytes = true}});
  parts.decoder = Decoder({ByteLevelDecoder{}});
  if (is_roberta) {
    if (file_with(files, "mask_token") == nullptr) {  // takes the blank before it unless the settings say otherwise
      for (AddedToken& token : parts.added_tokens)
        if (token.content == mask) token.lstrip = true;
    }
    set_roberta_template(fixed_token(cls, "cls_token", 0, parts), fixed_token(sep, "sep_token", 0, parts), parts.post_processor);
    parts.post_processor.trims_adding_prefix_space.push_back(adds_prefix_space);
    parts.bos_token = bos;
    parts.eos_token = eos;
  }
  if (const JsonConfig* const file = file_with(files, "add_bos_token"); file != nullptr && file->get<bool>("add_bos_token") && !is_roberta) {
    if (find_token(parts, bos) == TokenTable::kNone) {
      throw Error(file->name() + ": add_bos_token", "the token to begin with is not in the vocabulary", {.got = "\"" + bos + "\""});
    }
    auto& processor = parts.post_processor;
    const TemplateItem begin = fixed_token(bos, "bos_token", 0, parts);
    processor.single.insert(processor.single.begin(), begin);
    processor.pair.insert(processor.pair.begin(), begin);
    processor.pair.insert(processor.pair.end() - 1, begin);
    processor.pair[2].type = 1;
  }
  read_ends(files, parts);
  BpeModel::Options options;
  options.takes_bytes = true;
  options.where = parts.name;
  parts.model = make_bpe(parts.vocabulary, std::move(options), merges);
  return parts;
}

// The model_type of a folder's config.json, else what the class in tokenizer_config.json is for; "" where nothing says it.
DELTATUNE_FUNCTION std::string family_in(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "config.json")) return JsonConfig::open(folder / "config.json").get_or<std::string>("model_type", "");
  if (!std::filesystem::exists(folder / "tokenizer_config.json")) return "";
  std::string name = JsonConfig::open(folder / "tokenizer_config.json").get_or<std::string>("tokenizer_class", "");
  for (const std::string_view end : {"Fast", "Tokenizer"})
    if (name.ends_with(end)) name.resize(name.size() - end.size());
  constexpr std::pair<const char*, const char*> kFamilies[] = {
      {"GPT2", "gpt2"}, {"Roberta", "roberta"}, {"MPNet", "mpnet"}, {"XLMRoberta", "xlm-roberta"}, {"Camembert", "camembert"},
      {"T5", "t5"},     {"MT5", "mt5"},         {"Llama", "llama"}, {"Albert", "albert"},          {"Gemma", "gemma"}};
  for (const auto& [tokenizer, family] : kFamilies)
    if (name == tokenizer) return family;
  return "";
}

// `path`: a tokenizer.json, or the folder of a model.
DELTATUNE_FUNCTION TokenizerParts read_tokenizer(const std::filesystem::path& path, const RegexCompiler& compiler) {
  if (std::filesystem::is_regular_file(path)) return read_tokenizer_json(path, compiler);
  const auto exists = [&path](const char* name) { return std::filesystem::exists(path / name); };
  if (exists("tokenizer.json")) return read_tokenizer_json(path / "tokenizer.json", compiler);
  const std::string family = family_in(path);
  const auto unknown_family = [&](const char* file, const char* known) {
    return Error((path / file).string(), "does not say how " + (family.empty() ? "this" : "a " + family) + " model cuts a text into tokens",
                 {.expected = std::string("tokenizer.json, or the folder of ") + known});
  };
  if (exists("vocab.json")) {
    if (!family.empty() && family != "gpt2" && family != "roberta") throw unknown_family("vocab.json", "a GPT-2 or RoBERTa");
    return read_vocab_and_merges(path, family);
  }
  if (exists("vocab.txt")) return read_vocab_txt(path, family);
  for (const char* const name : kSentencePieceFiles) {
    if (!exists(name)) continue;
    if (!is_sentence_piece_family(family)) throw unknown_family(name, kSentencePieceFamilies);
    return SentencePieceFolder(path, path / name, family).read();
  }
  throw Error(path.string(), std::filesystem::is_directory(path) ? "no tokenizer in this folder" : "no such file or folder",
              {.expected = "tokenizer.json, or vocab.txt, or vocab.json and merges.txt, or a SentencePiece model",
               .remedy = "give the folder of a Hugging Face model"});
}

}  // namespace deltatune::detail
