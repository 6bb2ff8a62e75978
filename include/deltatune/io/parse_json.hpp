// JSON text to a tree. Strict (RFC 8259, valid UTF-8), with a limit on nesting so that no input can exhaust the stack.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune {

enum class DuplicateKeys { kLastWins, kRefused };

// Keys in the order of the text, which a tree does not keep: of the outermost object under "", of each member of it that is an object under its key.
using KeyOrder = std::map<std::string, std::vector<std::string>>;

inline constexpr std::size_t kMaxJsonDepth = 64;

namespace detail {

// "line 3, column 7" of the byte at `position`, counted from 1.
DELTATUNE_FUNCTION std::string line_and_column(std::string_view text, std::size_t position) {
  const std::string_view before = text.substr(0, position);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t column = before.size() - (before.rfind('\n') + 1) + 1;  // rfind: npos + 1 is 0
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

// The parser alone: json::sax_parse() would bring the readers of four binary formats into every program, too.
template <class Sax>
void sax_parse(std::string_view text, Sax& sax) {
  using Adapter = decltype(nlohmann::detail::input_adapter(text.data(), text.data()));
  nlohmann::detail::parser<nlohmann::json, Adapter>(nlohmann::detail::input_adapter(text.data(), text.data() + text.size())).sax_parse(&sax);
}

// What the parser says of text that is not JSON: "[json.exception.kind.number] parse error at line 1, column 2: syntax error …". `position` counts the bytes
// read. The parser's own column is 0 after a number that ends a line.
[[noreturn]] DELTATUNE_FUNCTION void throw_json_error(std::string_view text, const std::string& name, std::size_t position, std::string reason) {
  reason.erase(0, reason.find("] ") + 2);
  if (reason.starts_with("parse error at ")) reason.erase(0, reason.find(": ") + 2);
  constexpr std::size_t kLongest = 200;  // it may quote a token of any length
  if (reason.size() > kLongest) reason = reason.substr(0, kLongest) + "...";
  throw Error(name, "not valid JSON at " + line_and_column(text, position == 0 ? 0 : position - 1) + ": " + reason);
}

// The parser takes a zero byte for the end.
DELTATUNE_FUNCTION void refuse_zero_bytes(std::string_view text, const std::string& name) {
  const std::size_t zero = text.find('\0');
  if (zero != std::string_view::npos) {
    throw Error(name, "not valid JSON at " + line_and_column(text, zero) + ": a zero byte", {.expected = "text in UTF-8"});
  }
}

// Receives the parser's events and builds the tree. Every method returns true: go on.
class JsonBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  using Json = nlohmann::json;

  JsonBuilder(std::string_view text, const std::string& name, DuplicateKeys duplicates, KeyOrder* order)
      : text_(text), name_(name), duplicates_(duplicates), order_(order) {}

  Json& root() { return root_; }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t& value) override { return put(std::move(value)); }  // part of the interface; JSON text has none

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& members = open_.back()->get_ref<Json::object_t&>();
    const auto [member, is_new] = members.try_emplace(name);
    if (!is_new && duplicates_ == DuplicateKeys::kRefused) {
      throw Error(name_, "the key \"" + name + "\" stands twice in one object", {.remedy = "the file is corrupt; write it again"});
    }
    member_ = &member->second;
    if (order_ != nullptr && open_.size() <= 2 && open_.front()->is_object()) {
      if (open_.size() == 1) outer_key_ = name;
      if (is_new) (*order_)[open_.size() == 1 ? "" : outer_key_].push_back(name);
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception& failure) override {
    throw_json_error(text_, name_, position, failure.what());
  }

 private:
  DELTATUNE_FUNCTION Json* place(Json&& value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_object()) return &(*member_ = std::move(value));
    open_.back()->push_back(std::move(value));
    return &open_.back()->back();
  }

  bool put(Json&& value) {
    place(std::move(value));
    return true;
  }

  bool open(Json&& container) {
    if (open_.size() == kMaxJsonDepth) throw Error(name_, "JSON nested more than " + std::to_string(kMaxJsonDepth) + " levels deep");
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& name_;
  DuplicateKeys duplicates_;
  Json root_;
  std::vector<Json*> open_;  // objects and arrays that have begun, outermost first
  Json* member_ = nullptr;   // where the value of the last key goes
  KeyOrder* order_;          // or null
  std::string outer_key_;    // the last key of the outermost object
};

}  // namespace detail

// `name` stands for the text in messages. A byte order mark is skipped. order_out: filled unless it is null.
DELTATUNE_FUNCTION nlohmann::json parse_json(std::string_view text, const std::string& name, DuplicateKeys duplicates = DuplicateKeys::kLastWins,
                                             KeyOrder* order_out = nullptr) {
  detail::refuse_zero_bytes(text, name);
  detail::JsonBuilder builder(text, name, duplicates, order_out);
  detail::sax_parse(text, builder);
  return std::move(builder.root());
}

// A value for a message: its kind, and the value itself when it is short.
DELTATUNE_FUNCTION std::string describe(const nlohmann::json& value) {
  if (value.is_null()) return "null";
  if (value.is_structured()) return value.is_object() ? "an object" : "an array";
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  constexpr std::size_t kLongest = 60;
  return std::string(value.type_name()) + (text.size() <= kLongest ? " " + text : "");
}

}  // namespace deltatune
