// Language codes: the tokens of mBART and its like that say which language a text is in, "en_XX".
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/text/tokenizer.hpp"

namespace deltatune {

// Whether a token looks like one: small letters, _ and two capitals.
DELTATUNE_FUNCTION bool is_language_code(std::string_view token) {
  const std::size_t bar = token.find('_');
  if (bar == std::string_view::npos || bar < 2 || bar > 3 || token.size() != bar + 3) return false;
  const auto all = [](std::string_view letters, char first, char last) {
    return std::all_of(letters.begin(), letters.end(), [=](char c) { return first <= c && c <= last; });
  };
  return all(token.substr(0, bar), 'a', 'z') && all(token.substr(bar + 1), 'A', 'Z');
}

// The id of a language code. Throws Error, with all codes of the tokenizer, for one that it does not have.
DELTATUNE_FUNCTION std::int32_t language_id(const Tokenizer& tokenizer, std::string_view code) {
  if (const auto id = tokenizer.id_of(code); id && is_language_code(code)) return *id;
  std::string known;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    std::string token;
    try {
      token = tokenizer.token_of(id);
    } catch (const Error&) {  // a gap in the ids
    }
    if (is_language_code(token)) known += (known.empty() ? "" : ", ") + token;
  }
  throw Error("language code", "is not one of the tokenizer's",
              {.expected = known.empty() ? "a tokenizer with language codes" : "one of " + known, .got = "\"" + std::string(code) + "\""});
}

}  // namespace deltatune
