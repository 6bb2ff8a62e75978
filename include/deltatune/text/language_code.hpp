// Language codes: the tokens of mBART and its like that say which language a text is in, "en_XX". Liu et al. 2020, arXiv 2001.08210; mBART-50: Tang et al.
// 2020, arXiv 2008.00401. As transformers' MBartTokenizer and MBart50Tokenizer:
//
//   mBART     source  X </s> en_XX   target  X </s> ro_RO, whose last token the decoder reads first    generation starts with ro_RO
//   mBART-50  source  en_XX X </s>   target  ro_RO X </s>, behind the start token                      generation is made to write ro_RO first
//
//   const Tokenizer source = in_language(tokenizer, "en_XX"), target = in_language(tokenizer, "ro_RO");
//   data.add(teacher_forced(source.encode(from), target.encode(to), model.architecture()));
//   const LanguageStart start = start_in_language(tokenizer, "ro_RO");
//   generate(ctx, model, sources, {.decoder_start_token_id = start.decoder_start_token_id, .forced_bos_token_id = start.forced_bos_token_id});
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/edit_distance.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/text/tokenizer.hpp"

namespace deltatune {

// Whether a token looks like one: two or three small letters, _, and two capitals ("en_XX").
DELTATUNE_FUNCTION bool is_language_code(std::string_view token) {
  const std::size_t bar = token.find('_');
  if (bar == std::string_view::npos || bar < 2 || bar > 3) return false;
  const auto all = [](std::string_view letters, char first, char last) {
    return std::all_of(letters.begin(), letters.end(), [=](char c) { return first <= c && c <= last; });
  };
  return token.size() == bar + 3 && all(token.substr(0, bar), 'a', 'z') && all(token.substr(bar + 1), 'A', 'Z');
}

// All language codes of a tokenizer, in the order of their ids.
DELTATUNE_FUNCTION std::vector<std::string> language_codes(const Tokenizer& tokenizer) {
  std::vector<std::string> codes;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    try {
      if (std::string token = tokenizer.token_of(id); is_language_code(token)) codes.push_back(std::move(token));
    } catch (const Error&) {  // a gap in the ids
    }
  }
  return codes;
}

// The id of a language code. Throws Error for one that the tokenizer does not have, which tells the nearest ones and how many there are; `where` names the
// place that the code comes from.
DELTATUNE_FUNCTION std::int32_t language_id(const Tokenizer& tokenizer, std::string_view code, const std::string& where = "language code") {
  if (const auto id = tokenizer.id_of(code); id && is_language_code(code)) return *id;
  constexpr std::size_t kShown = 5;
  const auto lower_case = [](std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
  };
  const auto language = [](const std::string& text) { return text.substr(0, text.find_first_of("_-")); };
  const std::string wanted = lower_case(std::string(code));
  std::vector<std::tuple<std::size_t, std::size_t, std::string>> codes;  // the language's own letters count first
  for (const std::string& known : language_codes(tokenizer))
    codes.emplace_back(edit_distance(language(wanted), language(known)), edit_distance(wanted, lower_case(known)), known);
  std::sort(codes.begin(), codes.end());
  std::string expected = codes.empty()            ? "a tokenizer with language codes"
                         : codes.size() <= kShown ? "one of "
                                                  : "one of its " + std::to_string(codes.size()) + " language codes, such as ";
  for (std::size_t i = 0; i < std::min(kShown, codes.size()); ++i) expected += (i == 0 ? "" : ", ") + std::get<2>(codes[i]);
  throw Error(where, "is not one of the tokenizer's", {.expected = expected, .got = "\"" + std::string(code) + "\""});
}

// Where the tokens that a tokenizer puts around a text have the code of its language.
enum class LanguagePlace {
  none,
  before,  // en_XX X </s>: mBART-50
  behind   // X </s> en_XX: mBART
};
DELTATUNE_FUNCTION LanguagePlace language_place(const Tokenizer& tokenizer) {
  const std::vector<std::int32_t> around = tokenizer.encode("");
  if (around.empty()) return LanguagePlace::none;
  if (is_language_code(tokenizer.token_of(around.front()))) return LanguagePlace::before;
  return is_language_code(tokenizer.token_of(around.back())) ? LanguagePlace::behind : LanguagePlace::none;
}

// The tokenizer for texts in this language, sources or targets: it puts the language's code and the end-of-text token where its files put theirs. Throws Error
// for an unknown code, as language_id(), and for a tokenizer that puts none around a text.
DELTATUNE_FUNCTION Tokenizer in_language(const Tokenizer& tokenizer, std::string_view code, const std::string& where = "language code") {
  const LanguagePlace place = language_place(tokenizer);
  const auto end = tokenizer.eos_id();
  if (place == LanguagePlace::none || !end)
    throw Error(where, "is for a tokenizer that puts the code of a language and an end-of-text token around a text, as those of mBART and mBART-50",
                {.remedy = "leave it out, or save the tokenizer anew with transformers' MBartTokenizerFast or MBart50TokenizerFast"});
  const std::int32_t id = language_id(tokenizer, code, where);
  if (place == LanguagePlace::before) return tokenizer.with_tokens_around({id}, {*end});
  return tokenizer.with_tokens_around({}, {*end, id});
}

// What makes generate() write in a language, as fields of GenerationConfig: mBART's decoder starts with the code, mBART-50's writes it first. -1: as the
// model's files say. Throws Error as in_language().
struct LanguageStart {
  std::int32_t decoder_start_token_id = -1, forced_bos_token_id = -1;
};
DELTATUNE_FUNCTION LanguageStart start_in_language(const Tokenizer& tokenizer, std::string_view code, const std::string& where = "language code") {
  const Tokenizer target = in_language(tokenizer, code, where);
  const std::int32_t id = language_id(target, code, where);
  if (language_place(target) == LanguagePlace::before) return {.forced_bos_token_id = id};
  return {.decoder_start_token_id = id};
}

}  // namespace deltatune
