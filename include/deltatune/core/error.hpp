// The one exception type of the library: where, what, expected, got, what to do.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace deltatune {

// Parts of an error message that are known at the place of the throw; empty ones are left out of the text.
struct ErrorDetail {
  std::string expected = {};
  std::string got = {};
  std::string remedy = {};
};

// Thrown for every mistake in a file, a configuration or an argument.
// `where` names the place in the user's terms: a file and its field, a parameter path, an option.
class Error : public std::runtime_error {
 public:
  Error(std::string where, const std::string& what, const ErrorDetail& detail = {})
      : std::runtime_error(compose(where, what, detail)), where_(std::move(where)) {}

  const std::string& where() const noexcept { return where_; }

 private:
  static std::string compose(const std::string& where, const std::string& what, const ErrorDetail& detail) {
    std::string text = where + ": " + what;
    if (!detail.expected.empty()) text += "; expected " + detail.expected;
    if (!detail.got.empty()) text += (detail.expected.empty() ? "; got " : ", got ") + detail.got;
    if (!detail.remedy.empty()) text += " (" + detail.remedy + ")";
    return text;
  }

  std::string where_;
};

}  // namespace deltatune
