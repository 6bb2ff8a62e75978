// The values of a template: Python's None, bool, int (64 bits), float, str, list, tuple and dict, which never change once made, and what Jinja adds:
// undefined values, namespaces, generators (read once), macros and methods.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune::jinja {

// What is the matter with a template, before its line is known. Template adds file and line and throws an Error.
struct Failure {
  std::string what;
  ErrorDetail detail = {};
};

// Lists in lists: no template can build deeper ones, so walking a value needs little stack.
inline constexpr int kMaxValueDepth = 100;

struct Sequence;
class Dict;
struct Namespace;
struct Callable;
struct Loop;

struct NoneValue {};

// A name, attribute or item that is missing. Prints as "", is false, and is an error in most other places, which then quote the reason.
struct Undefined {
  std::shared_ptr<const std::string> reason = nullptr;
};

// UTF-8. Marked safe (by the filters safe and escape): a string that is added to it gets HTML's escapes, as Python's markupsafe does it.
struct Text {
  std::shared_ptr<const std::string> bytes;
  bool is_safe = false;
};

enum class SequenceKind { kList, kTuple, kRange, kKeys, kValues, kItems, kGenerator };

class Value {
 public:
  using Data = std::variant<Undefined, NoneValue, bool, std::int64_t, double, Text, std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>, Namespace*,
                            std::shared_ptr<const Callable>, std::shared_ptr<const Loop>>;

  Value() = default;  // undefined
  Value(std::nullptr_t) : data_(NoneValue{}) {}
  template <std::same_as<bool> Truth>
  Value(Truth value) : data_(value) {}
  Value(std::int64_t value) : data_(value) {}
  Value(int value) : data_(std::int64_t{value}) {}
  Value(double value) : data_(value) {}
  Value(std::string text, bool is_safe = false) : data_(Text{std::make_shared<const std::string>(std::move(text)), is_safe}) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(Text text) : data_(std::move(text)) {}
  Value(Dict dict);
  Value(std::shared_ptr<const Dict> dict) : data_(std::move(dict)) {}
  Value(std::shared_ptr<const Sequence> sequence) : data_(std::move(sequence)) {}
  Value(Namespace* names) : data_(names) {}
  Value(Callable callable);
  Value(std::shared_ptr<const Loop> loop) : data_(std::move(loop)) {}

  static Value undefined(std::string reason) {
    Value value;
    value.data_ = Undefined{std::make_shared<const std::string>(std::move(reason))};
    return value;
  }
  // Throws Failure for lists nested deeper than kMaxValueDepth.
  static Value sequence(SequenceKind kind, std::vector<Value> items);
  static Value list(std::vector<Value> items) { return sequence(SequenceKind::kList, std::move(items)); }
  static Value tuple(std::vector<Value> items) { return sequence(SequenceKind::kTuple, std::move(items)); }

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<NoneValue>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_integer() const { return is_bool() || std::holds_alternative<std::int64_t>(data_); }  // to Python a bool is an int, too
  bool is_number() const { return is_integer() || is_float(); }
  bool is_text() const { return std::holds_alternative<Text>(data_); }

  bool boolean() const { return std::get<bool>(data_); }
  std::int64_t integer() const { return is_bool() ? std::int64_t{boolean()} : std::get<std::int64_t>(data_); }
  double number() const { return is_float() ? std::get<double>(data_) : static_cast<double>(integer()); }
  const std::string& text() const { return *std::get<Text>(data_).bytes; }
  bool is_safe() const { return is_text() && std::get<Text>(data_).is_safe; }
  const std::string& reason() const {
    static const std::string kUnknown = "a value is undefined";
    const auto& reason = std::get<Undefined>(data_).reason;
    return reason == nullptr ? kUnknown : *reason;
  }

  // Null unless it is one.
  const Sequence* as_sequence() const { return pointer<Sequence>(); }
  const Dict* as_dict() const { return pointer<Dict>(); }
  const Callable* as_callable() const { return pointer<Callable>(); }
  const Loop* as_loop() const { return pointer<Loop>(); }
  Namespace* as_namespace() const {
    const auto* const found = std::get_if<Namespace*>(&data_);
    return found == nullptr ? nullptr : *found;
  }
  std::shared_ptr<const Sequence> shared_sequence() const { return std::get<std::shared_ptr<const Sequence>>(data_); }
  bool is(SequenceKind kind) const;

  // 0 for what holds no other values.
  int depth() const;

  // Python's name of the type, for messages.
  const char* type_name() const;

 private:
  template <class T>
  const T* pointer() const {
    const auto* const found = std::get_if<std::shared_ptr<const T>>(&data_);
    return found == nullptr ? nullptr : found->get();
  }

  Data data_;
};

struct Sequence {
  SequenceKind kind = SequenceKind::kList;
  std::vector<Value> items = {};
  int depth = 1;
  mutable bool is_read = false;  // a generator gives its items once
  std::string why_no_text = {};  // not empty: printing it would be a mistake, this one
};

// Keys in the order of their first insertion.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }
  int depth() const { return depth_; }

  const Value* find(std::string_view key) const {
    const auto found = places_.find(key);
    return found == places_.end() ? nullptr : &entries_[found->second].second;
  }

  // Throws Failure for a key that is neither a string nor a number nor None.
  DELTATUNE_FUNCTION const Value* find_key(const Value& key) const {
    if (key.is_text()) return find(key.text());
    const std::size_t place = place_of(key);
    return place == entries_.size() ? nullptr : &entries_[place].second;
  }

  DELTATUNE_FUNCTION void set(Value key, Value value) {
    depth_ = std::max(depth_, 1 + std::max(key.depth(), value.depth()));
    if (depth_ > kMaxValueDepth) throw Failure{"a dict is nested too deeply", {.expected = "at most " + std::to_string(kMaxValueDepth) + " levels"}};
    if (key.is_text()) {
      const auto [place, is_new] = places_.try_emplace(key.text(), entries_.size());
      if (!is_new) {
        entries_[place->second].second = std::move(value);
        return;
      }
    } else if (const std::size_t place = place_of(key); place < entries_.size()) {
      entries_[place].second = std::move(value);
      return;
    } else {
      others_.push_back(entries_.size());
    }
    entries_.emplace_back(std::move(key), std::move(value));
  }

 private:
  // The number of such keys is that of the literals in a template: few.
  DELTATUNE_FUNCTION std::size_t place_of(const Value& key) const {
    if (!key.is_none() && !key.is_number()) {
      throw Failure{std::string("a value of the type ") + key.type_name() + " as key of a dict", {.expected = "a string, a number or None"}};
    }
    for (const std::size_t place : others_) {
      const Value& other = entries_[place].first;
      if (key.is_none() ? other.is_none() : other.is_number() && other.number() == key.number()) return place;
    }
    return entries_.size();
  }

  std::vector<Entry> entries_;
  std::map<std::string, std::size_t, std::less<>> places_;  // of the keys that are strings
  std::vector<std::size_t> others_;                         // the places of the other keys
  int depth_ = 1;
};

// What namespace() makes: the one thing of a template that changes. The renderer owns them, so that one may hold itself.
struct Namespace {
  std::map<std::string, Value, std::less<>> attributes;
};

struct Node;
struct Scope;

// A macro, a method bound to its value, or a function of the engine.
struct Callable {
  enum class Kind { kMacro, kMethod, kFunction } kind = Kind::kFunction;
  std::string name = {};
  Value self = {};              // of a method
  const Node* macro = nullptr;  // its definition, and the variables around it
  Scope* scope = nullptr;
};

// The variable `loop` inside a loop.
struct Loop {
  std::shared_ptr<const Sequence> items;
  std::size_t index0 = 0;
};

inline Value::Value(Dict dict) : data_(std::make_shared<const Dict>(std::move(dict))) {}
inline Value::Value(Callable callable) : data_(std::make_shared<const Callable>(std::move(callable))) {}

DELTATUNE_FUNCTION Value Value::sequence(SequenceKind kind, std::vector<Value> items) {
  Sequence sequence{.kind = kind, .items = std::move(items)};
  for (const Value& item : sequence.items) sequence.depth = std::max(sequence.depth, 1 + item.depth());
  if (sequence.depth > kMaxValueDepth) throw Failure{"a list is nested too deeply", {.expected = "at most " + std::to_string(kMaxValueDepth) + " levels"}};
  return std::make_shared<const Sequence>(std::move(sequence));
}

inline bool Value::is(SequenceKind kind) const { return as_sequence() != nullptr && as_sequence()->kind == kind; }

DELTATUNE_FUNCTION int Value::depth() const {
  if (const Sequence* const sequence = as_sequence()) return sequence->depth;
  if (const Dict* const dict = as_dict()) return dict->depth();
  if (const Callable* const callable = as_callable()) return 1 + callable->self.depth();
  if (const Loop* const loop = as_loop()) return 1 + loop->items->depth;
  return 0;
}

DELTATUNE_FUNCTION const char* Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_integer()) return "int";
  if (is_float()) return "float";
  if (is_text()) return "str";
  if (as_dict() != nullptr) return "dict";
  if (as_namespace() != nullptr) return "Namespace";
  if (as_loop() != nullptr) return "LoopContext";
  if (as_sequence() == nullptr) return "function";
  switch (as_sequence()->kind) {
    case SequenceKind::kTuple:
      return "tuple";
    case SequenceKind::kRange:
      return "range";
    case SequenceKind::kKeys:
      return "dict_keys";
    case SequenceKind::kValues:
      return "dict_values";
    case SequenceKind::kItems:
      return "dict_items";
    case SequenceKind::kGenerator:
      return "generator";
    default:
      return "list";
  }
}

}  // namespace deltatune::jinja
