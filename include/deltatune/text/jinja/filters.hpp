// Jinja's filters: value | NAME. tojson is that of transformers.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/sort_stably.hpp"
#include "deltatune/text/jinja/arguments.hpp"
#include "deltatune/text/jinja/methods.hpp"
#include "deltatune/text/jinja/operators.hpp"
#include "deltatune/text/jinja/tests.hpp"
#include "deltatune/text/jinja/value.hpp"
#include "deltatune/text/jinja/writing.hpp"

namespace deltatune::jinja {

// Throws Failure for a filter that this engine lacks, and for values that a filter cannot take.
DELTATUNE_FUNCTION Value apply_filter(const std::string& name, const Value& input, const Arguments& arguments, Budget& budget);

namespace detail {

struct FilterCall {
  const std::string& name;
  const Value& input;
  const Arguments& arguments;
  Budget& budget;

  std::string function() const { return "the filter " + name; }
  Bound bind(std::initializer_list<std::string_view> parameters) const { return Bound(function(), arguments, parameters); }
  std::string text() const { return text_of(input, budget); }
  std::vector<Value> items() const {
    const auto items = items_of(input, budget);
    budget.charge(items->items.size());
    return items->items;
  }
  Value generator(std::vector<Value> items) const { return Value::sequence(SequenceKind::kGenerator, std::move(items)); }
};

// "a.b.0" of a value: items before attributes.
DELTATUNE_FUNCTION Value value_at_path(const Value& value, const Value& path) {
  if (path.is_integer()) return item_of(value, path);
  if (!path.is_text()) throw Failure{"an attribute is named by something else than a string", {.got = std::string("a value of the type ") + path.type_name()}};
  Value result = value;
  for (const std::string_view part : split_at(path.text(), ".", -1, false)) {
    std::int64_t index = 0;
    const auto read = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index = read.ec == std::errc() && read.ptr == part.data() + part.size() && index >= 0 && part.front() != '-';
    result = item_of(result, is_index ? Value(index) : Value(part));
  }
  return result;
}

inline Value without_case(const Value& value, bool case_sensitive) { return value.is_text() && !case_sensitive ? Value(lower(value.text())) : value; }

DELTATUNE_FUNCTION std::vector<Value> sorted(std::vector<Value> items, const std::vector<Value>& keys, bool reverse, Budget& budget) {
  std::vector<std::size_t> order(items.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  deltatune::detail::sort_stably(order.begin(), order.end(),
                                 [&](std::size_t a, std::size_t b) { return reverse ? is_less(keys[b], keys[a], budget) : is_less(keys[a], keys[b], budget); });
  std::vector<Value> result;
  for (const std::size_t i : order) result.push_back(std::move(items[i]));
  return result;
}

// The keys that min, max, sort and unique compare by.
DELTATUNE_FUNCTION std::vector<Value> sort_keys(const std::vector<Value>& items, const Value* attribute, bool case_sensitive) {
  std::vector<Value> keys;
  for (const Value& item : items) keys.push_back(without_case(attribute == nullptr ? item : value_at_path(item, *attribute), case_sensitive));
  return keys;
}

DELTATUNE_FUNCTION Value sort_filter(const FilterCall& call) {
  const Bound bound = call.bind({"reverse", "case_sensitive", "attribute"});
  std::vector<Value> items = call.items();
  std::vector<Value> keys;
  if (bound.has_value(2) && bound[2].is_text() && bound[2].text().find(',') != std::string::npos) {
    for (const Value& item : items) {
      std::vector<Value> parts;
      for (const std::string_view path : split_at(bound[2].text(), ",", -1, false))
        parts.push_back(without_case(value_at_path(item, Value(path)), bound.flag(1)));
      keys.push_back(Value::list(std::move(parts)));
    }
  } else {
    keys = sort_keys(items, bound.has_value(2) ? &bound[2] : nullptr, bound.flag(1));
  }
  return Value::list(sorted(std::move(items), keys, bound.flag(0), call.budget));
}

DELTATUNE_FUNCTION Value dictsort_filter(const FilterCall& call) {
  const Bound bound = call.bind({"case_sensitive", "by", "reverse"});
  const Dict* const dict = call.input.as_dict();
  if (call.input.is_undefined()) fail_undefined(call.input);
  if (dict == nullptr) throw Failure{"the filter dictsort needs a dict", {.got = std::string("a value of the type ") + call.input.type_name()}};
  const std::string by = bound.has(1) ? bound.text(1) : "key";
  if (by != "key" && by != "value") throw Failure{"the filter dictsort sorts by \"key\" or \"value\"", {.got = "\"" + by + "\""}};
  std::vector<Value> items, keys;
  for (const Dict::Entry& entry : dict->entries()) {
    items.push_back(Value::tuple({entry.first, entry.second}));
    keys.push_back(without_case(by == "key" ? entry.first : entry.second, bound.flag(0)));
  }
  return Value::list(sorted(std::move(items), keys, bound.flag(2), call.budget));
}

DELTATUNE_FUNCTION Value unique_filter(const FilterCall& call) {
  const Bound bound = call.bind({"case_sensitive", "attribute"});
  const std::vector<Value> items = call.items(), keys = sort_keys(items, bound.has_value(1) ? &bound[1] : nullptr, bound.flag(0));
  Dict seen;
  std::vector<Value> result;
  for (std::size_t i = 0; i < items.size(); ++i) {
    call.budget.charge(1 + (keys[i].is_text() ? 0 : seen.size()));
    if (seen.find_key(keys[i]) != nullptr) continue;
    seen.set(keys[i], nullptr);
    result.push_back(items[i]);
  }
  return call.generator(std::move(result));
}

DELTATUNE_FUNCTION Value extreme_filter(const FilterCall& call, bool is_max) {
  const Bound bound = call.bind({"case_sensitive", "attribute"});
  const std::vector<Value> items = call.items();
  if (items.empty()) return Value::undefined("an empty list has no " + call.name);
  const std::vector<Value> keys = sort_keys(items, bound.has_value(1) ? &bound[1] : nullptr, bound.flag(0));
  std::size_t best = 0;
  for (std::size_t i = 1; i < items.size(); ++i)
    if (is_max ? is_less(keys[best], keys[i], call.budget) : is_less(keys[i], keys[best], call.budget)) best = i;
  return items[best];
}

DELTATUNE_FUNCTION Value sum_filter(const FilterCall& call) {
  const Bound bound = call.bind({"attribute", "start"});
  Value total = bound.has(1) ? bound[1] : Value(0);
  if (total.is_text()) throw Failure{"the filter sum cannot add strings", {.remedy = "use the filter join"}};
  for (const Value& item : call.items()) total = add(total, bound.has_value(0) ? value_at_path(item, bound[0]) : item, call.budget);
  return total;
}

// select, reject, selectattr and rejectattr
DELTATUNE_FUNCTION Value select_filter(const FilterCall& call, bool by_attribute, bool keeps) {
  std::vector<Value> arguments = call.arguments.positional;
  Value path;
  if (by_attribute) {
    if (arguments.empty()) throw Failure{call.function() + " lacks the name of an attribute"};
    path = arguments.front();
    arguments.erase(arguments.begin());
  }
  std::string test;
  if (!arguments.empty()) {
    if (!arguments.front().is_text()) throw Failure{call.function() + " names its test by something else than a string"};
    test = arguments.front().text();
    arguments.erase(arguments.begin());
  }
  const Arguments of_test{std::move(arguments), call.arguments.named};
  std::vector<Value> result;
  for (const Value& item : call.items()) {
    const Value tested = by_attribute ? value_at_path(item, path) : item;
    if ((test.empty() ? is_true(tested) : apply_test(test, tested, of_test, call.budget)) == keeps) result.push_back(item);
  }
  return call.generator(std::move(result));
}

DELTATUNE_FUNCTION Value map_filter(const FilterCall& call) {
  std::vector<Value> result;
  if (call.arguments.positional.empty() && call.arguments.find("attribute") != nullptr) {
    const Bound bound = call.bind({"attribute", "default"});
    for (const Value& item : call.items()) {
      Value value = value_at_path(item, bound[0]);
      if (value.is_undefined() && bound.has_value(1)) value = bound[1];
      result.push_back(std::move(value));
    }
    return call.generator(std::move(result));
  }
  if (call.arguments.positional.empty() || !call.arguments.positional.front().is_text())
    throw Failure{"the filter map lacks the name of a filter or an attribute"};
  Arguments rest = call.arguments;
  rest.positional.erase(rest.positional.begin());
  const Level level(call.budget);  // map may map
  for (const Value& item : call.items()) result.push_back(apply_filter(call.arguments.positional.front().text(), item, rest, call.budget));
  return call.generator(std::move(result));
}

DELTATUNE_FUNCTION Value join_filter(const FilterCall& call) {
  const Bound bound = call.bind({"d", "attribute"});
  const std::string separator = bound.has(0) ? text_of(bound[0], call.budget) : "";
  std::string joined;
  bool is_first = true;
  for (const Value& item : call.items()) {
    if (!std::exchange(is_first, false)) joined += separator;
    joined += text_of(bound.has_value(1) ? value_at_path(item, bound[1]) : item, call.budget);
    call.budget.charge_bytes(separator.size());
  }
  return joined;
}

DELTATUNE_FUNCTION Value tojson_filter(const FilterCall& call) {
  const Bound bound = call.bind({"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style{.ensure_ascii = bound.flag(0), .sort_keys = bound.flag(3)};
  if (bound.has_value(1)) {
    style.breaks_lines = true;
    style.item_separator = ",";
    if (bound[1].is_text()) {
      style.indent = bound[1].text();
    } else {
      style.indent.assign(static_cast<std::size_t>(std::clamp<std::int64_t>(bound.integer(1, 0), 0, 1000)), ' ');
    }
  }
  if (bound.has_value(2)) {
    const auto separators = items_of(bound[2], call.budget);
    const bool fits = separators->items.size() == 2 && separators->items[0].is_text() && separators->items[1].is_text();
    if (!fits) bound.fail_type(2, "two strings");
    style.item_separator = separators->items[0].text();
    style.key_separator = separators->items[1].text();
  }
  std::string text;
  JsonWriter(call.budget, style, text).write(call.input);
  return text;
}

// What Python's float() reads.
DELTATUNE_FUNCTION bool read_float(std::string_view text, double& value_out) {
  text = strip(text, nullptr, true, true);
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  std::string digits;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool joins = text[i] == '_' && i > 0 && i + 1 < text.size() && text[i - 1] >= '0' && text[i - 1] <= '9' && text[i + 1] >= '0' && text[i + 1] <= '9';
    if (!joins) digits += text[i];
  }
  if (digits.empty() || digits.front() == '-' || digits.find('(') != std::string::npos) return false;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value_out);
  if (read.ptr != digits.data() + digits.size()) return false;
  if (read.ec == std::errc::result_out_of_range) throw Failure{"a number is too large or too small for a float"};
  if (read.ec != std::errc()) return false;
  if (is_negative) value_out = -value_out;
  return true;
}

// What Python's int() reads.
DELTATUNE_FUNCTION bool read_integer(std::string_view text, int base, std::int64_t& value_out) {
  text = strip(text, nullptr, true, true);
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.size() > 2 && text[0] == '0') {
    const char letter = static_cast<char>(text[1] | 0x20);
    const bool has_prefix = (letter == 'x' && base == 16) || (letter == 'o' && base == 8) || (letter == 'b' && base == 2);
    if (has_prefix) text.remove_prefix(2);
  }
  std::string digits = is_negative ? "-" : "";
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_' && i > 0 && i + 1 < text.size() && text[i - 1] != '_') continue;
    digits += text[i];
  }
  if (text.empty() || text.front() == '-') return false;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value_out, base);
  if (read.ptr != digits.data() + digits.size()) return false;
  if (read.ec == std::errc::result_out_of_range) throw Failure{"an integer is too large", {.expected = "64 bits"}};
  return read.ec == std::errc();
}

DELTATUNE_FUNCTION Value int_filter(const FilterCall& call) {
  const Bound bound = call.bind({"default", "base"});
  const std::int64_t base = bound.integer(1, 10);
  if (base < 2 || base > 36) throw Failure{"the filter int has a base that is not part of this engine", {.expected = "2 to 36"}};
  const Value missing = bound.has(0) ? bound[0] : Value(0);
  if (call.input.is_undefined()) fail_undefined(call.input);
  if (call.input.is_integer()) return call.input.integer();
  std::int64_t integer = 0;
  double number = 0.0;
  if (call.input.is_text() && read_integer(call.input.text(), static_cast<int>(base), integer)) return integer;
  if (call.input.is_float()) {
    number = call.input.number();
    if (std::isinf(number)) throw Failure{"infinity has no integer"};
  } else if (!call.input.is_text() || !read_float(call.input.text(), number)) {
    return missing;
  }
  if (std::isnan(number) || std::isinf(number)) return missing;
  if (!(std::abs(number) < 9.2e18)) throw Failure{"an integer is too large", {.expected = "64 bits"}};
  return static_cast<std::int64_t>(number);
}

DELTATUNE_FUNCTION Value float_filter(const FilterCall& call) {
  const Bound bound = call.bind({"default"});
  if (call.input.is_undefined()) fail_undefined(call.input);
  if (call.input.is_number()) return call.input.number();
  double number = 0.0;
  if (call.input.is_text() && read_float(call.input.text(), number)) return number;
  return bound.has(0) ? bound[0] : Value(0.0);
}

DELTATUNE_FUNCTION Value round_filter(const FilterCall& call) {
  const Bound bound = call.bind({"precision", "method"});
  const std::int64_t precision = bound.integer(0, 0);
  const std::string method = bound.has(1) ? bound.text(1) : "common";
  if (call.input.is_undefined()) fail_undefined(call.input);
  if (!call.input.is_number()) throw Failure{"the filter round needs a number", {.got = std::string("a value of the type ") + call.input.type_name()}};
  if (precision < 0 || precision > 100) throw Failure{"the filter round has a precision that is not part of this engine", {.expected = "0 to 100"}};
  const double number = call.input.number();
  if (method == "ceil" || method == "floor") {
    const double scale = std::pow(10.0, static_cast<double>(precision));
    return (method == "ceil" ? std::ceil(number * scale) : std::floor(number * scale)) / scale;
  }
  if (method != "common") throw Failure{"the filter round knows no such method", {.expected = "common, ceil or floor", .got = "\"" + method + "\""}};
  if (call.input.is_integer() || !std::isfinite(number)) return call.input;
  char buffer[500];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::fixed, static_cast<int>(precision));
  double rounded = 0.0;
  std::from_chars(buffer, end.ptr, rounded);
  return rounded;
}

DELTATUNE_FUNCTION Value indent_filter(const FilterCall& call) {
  const Bound bound = call.bind({"width", "first", "blank"});
  if (call.input.is_undefined()) fail_undefined(call.input);
  if (!call.input.is_text()) throw Failure{"the filter indent needs a string", {.got = std::string("a value of the type ") + call.input.type_name()}};
  const std::string indent =
      bound.has(0) && bound[0].is_text() ? bound[0].text() : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(bound.integer(0, 4), 0, 1000)), ' ');
  const std::string text = call.input.text() + "\n";
  std::string result = bound.flag(1) ? indent : "";
  bool is_first = true;
  for (const std::string_view line : split_lines(text, false)) {
    call.budget.charge_bytes(line.size() + indent.size());
    if (!is_first) {
      result += '\n';
      if (!line.empty() || bound.flag(2)) result += indent;
    }
    is_first = false;
    result += line;
  }
  return Value(std::move(result), call.input.is_safe());
}

DELTATUNE_FUNCTION Value first_or_last_filter(const FilterCall& call) {
  const Bound none = call.bind({});
  const bool is_first = call.name == "first";
  if (!is_first && call.input.is(SequenceKind::kGenerator))
    throw Failure{"a value of the type generator has no last item", {.remedy = "add |list before |last"}};
  if (!is_first && call.input.is_undefined()) fail_undefined(call.input);
  const auto items = items_of(call.input, call.budget);
  if (items->items.empty()) return Value::undefined("an empty list has no " + call.name + " item");
  return is_first ? items->items.front() : items->items.back();
}

DELTATUNE_FUNCTION Value batch_filter(const FilterCall& call) {
  const Bound bound = call.bind({"linecount", "fill_with"});
  const std::int64_t size = bound.integer(0, 0);
  if (size < 1 || size > 100'000) throw Failure{"the filter batch needs a size", {.expected = "1 to 100000"}};
  std::vector<Value> batches, batch;
  const auto finish = [&] {
    if (!batch.empty()) batches.push_back(Value::list(std::exchange(batch, {})));
  };
  for (Value& item : call.items()) {
    if (batch.size() == static_cast<std::size_t>(size)) finish();
    batch.push_back(std::move(item));
  }
  if (!batch.empty() && bound.has_value(1)) {
    call.budget.charge(static_cast<std::size_t>(size));
    batch.resize(static_cast<std::size_t>(size), bound[1]);
  }
  finish();
  return call.generator(std::move(batches));
}

DELTATUNE_FUNCTION Value text_filter(const FilterCall& call) {
  const std::string& name = call.name;
  const std::string text = call.text();
  const bool is_safe = call.input.is_safe();
  if (name == "trim") {
    const Bound bound = call.bind({"chars"});
    return Value(std::string(strip(text, bound.has_value(0) ? &bound.text(0) : nullptr, true, true)), is_safe);
  }
  if (name == "replace") {
    const Bound bound = call.bind({"old", "new", "count"});
    const std::string from = text_of(bound[0], call.budget), to = text_of(bound[1], call.budget);
    call.budget.charge_bytes(to.size() * (from.empty() ? text.size() + 1 : text.size() / from.size()));
    return replace_text(text, from, to, bound.has_value(2) ? bound.integer(2, -1) : -1);
  }
  const Bound none = call.bind({});
  if (name == "upper") return Value(upper(text), is_safe);
  if (name == "lower") return Value(lower(text), is_safe);
  if (name == "capitalize") return Value(capitalize(text), is_safe);
  if (name == "title") return title_of_words(text);
  if (name == "safe") return Value(text, true);
  if (name == "escape" || name == "e") return is_safe ? call.input : Value(escape_html(text), true);
  return is_safe ? call.input : Value(text);  // string
}

DELTATUNE_FUNCTION Value reverse_filter(const FilterCall& call) {
  const Bound none = call.bind({});
  if (call.input.is_text()) return slice(call.input, nullptr, nullptr, -1, call.budget);
  if (call.input.is_undefined()) return call.generator({});
  std::vector<Value> items = call.items();
  std::reverse(items.begin(), items.end());
  return call.input.is(SequenceKind::kGenerator) ? Value::list(std::move(items)) : call.generator(std::move(items));
}

}  // namespace detail

DELTATUNE_FUNCTION Value apply_filter(const std::string& name, const Value& input, const Arguments& arguments, Budget& budget) {
  using namespace detail;
  budget.charge(1);
  const FilterCall call{name, input, arguments, budget};
  constexpr std::string_view kOfText[] = {"trim", "replace", "upper", "lower", "capitalize", "title", "safe", "escape", "e", "string"};
  if (is_one_of(kOfText, name)) return text_filter(call);
  if (name == "tojson") return tojson_filter(call);
  if (name == "length" || name == "count") {
    const Bound none = call.bind({});
    return length_of(input);
  }
  if (name == "default" || name == "d") {
    const Bound bound = call.bind({"default_value", "boolean"});
    return input.is_undefined() || (bound.flag(1) && !is_true(input)) ? (bound.has(0) ? bound[0] : Value("")) : input;
  }
  if (name == "list") {
    const Bound none = call.bind({});
    return Value::list(call.items());
  }
  if (name == "items") {
    const Bound none = call.bind({});
    if (input.is_undefined()) return call.generator({});
    if (input.as_dict() == nullptr) throw Failure{"the filter items needs a dict", {.got = std::string("a value of the type ") + input.type_name()}};
    return call.generator(dict_method(input, "items", {}, budget).as_sequence()->items);
  }
  if (name == "first" || name == "last") return first_or_last_filter(call);
  if (name == "join") return join_filter(call);
  if (name == "map") return map_filter(call);
  if (name == "select" || name == "reject") return select_filter(call, false, name == "select");
  if (name == "selectattr" || name == "rejectattr") return select_filter(call, true, name == "selectattr");
  if (name == "int") return int_filter(call);
  if (name == "float") return float_filter(call);
  if (name == "round") return round_filter(call);
  if (name == "abs") {
    const Bound none = call.bind({});
    if (input.is_undefined()) fail_undefined(input);
    if (!input.is_number()) throw Failure{"the filter abs needs a number", {.got = std::string("a value of the type ") + input.type_name()}};
    return input.is_float() ? Value(std::abs(input.number())) : input.integer() < 0 ? Arithmetic(0, input).subtract() : Value(input.integer());
  }
  if (name == "sort") return sort_filter(call);
  if (name == "dictsort") return dictsort_filter(call);
  if (name == "unique") return unique_filter(call);
  if (name == "reverse") return reverse_filter(call);
  if (name == "min" || name == "max") return extreme_filter(call, name == "max");
  if (name == "sum") return sum_filter(call);
  if (name == "indent") return indent_filter(call);
  if (name == "batch") return batch_filter(call);
  if (name == "attr") {
    const Bound bound = call.bind({"name"});
    Value found;
    if (input.is_undefined()) fail_undefined(input);
    return python_attribute(input, bound.text(0), found) ? found : Value::undefined(missing_attribute(input, bound.text(0)));
  }
  if (name == "format") {
    if (!arguments.positional.empty() && !arguments.named.empty()) throw Failure{"the filter format has values with and without names"};
    if (arguments.named.empty()) return format_percent(Value(call.text()), Value::tuple(arguments.positional), budget);
    Dict values;
    for (const auto& [key, value] : arguments.named) values.set(Value(key), value);
    return format_percent(Value(call.text()), Value(std::move(values)), budget);
  }
  throw Failure{"the filter \"" + name + "\" is not part of this engine"};
}

}  // namespace deltatune::jinja
