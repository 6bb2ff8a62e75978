// How a library of regular expressions comes in, without its headers.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace deltatune {

// The first match of a regular expression that begins at or after `from`: its begin and end, or nothing. Any number of threads may call it at once.
using RegexSearch = std::function<std::optional<std::pair<std::size_t, std::size_t>>(std::string_view text, std::size_t from)>;
// Makes one of an expression in Oniguruma's Ruby syntax; `where` names its place in messages. Throws Error for a text that is no regular expression.
using RegexCompiler = std::function<RegexSearch(const std::string& expression, const std::string& where)>;

}  // namespace deltatune
