// A regular expression over dotted paths, in Python's syntax, as PEFT's configurations hold them.
//
// A plain name, of letters, digits, _, - and dots (each of which stands for any one character), is matched here. Anything more needs an engine:
// regex() of io/regex.hpp makes such a pattern, with Oniguruma. So programs that only name their targets compile and link no engine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune {

class Pattern {
 public:
  using Matcher = std::function<bool(std::string_view path)>;

  Pattern() = default;
  Pattern(std::string text) : text_(std::move(text)) {}
  Pattern(const char* text) : text_(text) {}
  // For engines. whole: as re.fullmatch(text, path); end: as re.fullmatch("(.*\.)?(text)", path).
  Pattern(std::string text, Matcher whole, Matcher end) : text_(std::move(text)), whole_(std::move(whole)), end_(std::move(end)) {}

  const std::string& text() const { return text_; }
  bool empty() const { return text_.empty(); }

  // Whether it matches all of a path, or all of it from its start or a dot on. Throw Error for a regular expression without an engine;
  // `where` names the place it comes from.
  bool matches(std::string_view path, const std::string& where) const {
    if (whole_) return whole_(path);
    require_plain(where);
    return path.size() == text_.size() && plain_end(path);
  }
  bool matches_end(std::string_view path, const std::string& where) const {
    if (end_) return end_(path);
    require_plain(where);
    return plain_end(path) && (path.size() == text_.size() || path[path.size() - text_.size() - 1] == '.');
  }

 private:
  DELTATUNE_FUNCTION void require_plain(const std::string& where) const {
    const bool plain = std::all_of(text_.begin(), text_.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
    });
    if (!plain)
      throw Error(where, "\"" + text_ + "\" is a regular expression, and this program has no engine for them",
                  {.remedy = "write regex(\"...\"), from deltatune/io/regex.hpp, and link deltatune::regex"});
  }
  DELTATUNE_FUNCTION bool plain_end(std::string_view path) const {
    if (path.size() < text_.size()) return false;
    const std::string_view end = path.substr(path.size() - text_.size());
    for (std::size_t i = 0; i < end.size(); ++i)
      if (text_[i] != '.' && text_[i] != end[i]) return false;
    return true;
  }

  std::string text_;
  Matcher whole_, end_;
};

}  // namespace deltatune
