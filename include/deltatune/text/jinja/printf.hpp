// Python's "%s: %d" % values, and the filter format.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/budget.hpp"
#include "deltatune/text/jinja/python_text.hpp"
#include "deltatune/text/jinja/value.hpp"
#include "deltatune/text/jinja/writing.hpp"

namespace deltatune::jinja {

// %s %r %d %i %f %x %X with -, 0, +, space, width and precision; throws Failure for other conversions and for values that don't fit.
class PercentFormat {
 public:
  PercentFormat(std::string_view format, const Value& values, Budget& budget) : format_(format), values_(values), budget_(budget) {}

  DELTATUNE_FUNCTION std::string run() {
    std::string result;
    while (at_ < format_.size()) {
      const std::size_t percent = std::min(format_.find('%', at_), format_.size());
      result += format_.substr(at_, percent - at_);
      at_ = percent + 1;
      if (percent < format_.size()) result += conversion();
      budget_.charge_bytes(result.size() / 8);
    }
    const bool is_tuple = values_.is(SequenceKind::kTuple);
    const bool all_used =
        is_tuple ? used_ == values_.as_sequence()->items.size() : used_ == 1 || values_.as_dict() != nullptr || values_.is(SequenceKind::kList);
    if (!all_used) throw Failure{"not all values of the operator % are used by its format", {.got = "\"" + std::string(format_) + "\""}};
    return result;
  }

 private:
  struct Spec {
    bool left = false, zero = false, plus = false, space = false;
    std::size_t width = 0;
    int precision = -1;
  };

  char next() {
    if (at_ >= format_.size()) throw Failure{"the format of the operator % ends within a conversion", {.got = "\"" + std::string(format_) + "\""}};
    return format_[at_++];
  }

  DELTATUNE_FUNCTION int number(char& c) {
    int value = 0;
    for (; c >= '0' && c <= '9'; c = next()) {
      value = 10 * value + (c - '0');
      if (value > 10'000) throw Failure{"a width or precision of the operator % is too large", {.expected = "at most 10000"}};
    }
    return value;
  }

  DELTATUNE_FUNCTION const Value& take() {
    if (values_.is(SequenceKind::kTuple)) {
      const std::vector<Value>& items = values_.as_sequence()->items;
      if (used_ >= items.size()) throw Failure{"too few values for the format of the operator %", {.got = "\"" + std::string(format_) + "\""}};
      return items[used_++];
    }
    if (used_++ > 0) throw Failure{"too few values for the format of the operator %", {.got = "\"" + std::string(format_) + "\""}};
    return values_;
  }

  DELTATUNE_FUNCTION std::string conversion() {
    Spec spec;
    char c = next();
    if (c == '%') return "%";
    const Value* named = nullptr;
    if (c == '(') {
      const std::size_t end = format_.find(')', at_);
      if (end == std::string_view::npos) throw Failure{"the format of the operator % has a ( that is not closed"};
      const std::string_view key = format_.substr(at_, end - at_);
      if (values_.as_dict() == nullptr) throw Failure{"the format of the operator % names its values", {.expected = "a dict"}};
      named = values_.as_dict()->find(key);
      if (named == nullptr) throw Failure{"the operator % has no value for \"" + std::string(key) + "\""};
      at_ = end + 1;
      c = next();
    }
    for (;; c = next()) {
      if (c == '-') {
        spec.left = true;
      } else if (c == '0') {
        spec.zero = true;
      } else if (c == '+') {
        spec.plus = true;
      } else if (c == ' ') {
        spec.space = true;
      } else {
        break;
      }
    }
    spec.width = static_cast<std::size_t>(number(c));
    if (c == '.') {
      c = next();
      spec.precision = number(c);
    }
    return convert(c, spec, named == nullptr ? take() : *named);
  }

  DELTATUNE_FUNCTION std::string convert(char kind, const Spec& spec, const Value& value) {
    if (kind == 's' || kind == 'r') {
      std::string text;
      Writer writer(budget_, text);
      kind == 's' ? writer.str(value) : writer.repr(value);
      if (spec.precision >= 0) text.resize(byte_of_character(text, static_cast<std::size_t>(spec.precision)));
      return padded(std::move(text), spec);
    }
    const bool is_float = kind == 'f';
    if (!is_float && kind != 'd' && kind != 'i' && kind != 'x' && kind != 'X') {
      throw Failure{std::string("the conversion %") + kind + " is not part of this engine", {.expected = "%s, %r, %d, %i, %f, %x or %X"}};
    }
    const bool fits = is_float || kind == 'd' || kind == 'i' ? value.is_number() : value.is_integer();
    if (!fits) throw Failure{std::string("the conversion %") + kind + " needs a number", {.got = std::string("a value of the type ") + value.type_name()}};
    char buffer[11000];
    std::string digits;
    bool negative = value.number() < 0;
    if (is_float) {
      negative = std::signbit(value.number());
      const auto end =
          std::to_chars(buffer, buffer + sizeof buffer, std::abs(value.number()), std::chars_format::fixed, spec.precision < 0 ? 6 : spec.precision);
      digits.assign(buffer, end.ptr);
    } else {
      if (value.is_float() && !(std::abs(value.number()) < 9e18)) throw Failure{"a number is too large for %d"};
      const std::int64_t whole = value.is_float() ? static_cast<std::int64_t>(value.number()) : value.integer();
      const std::uint64_t size = whole < 0 ? std::uint64_t{0} - static_cast<std::uint64_t>(whole) : static_cast<std::uint64_t>(whole);
      negative = whole < 0;
      const auto end = std::to_chars(buffer, buffer + sizeof buffer, size, kind == 'x' || kind == 'X' ? 16 : 10);
      digits.assign(buffer, end.ptr);
      if (kind == 'X') digits = upper(digits);
      if (spec.precision > static_cast<int>(digits.size())) digits.insert(0, static_cast<std::size_t>(spec.precision) - digits.size(), '0');
    }
    const std::string sign = negative ? "-" : spec.plus ? "+" : spec.space ? " " : "";
    if (spec.zero && !spec.left && digits.size() + sign.size() < spec.width) digits.insert(0, spec.width - sign.size() - digits.size(), '0');
    return padded(sign + digits, spec);
  }

  static DELTATUNE_FUNCTION std::string padded(std::string text, const Spec& spec) {
    const std::size_t length = count_characters(text);
    if (length >= spec.width) return text;
    return spec.left ? text.append(spec.width - length, ' ') : text.insert(0, spec.width - length, ' ');
  }

  std::string_view format_;
  const Value& values_;
  Budget& budget_;
  std::size_t at_ = 0;
  std::size_t used_ = 0;
};

DELTATUNE_FUNCTION Value format_percent(const Value& format, const Value& values, Budget& budget) {
  if (format.is_safe()) throw Failure{"the operator % on a string marked safe is not part of this engine"};
  return PercentFormat(format.text(), values, budget).run();
}

}  // namespace deltatune::jinja
