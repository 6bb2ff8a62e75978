// How many texts of a model are exactly right.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/python_text.hpp"
#include "deltatune/text/references.hpp"

namespace deltatune {

// The share, 0 to 1, of hypotheses that equal one of their references: the same bytes, white space before and after the text aside (Python's str.strip()).
// Case, punctuation, inner white space and Unicode's normal forms count. Throws Error where there are no hypotheses, not as many as lines of references, or no
// reference for one.
DELTATUNE_FUNCTION double exact_match(std::span<const std::string> hypotheses, const References& references) {
  references.check("exact match", hypotheses.size());
  const auto stripped = [](const std::string& text) { return jinja::strip(text, nullptr, true, true); };
  std::size_t right = 0;
  for (std::size_t line = 0; line < hypotheses.size(); ++line) {
    const std::span<const std::string> accepted = references.of(line);
    if (std::any_of(accepted.begin(), accepted.end(), [&](const std::string& text) { return stripped(text) == stripped(hypotheses[line]); })) ++right;
  }
  return static_cast<double>(right) / static_cast<double>(hypotheses.size());
}

}  // namespace deltatune
