// Regular expressions by Oniguruma, whose Python syntax is that of PEFT's patterns. Link deltatune::regex.
#pragma once

#include <oniguruma.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/pattern.hpp"

namespace deltatune {

namespace detail {

// A function that says whether an expression matches all of a text.
DELTATUNE_FUNCTION Pattern::Matcher compile_regex(const std::string& text, const std::string& shown, const std::string& where) {
  static const int ready = [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    return onig_initialize(encodings, 1);
  }();
  const auto bytes = [](std::string_view view) { return reinterpret_cast<const OnigUChar*>(view.data()); };
  const auto reason = [](int code, OnigErrorInfo* info) {
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int length = onig_error_code_to_str(message, code, info);
    return std::string(reinterpret_cast<const char*>(message), static_cast<std::size_t>(length));
  };
  regex_t* compiled = nullptr;
  OnigErrorInfo info{};
  const int code = ready != ONIG_NORMAL
                       ? ready
                       : onig_new(&compiled, bytes(text), bytes(text) + text.size(), ONIG_OPTION_CAPTURE_GROUP, ONIG_ENCODING_UTF8, ONIG_SYNTAX_PYTHON, &info);
  if (code != ONIG_NORMAL) throw Error(where, "\"" + shown + "\" is not a regular expression", {.expected = "Python's syntax", .got = reason(code, &info)});
  const std::shared_ptr<regex_t> owner(compiled, onig_free);
  return [owner, bytes, reason, shown, where](std::string_view path) {
    const OnigUChar* const end = bytes(path) + path.size();
    const int matched = onig_match(owner.get(), bytes(path), end, bytes(path), nullptr, ONIG_OPTION_NONE);
    if (matched < ONIG_MISMATCH) throw Error(where, "\"" + shown + "\" takes too long to match " + std::string(path), {.got = reason(matched, nullptr)});
    return matched == static_cast<int>(path.size());
  };
}

}  // namespace detail

// Throws Error for a text that is no regular expression; `where` names the place it comes from.
inline Pattern regex(const std::string& text, const std::string& where = "regex") {
  return {text, detail::compile_regex("(?:" + text + ")\\Z", text, where), detail::compile_regex("(?:.*\\.)?(?:" + text + ")\\Z", text, where)};
}

}  // namespace deltatune
