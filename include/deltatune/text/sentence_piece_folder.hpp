// The tokenizer of a folder that has a SentencePiece model and no tokenizer.json, as transformers 4.57 makes it of the two (convert_slow_tokenizer.py): the
// vocabulary, the stages around it and the special tokens are those of the model's family.
#pragma once

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/sort_stably.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/text/sentence_piece.hpp"
#include "deltatune/text/tokenizer_json.hpp"
#include "deltatune/text/tokenizer_parts.hpp"
#include "deltatune/text/unicode.hpp"

namespace deltatune::detail {

inline constexpr std::array kSentencePieceFiles{"tokenizer.model", "spiece.model", "sentencepiece.bpe.model"};
inline constexpr const char* kSentencePieceFamilies = "an XLM-RoBERTa, CamemBERT, ALBERT, T5, mT5, Llama, Mistral or Gemma";

// The vocabulary of a family: what stands before the pieces, the first piece that is taken, what stands behind.
struct ScoredToken {
  std::string text;
  double score = 0;
};

class SentencePieceFolder {
 public:
  SentencePieceFolder(const std::filesystem::path& folder, const std::filesystem::path& file, std::string family)
      : family_(std::move(family)), model_(read_sentence_piece(file)), files_(special_token_files(folder)) {
    parts_.name = file.string();
  }

  DELTATUNE_FUNCTION TokenizerParts read() {
    fill_vocabulary();
    for (std::size_t i = 0; i < tokens_.size(); ++i) parts_.vocabulary.add(tokens_[i].text, static_cast<std::int32_t>(i));
    set_stages();
    set_model();
    for (const SentencePiece& piece : model_.pieces) {
      const bool is_control = piece.type == SentencePiece::Type::kControl;
      if (is_control || piece.type == SentencePiece::Type::kUserDefined) add(piece.text, is_control || is_turn(piece.text));
    }
    add_special_tokens();
    return std::move(parts_);
  }

 private:
  bool is_gemma() const { return family_.starts_with("gemma"); }
  bool is_llama() const { return family_ == "llama" || family_ == "mistral"; }
  bool is_albert() const { return family_ == "albert"; }
  bool is_t5() const { return family_ == "t5" || family_ == "mt5"; }
  bool is_turn(std::string_view token) const { return is_gemma() && (token == "<start_of_turn>" || token == "<end_of_turn>"); }

  template <class T>
  T setting(const char* key, T fallback) const {
    const JsonConfig* const file = file_with(files_, key);
    return file == nullptr ? fallback : file->get<T>(key);
  }

  DELTATUNE_FUNCTION std::string token(const char* key, const char* fallback) const {
    const JsonConfig* const file = file_with(files_, key);
    return file == nullptr ? fallback : token_content(*file, key);
  }

  void add_pieces(std::size_t from) {
    if (model_.pieces.size() < from) throw Error(parts_.name, "has too few pieces", {.expected = "at least " + std::to_string(from)});
    for (std::size_t i = from; i < model_.pieces.size(); ++i) tokens_.push_back({model_.pieces[i].text, model_.pieces[i].score});
  }

  // "12,": such pieces are as good as never taken.
  static bool ends_a_number(std::string_view text) {
    if (text.size() < 2 || !text.ends_with(',')) return false;
    std::size_t last = text.size() - 2;
    while (last > 0 && is_utf8_continuation(text[last])) --last;
    return utf8proc_category(unicode::detail::to_utf8proc(decode_utf8(text, last).code_point)) == UTF8PROC_CATEGORY_ND;
  }

  DELTATUNE_FUNCTION void fill_vocabulary() {
    if (family_ == "xlm-roberta") {
      tokens_ = {{"<s>"}, {"<pad>"}, {"</s>"}, {"<unk>"}};
      add_pieces(3);
      tokens_.push_back({"<mask>"});
      unknown_ = 3;
    } else if (family_ == "camembert") {
      tokens_ = {{"<s>NOTUSED"}, {"<pad>"}, {"</s>NOTUSED"}, {"<unk>"}, {"<unk>NOTUSED", -100}};
      add_pieces(1);
      tokens_.push_back({"<mask>"});
      unknown_ = 3;
    } else if (is_albert()) {
      add_pieces(0);
      for (ScoredToken& token : tokens_)
        if (ends_a_number(token.text)) token.score -= 100;
      unknown_ = model_.unknown;
    } else if (is_t5()) {
      add_pieces(0);
      constexpr std::int64_t kExtra = 100;
      const std::int64_t extra = setting("extra_ids", kExtra);
      if (extra < 0 || extra > 1'000'000)
        throw Error(parts_.name + ": extra_ids", "is not a number of tokens", {.expected = "0 to 1000000", .got = std::to_string(extra)});
      for (std::int64_t i = extra; i-- > 0;) tokens_.push_back({"<extra_id_" + std::to_string(i) + ">"});
      unknown_ = model_.unknown;
    } else {
      add_pieces(0);
      if (tokens_.size() < 4) throw Error(parts_.name, "has too few pieces", {.expected = "at least 4"});
      if (is_gemma()) {
        tokens_[0].text = token("pad_token", "<pad>");
        tokens_[1].text = token("eos_token", "<eos>");
        tokens_[2].text = token("bos_token", "<bos>");
        const auto is = [](std::string_view text) { return [text](const ScoredToken& each) { return each.text == text; }; };
        const auto tab = std::find_if(tokens_.begin(), tokens_.end(), is("<0x09>"));
        if (tab != tokens_.end() && std::none_of(tokens_.begin(), tokens_.end(), is("\t"))) *tab = {"\t"};
      }
      for (std::size_t i = 0; i < 3; ++i) tokens_[i].score = 0;
      unknown_ = is_gemma() ? 3 : 0;
    }
  }

  DELTATUNE_FUNCTION void set_stages() {
    const bool legacy = setting("legacy", true), adds_prefix_space = setting("add_prefix_space", true);
    const PrependScheme scheme = !adds_prefix_space                   ? PrependScheme::kNever
                                 : (is_llama() || is_t5()) && !legacy ? PrependScheme::kFirst
                                                                      : PrependScheme::kAlways;
    const std::string mark = "\u2581";
    const ReplaceStep marks{TextPattern::literal(" "), mark};
    const ReplaceDecoder blanks{TextPattern::literal(mark), " "};
    if (is_gemma()) {
      parts_.normalizer = Normalizer({marks});
      parts_.pre_tokenizer = PreTokenizer({PatternSplit{TextPattern::literal(" "), SplitBehavior::kMergedWithPrevious}});
      parts_.decoder = Decoder({blanks, ByteFallbackDecoder{}, FuseDecoder{}});
      return;
    }
    if (is_llama()) {
      if (!legacy) {
        parts_.pre_tokenizer = PreTokenizer({Metaspace{mark, scheme, false}});
      } else if (adds_prefix_space) {
        parts_.normalizer = Normalizer({PrependStep{mark}, marks});
      } else {
        parts_.normalizer = Normalizer({marks});
      }
      std::vector<DecoderStep> steps{blanks, ByteFallbackDecoder{}, FuseDecoder{}};
      if (adds_prefix_space) steps.push_back(StripDecoder{" ", 1, 0});
      parts_.decoder = Decoder(std::move(steps));
      return;
    }
    std::vector<NormalizerStep> steps;
    if (is_albert()) {
      for (const char* const quote : {"``", "''"}) steps.push_back(ReplaceStep{TextPattern::literal(quote), "\""});
      if (!setting("keep_accents", false)) {
        steps.push_back(NormalForm::kNfkd);
        steps.push_back(StripAccentsStep{});
      }
      if (setting("do_lower_case", true)) steps.push_back(LowercaseStep{});
    }
    if (!model_.charsmap.empty()) steps.push_back(std::make_shared<const Charsmap>(model_.charsmap, parts_.name + ": normalizer_spec: precompiled_charsmap"));
    if (!is_albert()) steps.push_back(StripStep{false, true});
    steps.push_back(ReplaceStep{TextPattern::regex(" {2,}", parts_.name, nullptr), is_albert() ? " " : mark});
    parts_.normalizer = Normalizer(std::move(steps));
    parts_.pre_tokenizer = PreTokenizer({Metaspace{mark, scheme, true}});
    parts_.decoder = Decoder({MetaspaceDecoder{mark, scheme != PrependScheme::kNever}});
  }

  DELTATUNE_FUNCTION void set_model() {
    const bool byte_fallback = is_gemma() || is_llama();
    if (model_.type == SentencePieceModel::Type::kUnigram) {
      if (unknown_ < 0 || static_cast<std::size_t>(unknown_) >= tokens_.size()) {
        throw Error(parts_.name + ": trainer_spec: unk_id", "is not in the vocabulary", {.got = std::to_string(unknown_)});
      }
      std::vector<double> scores;
      for (const ScoredToken& token : tokens_) scores.push_back(token.score);
      parts_.model = UnigramModel(parts_.vocabulary, std::move(scores), static_cast<std::int32_t>(unknown_), byte_fallback, parts_.name);
      return;
    }
    BpeModel::Options options;
    options.unknown = model_.unknown_piece;
    options.fuse_unknown = true;
    options.byte_fallback = byte_fallback;
    options.where = parts_.name;
    parts_.model = make_bpe(parts_.vocabulary, std::move(options), merges());
  }

  // A merge for each way to put a piece together of two others: those of the best scores first, of equal ones those with the longer left part.
  DELTATUNE_FUNCTION StringPool merges() const {
    struct Merge {
      std::size_t token, left_bytes, left, right;  // the latter two in code points
      std::int32_t left_id, right_id;
    };
    TokenTable pieces;  // of the file, as SentencePiece numbers them
    pieces.reserve(model_.pieces.size());
    for (std::size_t i = 0; i < model_.pieces.size(); ++i) pieces.add(model_.pieces[i].text, static_cast<std::int32_t>(i));
    if (is_gemma() && pieces.find("\t") == TokenTable::kNone && pieces.find("<0x09>") != TokenTable::kNone) pieces.add("\t", pieces.find("<0x09>"));
    std::vector<Merge> merges;
    for (std::size_t t = 0; t < tokens_.size(); ++t) {
      const std::string_view text = tokens_[t].text;
      const std::size_t first = merges.size();
      std::size_t characters = 0;
      for (const char byte : text) characters += is_utf8_continuation(byte) ? 0 : 1;
      std::size_t left = 0;
      for (std::size_t at = decode_utf8(text, 0).bytes; at < text.size(); at += decode_utf8(text, at).bytes) {
        ++left;
        const std::int32_t left_id = pieces.find(text.substr(0, at)), right_id = pieces.find(text.substr(at));
        if (left_id != TokenTable::kNone && right_id != TokenTable::kNone) merges.push_back({t, at, left, characters - left, left_id, right_id});
      }
      sort_stably(merges.begin() + static_cast<std::ptrdiff_t>(first), merges.end(),
                  [](const Merge& a, const Merge& b) { return std::pair(a.left_id, a.right_id) < std::pair(b.left_id, b.right_id); });
    }
    sort_stably(merges.begin(), merges.end(), [this](const Merge& a, const Merge& b) {
      const double score_a = tokens_[a.token].score, score_b = tokens_[b.token].score;
      return score_a != score_b ? score_a > score_b : std::pair(a.left, a.right) > std::pair(b.left, b.right);
    });
    StringPool pool;
    for (const Merge& merge : merges) {
      const std::string_view text = tokens_[merge.token].text;
      pool.add(text.substr(0, merge.left_bytes));
      pool.add(text.substr(merge.left_bytes));
    }
    return pool;
  }

  // A token becomes one that is found in texts; one that the vocabulary does not have follows it.
  DELTATUNE_FUNCTION void add(const std::string& content, bool special, bool lstrip = false) {
    if (content.empty()) return;
    std::int32_t id = find_token(parts_, content);
    if (id == TokenTable::kNone) {
      id = static_cast<std::int32_t>(tokens_.size());
      for (const AddedToken& other : parts_.added_tokens) id = std::max(id, other.id + 1);
    }
    add_token({.content = content, .id = id, .lstrip = lstrip, .special = special}, parts_.name, parts_);
  }

  DELTATUNE_FUNCTION TemplateItem fixed(const std::string& token, const char* key, std::int32_t type) const {
    const std::int32_t id = find_token(parts_, token);
    if (id == TokenTable::kNone) throw Error(parts_.name, "has no token " + token, {.remedy = std::string(key) + " in tokenizer_config.json names it"});
    return {.ids = {id}, .tokens = {token}, .type = type};
  }

  DELTATUNE_FUNCTION void add_special_tokens() {
    const bool is_roberta = family_ == "xlm-roberta" || family_ == "camembert";
    const std::string bos = token("bos_token", is_gemma() ? "<bos>" : is_albert() ? "[CLS]" : "<s>");
    const std::string eos = token("eos_token", is_gemma() ? "<eos>" : is_albert() ? "[SEP]" : "</s>");
    const std::string pad = token("pad_token", is_llama() ? "" : "<pad>");
    if (!is_t5()) add(bos, true);
    add(eos, true);
    add(token("unk_token", "<unk>"), true);
    add(pad, true);
    if (is_roberta) {
      add(token("sep_token", "</s>"), true);
      add(token("cls_token", "<s>"), true);
      add(token("mask_token", "<mask>"), true, true);
      if (family_ == "camembert")
        for (const char* const unused : {"<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"}) add(unused, true);
    }
    if (is_albert()) {
      add(token("sep_token", "[SEP]"), true);
      add(token("cls_token", "[CLS]"), true);
      add(token("mask_token", "[MASK]"), true, true);
    }
    if (is_t5())
      for (const ScoredToken& each : tokens_)
        if (each.text.starts_with("<extra_id_")) add(each.text, true);
    if (const JsonConfig* const file = file_with(files_, "added_tokens_decoder")) read_added_tokens_decoder(file->object("added_tokens_decoder"), parts_);
    set_frame(bos, eos, is_roberta);
    const auto known = [this](const std::string& token) { return find_token(parts_, token) == TokenTable::kNone ? std::string() : token; };
    if (!is_t5()) parts_.bos_token = known(bos);
    parts_.eos_token = known(eos);
    parts_.pad_token = known(pad);
  }

  DELTATUNE_FUNCTION void set_frame(const std::string& bos, const std::string& eos, bool is_roberta) {
    PostProcessor& processor = parts_.post_processor;
    if (is_roberta) return set_roberta_template(fixed("<s>", "cls_token", 0), fixed("</s>", "sep_token", 0), processor);
    if (is_albert()) return set_bert_template(fixed("[CLS]", "cls_token", 0), fixed("[SEP]", "sep_token", 0), processor);
    if (is_t5()) {
      const TemplateItem end = fixed(eos, "eos_token", 0);
      processor.single = {{.kind = TemplateItem::Kind::kFirst}, end};
      processor.pair = {{.kind = TemplateItem::Kind::kFirst}, end, {.kind = TemplateItem::Kind::kSecond}, end};
      return;
    }
    const bool begins = setting("add_bos_token", true), ends = setting("add_eos_token", false);
    processor.single.clear();
    processor.pair.clear();
    for (const std::int32_t type : {0, 1}) {
      std::vector<TemplateItem> items;
      if (begins) items.push_back(fixed(bos, "bos_token", type));
      items.push_back({.kind = type == 0 ? TemplateItem::Kind::kFirst : TemplateItem::Kind::kSecond, .type = type});
      if (ends) items.push_back(fixed(eos, "eos_token", type));
      if (type == 0) processor.single = items;
      processor.pair.insert(processor.pair.end(), items.begin(), items.end());
    }
  }

  std::string family_;
  SentencePieceModel model_;
  std::vector<JsonConfig> files_;
  TokenizerParts parts_;
  std::vector<ScoredToken> tokens_;
  std::int64_t unknown_ = 0;
};

// `family`: the model_type of config.json, or what the class of the tokenizer says.
DELTATUNE_FUNCTION bool is_sentence_piece_family(const std::string& family) {
  constexpr std::array kKnown{"xlm-roberta", "camembert", "albert", "t5", "mt5", "llama", "mistral", "gemma", "gemma2", "gemma3", "gemma3_text"};
  return std::find(kKnown.begin(), kKnown.end(), family) != kKnown.end();
}

}  // namespace deltatune::detail
