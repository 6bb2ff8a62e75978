// Values as text: Python's str(), repr() and json.dumps().
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
#include "deltatune/core/sort_stably.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/jinja/budget.hpp"
#include "deltatune/text/jinja/python_text.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune::jinja {

// The shortest text that reads back as this number, with an exponent below 1e-4 and from 1e16 on.
DELTATUNE_FUNCTION std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[400];
  const auto scientific = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string text(buffer, scientific.ptr);
  int exponent = 0;
  std::from_chars(text.data() + text.find('e') + (text[text.find('e') + 1] == '+' ? 2 : 1), text.data() + text.size(), exponent);
  if (exponent < -4 || exponent >= 16) return text;
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  text.assign(buffer, fixed.ptr);
  return text.find('.') == std::string::npos ? text + ".0" : text;
}

inline void append_hex(char32_t c, int digits, std::string& text_io) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) text_io += "0123456789abcdef"[(c >> shift) & 0xFU];
}

inline bool is_printable(char32_t c) {
  if (c < 0x7F) return c >= ' ';
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category != UTF8PROC_CATEGORY_CN && category < UTF8PROC_CATEGORY_ZS;
}

class Writer {
 public:
  Writer(Budget& budget, std::string& text_io) : budget_(budget), text_(text_io) {}

  // str(). Throws Failure for values whose text nobody can want: functions, generators.
  DELTATUNE_FUNCTION void str(const Value& value) {
    if (value.is_text()) return put(value.text());
    if (!value.is_undefined()) repr(value);
  }

  DELTATUNE_FUNCTION void repr(const Value& value) {
    budget_.charge(1);
    if (value.is_undefined()) return put("Undefined");
    if (value.is_none()) return put("None");
    if (value.is_bool()) return put(value.boolean() ? "True" : "False");
    if (value.is_integer()) return put(std::to_string(value.integer()));
    if (value.is_float()) return put(float_text(value.number()));
    if (value.is_text()) return put(value.is_safe() ? "Markup(" + quoted(value.text()) + ")" : quoted(value.text()));
    if (const Dict* const dict = value.as_dict()) return dict_repr(*dict);
    const Sequence* const sequence = value.as_sequence();
    if (sequence == nullptr || sequence->kind == SequenceKind::kGenerator || sequence->kind == SequenceKind::kRange) {
      throw Failure{std::string("a value of the type ") + value.type_name() + " is printed",
                    {.expected = "text, a number, a list or a dict", .remedy = sequence == nullptr ? "" : "add |list to see its items"}};
    }
    if (!sequence->why_no_text.empty()) throw Failure{sequence->why_no_text};
    const bool is_view = sequence->kind != SequenceKind::kList && sequence->kind != SequenceKind::kTuple;
    if (is_view) put(std::string(value.type_name()) + "(");
    const bool is_tuple = sequence->kind == SequenceKind::kTuple;
    put(is_tuple ? "(" : "[");
    for (std::size_t i = 0; i < sequence->items.size(); ++i) {
      if (i > 0) put(", ");
      repr(sequence->items[i]);
    }
    if (is_tuple && sequence->items.size() == 1) put(",");
    put(is_tuple ? ")" : "]");
    if (is_view) put(")");
  }

 private:
  void put(std::string_view text) {
    budget_.charge_bytes(text.size());
    text_ += text;
  }

  DELTATUNE_FUNCTION void dict_repr(const Dict& dict) {
    put("{");
    for (std::size_t i = 0; i < dict.size(); ++i) {
      if (i > 0) put(", ");
      repr(dict.entries()[i].first);
      put(": ");
      repr(dict.entries()[i].second);
    }
    put("}");
  }

  static DELTATUNE_FUNCTION std::string quoted(std::string_view text) {
    const char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
    std::string result(1, quote);
    for_each_character(text, [&](char32_t c, std::string_view character) {
      if (c == '\\' || c == static_cast<unsigned char>(quote)) {
        result += '\\';
        result += character;
      } else if (c == '\n' || c == '\r' || c == '\t') {
        result += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
      } else if (is_printable(c)) {
        result += character;
      } else {
        result += c < 0x100 ? "\\x" : c < 0x10000 ? "\\u" : "\\U";
        append_hex(c, c < 0x100 ? 2 : c < 0x10000 ? 4 : 8, result);
      }
    });
    return result + quote;
  }

  Budget& budget_;
  std::string& text_;
};

// str(value)
DELTATUNE_FUNCTION std::string text_of(const Value& value, Budget& budget) {
  std::string text;
  Writer(budget, text).str(value);
  return text;
}

// How transformers' filter tojson writes: the arguments of json.dumps().
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool breaks_lines = false;  // with an indent
  std::string indent = {};
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

class JsonWriter {
 public:
  JsonWriter(Budget& budget, const JsonStyle& style, std::string& text_io) : budget_(budget), style_(style), text_(text_io) {}

  // Throws Failure for what JSON has no word for: undefined values, generators, functions.
  DELTATUNE_FUNCTION void write(const Value& value, std::size_t level = 0) {
    budget_.charge(1);
    const Sequence* const sequence = value.as_sequence();
    if (const Dict* const dict = value.as_dict()) {
      dict_json(*dict, level);
    } else if (sequence != nullptr && (sequence->kind == SequenceKind::kList || sequence->kind == SequenceKind::kTuple)) {
      put("[");
      for (std::size_t i = 0; i < sequence->items.size(); ++i) {
        if (i > 0) put(style_.item_separator);
        break_line(level + 1);
        write(sequence->items[i], level + 1);
      }
      if (!sequence->items.empty()) break_line(level);
      put("]");
    } else if (value.is_text()) {
      string_json(value.text());
    } else if (value.is_none() || value.is_number()) {
      put(scalar_json(value));
    } else {
      throw Failure{std::string("a value of the type ") + value.type_name() + " cannot be written as JSON",
                    {.got = value.is_undefined() ? value.reason() : ""}};
    }
  }

 private:
  void put(std::string_view text) {
    budget_.charge_bytes(text.size());
    text_ += text;
  }

  void break_line(std::size_t level) {
    if (!style_.breaks_lines) return;
    put("\n");
    for (std::size_t i = 0; i < level; ++i) put(style_.indent);
  }

  static DELTATUNE_FUNCTION std::string scalar_json(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.boolean() ? "true" : "false";
    if (value.is_integer()) return std::to_string(value.integer());
    const double number = value.number();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return float_text(number);
  }

  DELTATUNE_FUNCTION void dict_json(const Dict& dict, std::size_t level) {
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      for (const Dict::Entry* const entry : entries)
        if (!entry->first.is_text()) throw Failure{"tojson sorts keys that are not all strings"};
      budget_.charge(entries.size() * 20);
      deltatune::detail::sort_stably(entries.begin(), entries.end(), [](const auto* a, const auto* b) { return a->first.text() < b->first.text(); });
    }
    put("{");
    bool is_first = true;
    for (const Dict::Entry* const entry : entries) {
      const Value& key = entry->first;
      if (!is_first) put(style_.item_separator);
      is_first = false;
      break_line(level + 1);
      if (!key.is_text() && !key.is_none() && !key.is_number())
        throw Failure{std::string("a key of the type ") + key.type_name() + " cannot be written as JSON"};
      string_json(key.is_text() ? key.text() : scalar_json(key));
      put(style_.key_separator);
      write(entry->second, level + 1);
    }
    if (!entries.empty()) break_line(level);
    put("}");
  }

  DELTATUNE_FUNCTION void string_json(std::string_view text) {
    std::string result = "\"";
    for_each_character(text, [&](char32_t c, std::string_view character) {
      constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
      const std::size_t short_escape = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : std::string_view::npos;
      if (short_escape != std::string_view::npos) {
        result += '\\';
        result += kLetters[short_escape];
      } else if (c < 0x20 || (style_.ensure_ascii && c >= 0x7F)) {
        if (c == 0x7F) {
          result += character;
        } else if (c < 0x10000) {
          result += "\\u";
          append_hex(c, 4, result);
        } else {
          result += "\\u";
          append_hex(0xD800U + ((c - 0x10000U) >> 10U), 4, result);
          result += "\\u";
          append_hex(0xDC00U + ((c - 0x10000U) & 0x3FFU), 4, result);
        }
      } else {
        result += character;
      }
    });
    put(result + '"');
  }

  Budget& budget_;
  const JsonStyle& style_;
  std::string& text_;
};

}  // namespace deltatune::jinja
