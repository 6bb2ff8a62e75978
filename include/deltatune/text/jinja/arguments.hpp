// What a function, filter, test or method is called with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/operators.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune::jinja {

struct Arguments {
  std::vector<Value> positional = {};
  std::vector<std::pair<std::string, Value>> named = {};

  const Value* find(std::string_view name) const {
    for (const auto& [key, value] : named)
      if (key == name) return &value;
    return nullptr;
  }
};

// Arguments in the order of a list of parameters. Throws Failure for unknown and surplus ones.
class Bound {
 public:
  // `function` stands for it in messages: "the filter join".
  DELTATUNE_FUNCTION Bound(std::string function, const Arguments& arguments, std::initializer_list<std::string_view> parameters)
      : function_(std::move(function)), names_(parameters.begin(), parameters.end()), values_(parameters.size(), nullptr) {
    if (arguments.positional.size() > values_.size()) {
      throw Failure{function_ + " has too many arguments",
                    {.expected = "at most " + std::to_string(values_.size()), .got = std::to_string(arguments.positional.size())}};
    }
    for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
    for (const auto& [name, value] : arguments.named) {
      std::size_t place = 0;
      while (place < names_.size() && names_[place] != name) ++place;
      if (place == names_.size()) throw Failure{function_ + " has no argument " + name};
      if (values_[place] != nullptr) throw Failure{function_ + " is given its argument " + name + " twice"};
      values_[place] = &value;
    }
  }

  bool has(std::size_t i) const { return values_[i] != nullptr; }
  bool has_value(std::size_t i) const { return has(i) && !values_[i]->is_none(); }

  const Value& operator[](std::size_t i) const {
    if (!has(i)) throw Failure{function_ + " lacks its argument " + std::string(names_[i])};
    return *values_[i];
  }

  bool flag(std::size_t i) const { return has(i) && is_true(*values_[i]); }

  DELTATUNE_FUNCTION std::int64_t integer(std::size_t i, std::int64_t missing) const {
    if (!has(i)) return missing;
    if (!values_[i]->is_integer()) fail_type(i, "an integer");
    return values_[i]->integer();
  }

  DELTATUNE_FUNCTION const std::string& text(std::size_t i) const {
    if (!(*this)[i].is_text()) fail_type(i, "a string");
    return values_[i]->text();
  }

  [[noreturn]] DELTATUNE_FUNCTION void fail_type(std::size_t i, const std::string& expected) const {
    if (values_[i]->is_undefined()) fail_undefined(*values_[i]);
    throw Failure{function_ + ": its argument " + std::string(names_[i]) + " has a wrong type",
                  {.expected = expected, .got = std::string("a value of the type ") + values_[i]->type_name()}};
  }

 private:
  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace deltatune::jinja
