// The settings of a method, each listed once by its plan (settings() in attach/plan.hpp): adapter_config.json is read and written through this list, and
// the options of a program and their help come from it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/attach/targets.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/core/pattern.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

// The words for the values of an enumeration.
class Choice {
 public:
  // The first of several words for a value is the one that is written.
  template <class E>
  Choice(E& value, const std::vector<std::pair<std::string, E>>& words) {
    std::vector<E> values;
    for (const auto& [word, meant] : words) {
      words_.push_back(word);
      values.push_back(meant);
    }
    get_ = [&value, values] { return static_cast<std::size_t>(std::find(values.begin(), values.end(), value) - values.begin()); };
    set_ = [&value, values](std::size_t at) { value = values[at]; };
  }

  const std::vector<std::string>& words() const { return words_; }
  std::string word() const { return words_.at(get_()); }
  // Throws Error for a word that is none of them; `where` names the place it comes from.
  DELTATUNE_FUNCTION void set(const std::string& word, const std::string& where) const {
    const auto found = std::find(words_.begin(), words_.end(), word);
    if (found != words_.end()) return set_(static_cast<std::size_t>(found - words_.begin()));
    std::string expected = words_.front();
    for (std::size_t i = 1; i < words_.size(); ++i) expected += (i + 1 == words_.size() ? " or " : ", ") + words_[i];
    throw Error(where, "unknown value", {.expected = expected, .got = "\"" + word + "\""});
  }

 private:
  std::vector<std::string> words_;
  std::function<std::size_t()> get_;
  std::function<void(std::size_t)> set_;
};

// Settings by pattern, in the order in which they count.
template <class T>
using Patterns = std::vector<std::pair<Pattern, T>>;

struct Setting {
  // Where the value lies, in the plan that listed it.
  using Value =
      std::variant<Index*, double*, bool*, std::string*, std::vector<Index>*, std::vector<std::string>*, Targets*, Patterns<Index>*, Patterns<double>*, Choice>;

  const char* key;  // in the file; "": it is not there, or the plan reads and writes it by itself
  Value value;
  const char* option = "";  // of a program; "": none. Targets bring --targets, --exclude and --layers
  const char* help = "";
  const char* zero = "";  // what a number means that is 0; "": itself
  bool only_own = false;  // stands in files of the plan's kOwnType alone
};

inline constexpr const char* kDropoutHelp = "dropout inside the method";

}  // namespace deltatune
