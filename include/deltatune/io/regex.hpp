// Regular expressions by Oniguruma: in Python's syntax for PEFT's patterns, in Ruby's for those of tokenizers. Link deltatune::regex.
#pragma once

#include <oniguruma.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/pattern.hpp"

namespace deltatune {

namespace detail {

inline const OnigUChar* onig_bytes(std::string_view text) { return reinterpret_cast<const OnigUChar*>(text.data()); }

DELTATUNE_FUNCTION std::string onig_reason(int code, OnigErrorInfo* info) {
  OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = onig_error_code_to_str(message, code, info);
  return std::string(reinterpret_cast<const char*>(message), static_cast<std::size_t>(length));
}

// `shown` is what messages call the expression, `language` the syntax.
DELTATUNE_FUNCTION std::shared_ptr<regex_t> onig_compile(const std::string& text, OnigSyntaxType* syntax, OnigOptionType options, const std::string& shown,
                                                         const std::string& language, const std::string& where) {
  static const int ready = [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    return onig_initialize(encodings, 1);
  }();
  regex_t* compiled = nullptr;
  OnigErrorInfo info{};
  const int code =
      ready != ONIG_NORMAL ? ready : onig_new(&compiled, onig_bytes(text), onig_bytes(text) + text.size(), options, ONIG_ENCODING_UTF8, syntax, &info);
  if (code != ONIG_NORMAL)
    throw Error(where, "\"" + shown + "\" is not a regular expression", {.expected = language + "'s syntax", .got = onig_reason(code, &info)});
  return {compiled, onig_free};
}

// A function that says whether an expression matches all of a text.
DELTATUNE_FUNCTION Pattern::Matcher compile_regex(const std::string& text, const std::string& shown, const std::string& where) {
  const std::shared_ptr<regex_t> owner = onig_compile(text, ONIG_SYNTAX_PYTHON, ONIG_OPTION_CAPTURE_GROUP, shown, "Python", where);
  return [owner, shown, where](std::string_view path) {
    const OnigUChar* const end = onig_bytes(path) + path.size();
    const int matched = onig_match(owner.get(), onig_bytes(path), end, onig_bytes(path), nullptr, ONIG_OPTION_NONE);
    if (matched < ONIG_MISMATCH) throw Error(where, "\"" + shown + "\" takes too long to match " + std::string(path), {.got = onig_reason(matched, nullptr)});
    return matched == static_cast<int>(path.size());
  };
}

}  // namespace detail

// Throws Error for a text that is no regular expression; `where` names the place it comes from.
inline Pattern regex(const std::string& text, const std::string& where = "regex") {
  return {text, detail::compile_regex("(?:" + text + ")\\Z", text, where), detail::compile_regex("(?:.*\\.)?(?:" + text + ")\\Z", text, where)};
}

// A function that finds the first match of an expression at or after a place: its begin and end, or nothing. Throws Error as regex() does.
DELTATUNE_FUNCTION std::function<std::optional<std::pair<std::size_t, std::size_t>>(std::string_view, std::size_t)> search_regex(const std::string& expression,
                                                                                                                                 const std::string& where) {
  const std::shared_ptr<regex_t> owner = detail::onig_compile(expression, ONIG_SYNTAX_RUBY, ONIG_OPTION_NONE, expression, "Ruby", where);
  return [owner, expression, where](std::string_view text, std::size_t from) -> std::optional<std::pair<std::size_t, std::size_t>> {
    const std::unique_ptr<OnigRegion, void (*)(OnigRegion*)> region(onig_region_new(), [](OnigRegion* r) { onig_region_free(r, 1); });
    const OnigUChar *const begin = detail::onig_bytes(text), *const end = begin + text.size();
    const int found = onig_search(owner.get(), begin, end, begin + from, end, region.get(), ONIG_OPTION_NONE);
    if (found == ONIG_MISMATCH) return std::nullopt;
    if (found < 0) throw Error(where, "\"" + expression + "\" takes too long to match a text", {.got = detail::onig_reason(found, nullptr)});
    return std::pair(static_cast<std::size_t>(region->beg[0]), static_cast<std::size_t>(region->end[0]));
  };
}

}  // namespace deltatune
