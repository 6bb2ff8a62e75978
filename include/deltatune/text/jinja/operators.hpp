// Python's operators: truth, equality, order, arithmetic, membership, items and slices.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/budget.hpp"
#include "deltatune/text/jinja/printf.hpp"
#include "deltatune/text/jinja/python_text.hpp"
#include "deltatune/text/jinja/value.hpp"
#include "deltatune/text/jinja/writing.hpp"

namespace deltatune::jinja {

[[noreturn]] DELTATUNE_FUNCTION void fail_undefined(const Value& value) { throw Failure{value.reason()}; }

DELTATUNE_FUNCTION bool is_true(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_number()) return value.number() != 0.0;
  if (value.is_text()) return !value.text().empty();
  if (const Dict* const dict = value.as_dict()) return dict->size() > 0;
  if (const Sequence* const sequence = value.as_sequence()) return sequence->kind == SequenceKind::kGenerator || !sequence->items.empty();
  if (const Loop* const loop = value.as_loop()) return !loop->items->items.empty();
  return true;
}

DELTATUNE_FUNCTION bool is_equal(const Value& a, const Value& b, Budget& budget) {
  budget.charge(1);
  if (a.is_number() && b.is_number()) return a.is_integer() && b.is_integer() ? a.integer() == b.integer() : a.number() == b.number();
  if (a.is_text() && b.is_text()) {
    if (a.text().size() == b.text().size()) budget.charge_bytes(a.text().size());
    return a.text() == b.text();
  }
  if (a.is_none() || a.is_undefined()) return a.is_none() == b.is_none() && a.is_undefined() == b.is_undefined();
  if (a.as_dict() != nullptr && b.as_dict() != nullptr) {
    const Dict &left = *a.as_dict(), &right = *b.as_dict();
    if (&left == &right) return true;
    return left.size() == right.size() && std::all_of(left.entries().begin(), left.entries().end(), [&](const Dict::Entry& entry) {
             const Value* const other = right.find_key(entry.first);
             return other != nullptr && is_equal(entry.second, *other, budget);
           });
  }
  if (a.as_sequence() != nullptr && b.as_sequence() != nullptr) {
    const Sequence &left = *a.as_sequence(), &right = *b.as_sequence();
    if (&left == &right) return true;
    const bool compares = left.kind == right.kind && left.kind != SequenceKind::kGenerator && left.kind != SequenceKind::kValues;
    return compares && std::equal(left.items.begin(), left.items.end(), right.items.begin(), right.items.end(),
                                  [&](const Value& x, const Value& y) { return is_equal(x, y, budget); });
  }
  if (a.as_namespace() != nullptr) return a.as_namespace() == b.as_namespace();
  if (a.as_callable() != nullptr) return a.as_callable() == b.as_callable();
  return a.as_loop() != nullptr && a.as_loop() == b.as_loop();
}

// a < b
DELTATUNE_FUNCTION bool is_less(const Value& a, const Value& b, Budget& budget) {
  budget.charge(1);
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.is_number() && b.is_number()) return a.is_integer() && b.is_integer() ? a.integer() < b.integer() : a.number() < b.number();
  if (a.is_text() && b.is_text()) {
    budget.charge_bytes(std::min(a.text().size(), b.text().size()));
    return a.text() < b.text();  // UTF-8 sorts as its code points do
  }
  const bool are_lists = a.is(SequenceKind::kList) && b.is(SequenceKind::kList), are_tuples = a.is(SequenceKind::kTuple) && b.is(SequenceKind::kTuple);
  if (are_lists || are_tuples) {
    const std::vector<Value>&left = a.as_sequence()->items, &right = b.as_sequence()->items;
    for (std::size_t i = 0; i < left.size() && i < right.size(); ++i)
      if (!is_equal(left[i], right[i], budget)) return is_less(left[i], right[i], budget);
    return left.size() < right.size();
  }
  throw Failure{"values without an order are compared",
                {.expected = "two numbers, two strings or two lists", .got = std::string(a.type_name()) + " and " + b.type_name()}};
}

// The items that a loop runs over: characters of a string, keys of a dict. A generator gives them once.
DELTATUNE_FUNCTION std::shared_ptr<const Sequence> items_of(const Value& value, Budget& budget) {
  if (const Sequence* const sequence = value.as_sequence()) {
    if (sequence->kind != SequenceKind::kGenerator) return value.shared_sequence();
    if (std::exchange(sequence->is_read, true)) return std::make_shared<const Sequence>();
    return value.shared_sequence();
  }
  std::vector<Value> items;
  if (value.is_text()) {
    budget.charge(value.text().size());
    for_each_character(value.text(), [&](char32_t, std::string_view character) { items.emplace_back(std::string(character), value.is_safe()); });
  } else if (const Dict* const dict = value.as_dict()) {
    budget.charge(dict->size());
    for (const Dict::Entry& entry : dict->entries()) items.push_back(entry.first);
  } else if (!value.is_undefined()) {
    throw Failure{std::string("a value of the type ") + value.type_name() + " has no items to go through", {.expected = "a list, a dict or a string"}};
  }
  return Value::list(std::move(items)).shared_sequence();
}

// len(). Throws Failure for what has none.
DELTATUNE_FUNCTION std::int64_t length_of(const Value& value) {
  const Sequence* const sequence = value.as_sequence();
  if (value.is_undefined()) return 0;
  if (value.is_text()) return static_cast<std::int64_t>(count_characters(value.text()));
  if (value.as_dict() != nullptr) return static_cast<std::int64_t>(value.as_dict()->size());
  if (value.as_loop() != nullptr) return static_cast<std::int64_t>(value.as_loop()->items->items.size());
  if (sequence != nullptr && sequence->kind != SequenceKind::kGenerator) return static_cast<std::int64_t>(sequence->items.size());
  throw Failure{std::string("a value of the type ") + value.type_name() + " has no length", {.remedy = sequence == nullptr ? "" : "add |list before |length"}};
}

// item in container
DELTATUNE_FUNCTION bool contains(const Value& container, const Value& item, Budget& budget) {
  if (container.is_text()) {
    if (!item.is_text())
      throw Failure{"something is looked for in a string", {.expected = "a string", .got = std::string("a value of the type ") + item.type_name()}};
    budget.charge_bytes(container.text().size());
    return container.text().find(item.text()) != std::string::npos;
  }
  if (const Dict* const dict = container.as_dict()) {
    budget.charge(1);
    return dict->find_key(item) != nullptr;
  }
  const auto items = items_of(container, budget);
  return std::any_of(items->items.begin(), items->items.end(), [&](const Value& other) { return is_equal(item, other, budget); });
}

// Arithmetic on two numbers.
class Arithmetic {
 public:
  Arithmetic(const Value& a, const Value& b) : a_(a), b_(b), are_integers_(a.is_integer() && b.is_integer()) {}

  Value add() const {
    return are_integers_ ? checked([](auto a, auto b, auto* r) { return __builtin_add_overflow(a, b, r); }) : Value(x() + y());
  }
  Value subtract() const {
    return are_integers_ ? checked([](auto a, auto b, auto* r) { return __builtin_sub_overflow(a, b, r); }) : Value(x() - y());
  }
  Value multiply() const {
    return are_integers_ ? checked([](auto a, auto b, auto* r) { return __builtin_mul_overflow(a, b, r); }) : Value(x() * y());
  }

  Value divide() const {
    require_divisor();
    return x() / y();
  }

  // Rounds down.
  DELTATUNE_FUNCTION Value floor_divide() const {
    require_divisor();
    if (!are_integers_) return std::floor((x() - remainder().number()) / y() + 0.5);
    const std::int64_t a = a_.integer(), b = b_.integer();
    if (b == -1) return Arithmetic(Value(0), a_).subtract();
    return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
  }

  // Has the sign of the divisor.
  DELTATUNE_FUNCTION Value remainder() const {
    require_divisor();
    if (are_integers_) {
      const std::int64_t a = a_.integer(), b = b_.integer();
      if (b == -1) return 0;
      return a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0);
    }
    const double rest = std::fmod(x(), y());
    if (rest == 0.0) return std::copysign(0.0, y());
    return (rest < 0) != (y() < 0) ? rest + y() : rest;
  }

  DELTATUNE_FUNCTION Value power() const {
    if (!are_integers_ || b_.integer() < 0) {
      if (x() == 0.0 && y() < 0.0) throw Failure{"0 is raised to a negative power"};
      if (x() < 0.0 && y() != std::floor(y())) throw Failure{"a negative number is raised to a broken power"};
      const double result = std::pow(x(), y());
      if (std::isinf(result) && !std::isinf(x()) && !std::isinf(y())) throw Failure{"a power is too large"};
      return result;
    }
    Value result = 1, base = a_;
    for (std::int64_t rest = b_.integer(); rest > 0; rest /= 2) {
      if (rest % 2 == 1) result = Arithmetic(result, base).multiply();
      if (rest > 1 && base.integer() != 0 && base.integer() != 1) base = Arithmetic(base, base).multiply();
    }
    return result;
  }

 private:
  double x() const { return a_.number(); }
  double y() const { return b_.number(); }

  void require_divisor() const {
    if (y() == 0.0) throw Failure{"division by zero"};
  }

  template <class Operation>
  Value checked(Operation operation) const {
    std::int64_t result = 0;
    if (operation(a_.integer(), b_.integer(), &result)) throw Failure{"an integer is too large", {.expected = "64 bits"}};
    return result;
  }

  Value a_, b_;
  bool are_integers_;
};

[[noreturn]] DELTATUNE_FUNCTION void fail_operands(std::string_view name, const Value& a, const Value& b) {
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  throw Failure{"the operator " + std::string(name) + " cannot take these values", {.got = std::string(a.type_name()) + " and " + b.type_name()}};
}

DELTATUNE_FUNCTION Value repeated(const Value& what, std::int64_t times, Budget& budget) {
  times = std::max<std::int64_t>(times, 0);
  const auto check = [&](std::size_t size, std::size_t per_step) {
    if (size > 0 && times > static_cast<std::int64_t>((std::size_t{1} << 30U) / size))
      throw Failure{"a repeated value is too large", {.expected = "less than 2^30 bytes or items"}};
    budget.charge(1 + size * static_cast<std::size_t>(times) / per_step);
  };
  if (what.is_text()) {
    check(what.text().size(), 32);
    std::string text;
    if (!what.text().empty())
      for (std::int64_t i = 0; i < times; ++i) text += what.text();
    return Value(std::move(text), what.is_safe());
  }
  const Sequence& sequence = *what.as_sequence();
  check(sequence.items.size(), 1);
  std::vector<Value> items;
  if (!sequence.items.empty())
    for (std::int64_t i = 0; i < times; ++i) items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  return Value::sequence(sequence.kind, std::move(items));
}

// a + b
DELTATUNE_FUNCTION Value add(const Value& a, const Value& b, Budget& budget) {
  if (a.is_number() && b.is_number()) return Arithmetic(a, b).add();
  if (a.is_text() && b.is_text()) {
    budget.charge_bytes(a.text().size() + b.text().size());
    const bool is_safe = a.is_safe() || b.is_safe();
    const auto part = [is_safe](const Value& value) { return is_safe && !value.is_safe() ? escape_html(value.text()) : value.text(); };
    return Value(part(a) + part(b), is_safe);
  }
  const bool are_lists = a.is(SequenceKind::kList) && b.is(SequenceKind::kList), are_tuples = a.is(SequenceKind::kTuple) && b.is(SequenceKind::kTuple);
  if (!are_lists && !are_tuples) fail_operands("+", a, b);
  const std::vector<Value>&left = a.as_sequence()->items, &right = b.as_sequence()->items;
  budget.charge(left.size() + right.size());
  std::vector<Value> items;
  items.reserve(left.size() + right.size());
  items.insert(items.end(), left.begin(), left.end());
  items.insert(items.end(), right.begin(), right.end());
  return Value::sequence(a.as_sequence()->kind, std::move(items));
}

// The operators + - * / // % **
DELTATUNE_FUNCTION Value operate(std::string_view name, const Value& a, const Value& b, Budget& budget) {
  if (name == "+") return add(a, b, budget);
  if (name == "%" && a.is_text()) return format_percent(a, b, budget);
  if (a.is_number() && b.is_number()) {
    const Arithmetic numbers(a, b);
    if (name == "-") return numbers.subtract();
    if (name == "*") return numbers.multiply();
    if (name == "/") return numbers.divide();
    if (name == "//") return numbers.floor_divide();
    if (name == "%") return numbers.remainder();
    return numbers.power();
  }
  const auto repeats = [](const Value& what, const Value& times) {
    return times.is_integer() && (what.is_text() || what.is(SequenceKind::kList) || what.is(SequenceKind::kTuple));
  };
  if (name == "*" && repeats(a, b)) return repeated(a, b.integer(), budget);
  if (name == "*" && repeats(b, a)) return repeated(b, a.integer(), budget);
  fail_operands(name, a, b);
}

// value[index] of a list or string; null when the index is outside.
DELTATUNE_FUNCTION Value item_at(const Value& value, std::int64_t index) {
  const std::int64_t length = length_of(value);
  if (index < 0) index += length;
  if (index < 0 || index >= length)
    return Value::undefined(std::string(value.type_name()) + " has no item " + std::to_string(index < 0 ? index - length : index));
  const auto place = static_cast<std::size_t>(index);
  if (const Sequence* const sequence = value.as_sequence()) return sequence->items[place];
  const std::size_t at = byte_of_character(value.text(), place);
  return Value(value.text().substr(at, decode_utf8(value.text(), at).bytes), value.is_safe());
}

// value[begin:end:step]; None stands for a missing bound.
DELTATUNE_FUNCTION Value slice(const Value& value, const Value& begin, const Value& end, const Value& step, Budget& budget) {
  const Sequence* const sequence = value.as_sequence();
  const bool has_slices =
      value.is_text() ||
      (sequence != nullptr && (sequence->kind == SequenceKind::kList || sequence->kind == SequenceKind::kTuple || sequence->kind == SequenceKind::kRange));
  if (value.is_undefined()) fail_undefined(value);
  for (const Value* const bound : {&begin, &end, &step})
    if (!bound->is_none() && !bound->is_integer())
      throw Failure{"a slice has a bound that is no integer", {.got = std::string("a value of the type ") + bound->type_name()}};
  if (!has_slices) return Value::undefined(std::string(value.type_name()) + " has no slices");

  const std::int64_t length = length_of(value), stride = step.is_none() ? 1 : step.integer();
  if (stride == 0) throw Failure{"the step of a slice is 0"};
  const std::int64_t lowest = stride > 0 ? 0 : -1, highest = stride > 0 ? length : length - 1;
  const auto place = [&](const Value& bound, std::int64_t missing) {
    if (bound.is_none()) return missing;
    const std::int64_t at = bound.integer() < 0 ? std::max(bound.integer(), -length - 1) + length : bound.integer();
    return std::clamp(at, lowest, highest);
  };
  const std::int64_t first = place(begin, stride > 0 ? 0 : length - 1), last = place(end, stride > 0 ? length : -1);
  std::vector<std::size_t> places;
  if (stride > 0 && value.is_text() && stride == 1) {
    const std::string& text = value.text();
    budget.charge_bytes(text.size());
    if (first >= last) return Value(std::string(), value.is_safe());
    const std::size_t from = byte_of_character(text, static_cast<std::size_t>(first)), to = byte_of_character(text, static_cast<std::size_t>(last));
    return Value(text.substr(from, to - from), value.is_safe());
  }
  const std::int64_t reach = std::max(length, std::int64_t{1});  // a longer stride leads outside at once
  const std::int64_t bounded = std::clamp(stride, -reach, reach);
  for (std::int64_t at = first; stride > 0 ? at < last : at > last; at += bounded) places.push_back(static_cast<std::size_t>(at));
  budget.charge(places.size());
  if (sequence != nullptr) {
    std::vector<Value> items;
    for (const std::size_t at : places) items.push_back(sequence->items[at]);
    return Value::sequence(sequence->kind == SequenceKind::kTuple ? SequenceKind::kTuple : SequenceKind::kList, std::move(items));
  }
  const auto characters = items_of(value, budget);
  std::string text;
  for (const std::size_t at : places) text += characters->items[at].text();
  return Value(std::move(text), value.is_safe());
}

}  // namespace deltatune::jinja
