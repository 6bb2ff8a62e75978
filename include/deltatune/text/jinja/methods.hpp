// Attributes and items of values, and the methods of str, list and dict.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/arguments.hpp"
#include "deltatune/text/jinja/operators.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune::jinja {

namespace detail {

inline constexpr std::string_view kTextMethods[] = {"strip", "lstrip", "rstrip",  "split",      "rsplit",  "splitlines",   "startswith",  "endswith",
                                                    "upper", "lower",  "title",   "capitalize", "replace", "join",         "find",        "rfind",
                                                    "count", "index",  "isdigit", "isalpha",    "isalnum", "removeprefix", "removesuffix"};
inline constexpr std::string_view kListMethods[] = {"count", "index", "copy"};
inline constexpr std::string_view kDictMethods[] = {"items", "keys", "values", "get", "copy"};
// Python has them, this engine does not.
inline constexpr std::string_view kOtherTextMethods[] = {
    "casefold", "center",  "encode",  "expandtabs", "format",    "format_map", "isascii", "isdecimal", "isidentifier", "islower",  "isnumeric", "isprintable",
    "isspace",  "istitle", "isupper", "ljust",      "maketrans", "partition",  "rindex",  "rjust",     "rpartition",   "swapcase", "translate", "zfill"};
// They change their value, which the sandbox of transformers forbids.
inline constexpr std::string_view kChangingMethods[] = {"append", "clear",   "extend",     "insert", "pop",   "popitem",
                                                        "remove", "reverse", "setdefault", "sort",   "update"};

template <std::size_t N>
bool is_one_of(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

}  // namespace detail

// What Python finds as an attribute of the value itself; null data (undefined) when there is none.
DELTATUNE_FUNCTION bool python_attribute(const Value& value, const std::string& name, Value& value_out) {
  const bool is_list = value.is(SequenceKind::kList), is_tuple = value.is(SequenceKind::kTuple), is_dict = value.as_dict() != nullptr;
  if (const Namespace* const names = value.as_namespace()) {
    const auto found = names->attributes.find(name);
    if (found == names->attributes.end()) return false;
    value_out = found->second;
    return true;
  }
  if (const Loop* const loop = value.as_loop()) {
    const std::vector<Value>& items = loop->items->items;
    const auto index = static_cast<std::int64_t>(loop->index0), length = static_cast<std::int64_t>(items.size());
    if (name == "index") {
      value_out = index + 1;
    } else if (name == "index0") {
      value_out = index;
    } else if (name == "revindex") {
      value_out = length - index;
    } else if (name == "revindex0") {
      value_out = length - index - 1;
    } else if (name == "first") {
      value_out = index == 0;
    } else if (name == "last") {
      value_out = index + 1 == length;
    } else if (name == "length") {
      value_out = length;
    } else if (name == "depth" || name == "depth0") {
      value_out = name == "depth" ? 1 : 0;  // counts recursive loops only
    } else if (name == "previtem") {
      value_out = index == 0 ? Value::undefined("there is no previous item") : items[loop->index0 - 1];
    } else if (name == "nextitem") {
      value_out = index + 1 == length ? Value::undefined("there is no next item") : items[loop->index0 + 1];
    } else if (name == "cycle") {
      value_out = Value(Callable{.kind = Callable::Kind::kMethod, .name = name, .self = value});
    } else if (name == "changed") {
      throw Failure{"loop.changed is not part of this engine"};
    } else {
      return false;
    }
    return true;
  }
  const bool has_method = (value.is_text() && detail::is_one_of(detail::kTextMethods, name)) || (is_list && detail::is_one_of(detail::kListMethods, name)) ||
                          (is_tuple && (name == "count" || name == "index")) || (is_dict && detail::is_one_of(detail::kDictMethods, name));
  if (has_method) {
    value_out = Value(Callable{.kind = Callable::Kind::kMethod, .name = name, .self = value});
    return true;
  }
  if (value.is_text() && detail::is_one_of(detail::kOtherTextMethods, name)) throw Failure{"the method " + name + " of strings is not part of this engine"};
  if ((is_list || is_dict) && detail::is_one_of(detail::kChangingMethods, name) &&
      !(is_list && (name == "popitem" || name == "setdefault" || name == "update")) &&
      !(is_dict && (name == "append" || name == "extend" || name == "insert" || name == "remove" || name == "reverse" || name == "sort"))) {
    value_out = Value::undefined(std::string("the method ") + name + " would change a " + value.type_name() + ", which templates must not do");
    return true;
  }
  return false;
}

inline std::string missing_attribute(const Value& value, const std::string& name) {
  return std::string(value.type_name()) + " has no attribute '" + name + "'";
}

// value.name: the attribute, else the item of that name, else undefined. Throws Failure for an undefined value.
DELTATUNE_FUNCTION Value attribute_of(const Value& value, const std::string& name) {
  if (value.is_undefined()) fail_undefined(value);
  Value found;
  if (python_attribute(value, name, found)) return found;
  if (const Dict* const dict = value.as_dict())
    if (const Value* const item = dict->find(std::string_view(name))) return *item;
  return Value::undefined(missing_attribute(value, name));
}

// value[key]: the item, else the attribute of that name, else undefined. Throws Failure for an undefined value.
DELTATUNE_FUNCTION Value item_of(const Value& value, const Value& key) {
  if (value.is_undefined()) fail_undefined(value);
  if (const Dict* const dict = value.as_dict()) {
    const bool can_be_key = key.is_text() || key.is_number() || key.is_none();
    if (const Value* const item = can_be_key ? dict->find_key(key) : nullptr) return *item;
  } else if (key.is_integer()) {
    const bool has_items = value.is_text() || value.is(SequenceKind::kList) || value.is(SequenceKind::kTuple) || value.is(SequenceKind::kRange);
    if (has_items) return item_at(value, key.integer());
  }
  if (key.is_text()) {
    Value found;
    if (python_attribute(value, key.text(), found)) return found;
    return Value::undefined(missing_attribute(value, key.text()));
  }
  return Value::undefined(std::string(value.type_name()) + " has no such item");
}

namespace detail {

inline Value texts(const std::vector<std::string_view>& parts, bool is_safe, Budget& budget) {
  std::vector<Value> items;
  std::size_t bytes = 0;
  for (const std::string_view part : parts) bytes += part.size();
  budget.charge(parts.size() + bytes / 32);
  for (const std::string_view part : parts) items.emplace_back(std::string(part), is_safe);
  return Value::list(std::move(items));
}

template <class Is>
bool all_characters(std::string_view text, Is is) {
  bool all = !text.empty();
  for_each_character(text, [&](char32_t c, std::string_view) { all = all && is(c); });
  return all;
}

inline bool is_digit(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND || c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0x2070 && c <= 0x2089);
}

DELTATUNE_FUNCTION Value text_method(const Value& self, const std::string& name, const Arguments& arguments, Budget& budget) {
  const std::string& text = self.text();
  const std::string function = "the method " + name;
  budget.charge_bytes(text.size());
  const bool keeps_mark = name == "upper" || name == "lower" || name.ends_with("strip") || name.ends_with("split") || name == "splitlines";
  const bool looks = name.ends_with("with") || name.ends_with("find") || name.starts_with("is") || name == "count" || name == "index";
  if (self.is_safe() && !keeps_mark && !looks) throw Failure{function + " of a string marked safe is not part of this engine"};
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const Bound bound(function, arguments, {"chars"});
    const std::string* const characters = bound.has_value(0) ? &bound.text(0) : nullptr;
    return Value(std::string(strip(text, characters, name != "rstrip", name != "lstrip")), self.is_safe());
  }
  if (name == "split" || name == "rsplit") {
    const Bound bound(function, arguments, {"sep", "maxsplit"});
    const std::int64_t most = bound.integer(1, -1);
    const bool from_right = name == "rsplit";
    if (!bound.has_value(0)) return texts(split_at_space(text, most, from_right), self.is_safe(), budget);
    if (bound.text(0).empty()) throw Failure{function + " has an empty separator"};
    return texts(split_at(text, bound.text(0), most, from_right), self.is_safe(), budget);
  }
  if (name == "splitlines") return texts(split_lines(text, Bound(function, arguments, {"keepends"}).flag(0)), self.is_safe(), budget);
  if (name == "startswith" || name == "endswith") {
    const Bound bound(function, arguments, {"prefix"});
    const auto fits = [&](const Value& part) {
      if (!part.is_text()) bound.fail_type(0, "a string or a tuple of strings");
      return name == "startswith" ? text.starts_with(part.text()) : text.ends_with(part.text());
    };
    if (!bound[0].is(SequenceKind::kTuple)) return fits(bound[0]);
    const std::vector<Value>& parts = bound[0].as_sequence()->items;
    return std::any_of(parts.begin(), parts.end(), fits);
  }
  if (name == "replace") {
    const Bound bound(function, arguments, {"old", "new", "count"});
    const std::string &from = bound.text(0), &to = bound.text(1);
    budget.charge_bytes(to.size() * (from.empty() ? text.size() + 1 : text.size() / from.size()));
    return replace_text(text, from, to, bound.integer(2, -1));
  }
  if (name == "join") {
    const auto items = items_of(Bound(function, arguments, {"iterable"})[0], budget);
    std::string joined;
    for (std::size_t i = 0; i < items->items.size(); ++i) {
      const Value& item = items->items[i];
      if (item.is_undefined()) fail_undefined(item);
      if (!item.is_text()) throw Failure{"the method join needs strings", {.got = std::string("a value of the type ") + item.type_name()}};
      if (i > 0) joined += text;
      budget.charge_bytes(item.text().size() + text.size());
      joined += item.text();
    }
    return joined;
  }
  if (name == "find" || name == "rfind" || name == "index") {
    const Bound bound(function, arguments, {"sub"});
    const std::size_t at = name == "rfind" ? text.rfind(bound.text(0)) : text.find(bound.text(0));
    if (at == std::string::npos && name == "index") throw Failure{"the method index does not find its string"};
    return at == std::string::npos ? std::int64_t{-1} : static_cast<std::int64_t>(count_characters(std::string_view(text).substr(0, at)));
  }
  if (name == "count") {
    const std::string part = Bound(function, arguments, {"sub"}).text(0);
    if (part.empty()) return static_cast<std::int64_t>(count_characters(text)) + 1;
    return static_cast<std::int64_t>(split_at(text, part, -1, false).size()) - 1;
  }
  if (name == "removeprefix" || name == "removesuffix") {
    const std::string part = Bound(function, arguments, {"part"}).text(0);
    if (name == "removeprefix") return text.starts_with(part) ? text.substr(part.size()) : text;
    return text.ends_with(part) ? text.substr(0, text.size() - part.size()) : text;
  }
  const Bound none(function, arguments, {});
  if (name == "isdigit") return all_characters(text, is_digit);
  if (name == "isalpha") return all_characters(text, unicode::is_letter);
  if (name == "isalnum") return all_characters(text, [](char32_t c) { return unicode::is_letter(c) || unicode::is_number(c); });
  std::string result = name == "upper" ? upper(text) : name == "lower" ? lower(text) : name == "title" ? title(text) : capitalize(text);
  return Value(std::move(result), self.is_safe());
}

DELTATUNE_FUNCTION Value dict_method(const Value& self, const std::string& name, const Arguments& arguments, Budget& budget) {
  const Dict& dict = *self.as_dict();
  if (name == "get") {
    const Bound bound("the method get", arguments, {"key", "default"});
    const Value* const found = bound[0].is_undefined() ? nullptr : dict.find_key(bound[0]);
    return found != nullptr ? *found : bound.has(1) ? bound[1] : Value(nullptr);
  }
  const Bound none("the method " + name, arguments, {});
  budget.charge(dict.size());
  if (name == "copy") return dict;
  std::vector<Value> items;
  for (const Dict::Entry& entry : dict.entries())
    items.push_back(name == "keys" ? entry.first : name == "values" ? entry.second : Value::tuple({entry.first, entry.second}));
  return Value::sequence(name == "keys" ? SequenceKind::kKeys : name == "values" ? SequenceKind::kValues : SequenceKind::kItems, std::move(items));
}

DELTATUNE_FUNCTION Value list_method(const Value& self, const std::string& name, const Arguments& arguments, Budget& budget) {
  const std::vector<Value>& items = self.as_sequence()->items;
  if (name == "copy") return self;
  const Bound bound("the method " + name, arguments, {"value"});
  std::int64_t count = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!is_equal(items[i], bound[0], budget)) continue;
    if (name == "index") return static_cast<std::int64_t>(i);
    ++count;
  }
  if (name == "index") throw Failure{"the method index does not find its value"};
  return count;
}

}  // namespace detail

// Calls a method that attribute_of() has found.
DELTATUNE_FUNCTION Value call_method(const Callable& method, const Arguments& arguments, Budget& budget) {
  if (method.self.is_text()) return detail::text_method(method.self, method.name, arguments, budget);
  if (method.self.as_dict() != nullptr) return detail::dict_method(method.self, method.name, arguments, budget);
  if (const Loop* const loop = method.self.as_loop()) {
    if (arguments.positional.empty() || !arguments.named.empty()) throw Failure{"loop.cycle needs values to choose from"};
    return arguments.positional[loop->index0 % arguments.positional.size()];
  }
  return detail::list_method(method.self, method.name, arguments, budget);
}

}  // namespace deltatune::jinja
