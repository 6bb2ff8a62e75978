// A JSON object of settings (config.json, adapter_config.json, tokenizer.json …) read with types and with errors that name file and key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/parse_json.hpp"

namespace deltatune {

namespace detail {

template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};

// "an integer", "a list (each entry an integer)"
template <class T>
std::string json_type_name() {
  if constexpr (std::is_same_v<T, bool>) {
    return "true or false";
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return "an integer";
  } else if constexpr (std::is_same_v<T, double>) {
    return "a number";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "a string";
  } else {
    static_assert(is_vector<T>::value, "JsonConfig reads bool, std::int64_t, double, std::string and vectors of them");
    return "a list (each entry " + json_type_name<typename T::value_type>() + ")";
  }
}

template <class T>
T json_value(const nlohmann::json& value, const std::string& where) {
  bool fits = false;
  if constexpr (std::is_same_v<T, bool>) {
    fits = value.is_boolean();
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    fits = value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()});
  } else if constexpr (std::is_same_v<T, double>) {
    fits = value.is_number();
  } else if constexpr (std::is_same_v<T, std::string>) {
    fits = value.is_string();
  } else {
    fits = value.is_array();
  }
  if (!fits) throw Error(where, "wrong type", {.expected = json_type_name<T>(), .got = describe(value)});

  if constexpr (is_vector<T>::value) {
    T entries;
    entries.reserve(value.size());
    for (const auto& entry : value) {
      entries.push_back(json_value<typename T::value_type>(entry, where + "[" + std::to_string(entries.size()) + "]"));
    }
    return entries;
  } else {
    return value.get<T>();
  }
}

}  // namespace detail

// T is bool, std::int64_t, double (an integer will do), std::string or a std::vector of one of them.
class JsonConfig {
 public:
  static JsonConfig open(const std::filesystem::path& path) { return parse(MappedFile(path).text(), path.string()); }

  // `name` stands for the text in messages.
  static JsonConfig parse(std::string_view text, std::string name) {
    KeyOrder order;
    nlohmann::json root = parse_json(text, name, DuplicateKeys::kLastWins, &order);
    if (!root.is_object()) throw Error(name, "wrong JSON", {.expected = "an object {...}", .got = describe(root)});
    return JsonConfig(std::move(root), std::move(name), std::move(order));
  }

  // An object that has been parsed; its keys() are empty.
  static JsonConfig of(nlohmann::json root, std::string name) {
    if (!root.is_object()) throw Error(name, "wrong JSON", {.expected = "an object {...}", .got = describe(root)});
    return JsonConfig(std::move(root), std::move(name), {});
  }

  // Present and not null.
  bool has(std::string_view key) const { return find(key) != nullptr; }

  template <class T>
  T get(std::string_view key) const {
    return detail::json_value<T>(require(key, detail::json_type_name<T>()), where(key));
  }

  // The default stands for an absent or null value; one of a wrong type is an Error.
  template <class T>
  T get_or(std::string_view key, T fallback) const {
    const nlohmann::json* const value = find(key);
    return value == nullptr ? std::move(fallback) : detail::json_value<T>(*value, where(key));
  }

  JsonConfig object(std::string_view key) const {
    const nlohmann::json& value = require(key, "an object");
    if (!value.is_object()) throw Error(where(key), "wrong type", {.expected = "an object", .got = describe(value)});
    const auto order = order_.find(std::string(key));
    return JsonConfig(value, where(key), order == order_.end() ? KeyOrder{} : KeyOrder{{"", order->second}});
  }

  // The keys in the order of the text; for settings of which the first that fits counts. Kept for a whole file and for the objects in it, no deeper.
  const std::vector<std::string>& keys() const {
    static const std::vector<std::string> kNone;
    const auto order = order_.find("");
    return order == order_.end() ? kNone : order->second;
  }

  // Keys that are set (to something else than null, false, "" or an empty list or object) and that nobody has asked for, `known` ones left out.
  std::vector<std::string> unread(const std::set<std::string, std::less<>>& known) const {
    std::vector<std::string> keys;
    for (const auto& member : root_.items()) {
      const nlohmann::json& value = member.value();
      const bool is_empty = value.is_string() ? value.get_ref<const std::string&>().empty() : value.is_structured() && value.empty();
      const bool is_set = !value.is_null() && value != false && !is_empty;
      if (is_set && !asked_->contains(member.key()) && !known.contains(member.key())) keys.push_back(member.key());
    }
    return keys;
  }

  const nlohmann::json& raw() const { return root_; }
  const std::string& name() const { return name_; }

 private:
  JsonConfig(nlohmann::json root, std::string name, KeyOrder order) : root_(std::move(root)), name_(std::move(name)), order_(std::move(order)) {}

  std::string where(std::string_view key) const { return name_ + ": " + std::string(key); }

  const nlohmann::json* find(std::string_view key) const {
    asked_->emplace(key);
    const auto member = root_.find(std::string(key));
    return member == root_.end() || member->is_null() ? nullptr : &*member;
  }

  const nlohmann::json& require(std::string_view key, const std::string& expected) const {
    const nlohmann::json* const value = find(key);
    if (value == nullptr) throw Error(where(key), root_.contains(std::string(key)) ? "is null" : "is missing", {.expected = expected});
    return *value;
  }

  nlohmann::json root_;
  std::string name_;
  KeyOrder order_;
  std::shared_ptr<std::set<std::string, std::less<>>> asked_ = std::make_shared<std::set<std::string, std::less<>>>();  // keys; shared with copies
};

}  // namespace deltatune
