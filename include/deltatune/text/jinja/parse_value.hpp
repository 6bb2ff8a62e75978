// JSON text to a value of templates: dicts keep the order of the text, which templates print.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/parse_json.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune::jinja {

namespace detail {

// Receives the parser's events. Every method returns true: go on.
class ValueBuilder {
 public:
  using string_t = nlohmann::json::string_t;

  ValueBuilder(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  Value& root() { return root_; }

  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(std::int64_t value) { return put(value); }
  bool number_unsigned(std::uint64_t value) {
    if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) fail_large(std::to_string(value));
    return put(static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const string_t& digits) {
    if (digits.find_first_of(".eE") == string_t::npos) fail_large(digits);  // an integer beyond 64 bits
    return put(value);
  }
  bool string(string_t& value) { return put(std::move(value)); }
  bool binary(nlohmann::json::binary_t&) { return false; }  // part of the interface; JSON text has none

  bool start_object(std::size_t) { return open(true); }
  bool end_object() { return close(); }
  bool start_array(std::size_t) { return open(false); }
  bool end_array() { return close(); }

  bool key(string_t& name) {
    open_.back().key = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& failure) {
    deltatune::detail::throw_json_error(text_, name_, position, failure.what());
  }

 private:
  struct Container {
    bool is_dict = false;
    Dict dict = {};
    std::vector<Value> items = {};
    std::string key = {};
  };

  [[noreturn]] void fail_large(const std::string& digits) const { throw Error(name_, "an integer is too large", {.expected = "64 bits", .got = digits}); }

  bool put(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Container& container = open_.back(); container.is_dict) {
      container.dict.set(Value(std::move(container.key)), std::move(value));
    } else {
      container.items.push_back(std::move(value));
    }
    return true;
  }

  bool open(bool is_dict) {
    if (open_.size() == kMaxJsonDepth) throw Error(name_, "JSON nested more than " + std::to_string(kMaxJsonDepth) + " levels deep");
    open_.push_back({.is_dict = is_dict});
    return true;
  }

  bool close() {
    Container container = std::move(open_.back());
    open_.pop_back();
    return put(container.is_dict ? Value(std::move(container.dict)) : Value::list(std::move(container.items)));
  }

  std::string_view text_;
  const std::string& name_;
  std::vector<Container> open_;  // objects and arrays that have begun, outermost first
  Value root_;
};

}  // namespace detail

// `name` stands for the text in messages. Of a key that stands twice the last value counts. Throws Error for what is not JSON and for integers beyond 64 bits.
DELTATUNE_FUNCTION Value parse_value(std::string_view text, const std::string& name) {
  deltatune::detail::refuse_zero_bytes(text, name);
  detail::ValueBuilder builder(text, name);
  deltatune::detail::sax_parse(text, builder);
  return std::move(builder.root());
}

}  // namespace deltatune::jinja
