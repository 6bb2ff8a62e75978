// Jinja's tests: value is NAME.
#pragma once

#include <cmath>
#include <string>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/arguments.hpp"
#include "deltatune/text/jinja/operators.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune::jinja {

// Throws Failure for a test that this engine lacks, and for values that a test cannot take.
DELTATUNE_FUNCTION bool apply_test(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget) {
  budget.charge(1);
  const std::string function = "the test " + name;
  const auto none = [&] { const Bound bound(function, arguments, {}); };
  const auto other = [&] { return Bound(function, arguments, {"other"})[0]; };
  const auto modulo = [&](const Value& divisor) {
    if (!value.is_number() || !divisor.is_number()) fail_operands("%", value, divisor);
    return Arithmetic(value, divisor).remainder();
  };

  if (name == "==" || name == "eq" || name == "equalto") return is_equal(value, other(), budget);
  if (name == "!=" || name == "ne") return !is_equal(value, other(), budget);
  if (name == "<" || name == "lt" || name == "lessthan") return is_less(value, other(), budget);
  if (name == ">" || name == "gt" || name == "greaterthan") return is_less(other(), value, budget);
  if (name == "<=" || name == "le") return is_less(value, other(), budget) || is_equal(value, other(), budget);
  if (name == ">=" || name == "ge") return is_less(other(), value, budget) || is_equal(value, other(), budget);
  if (name == "in") return contains(other(), value, budget);
  if (name == "divisibleby") return !is_true(modulo(other()));
  if (name == "sameas") {
    const Value same = other();
    const bool is_simple = value.is_none() || value.is_bool() || value.is_integer();
    if (!is_simple && !same.is_none() && !same.is_bool()) throw Failure{"the test sameas of objects is not part of this engine", {.remedy = "compare with =="}};
    return std::string_view(value.type_name()) == same.type_name() && is_equal(value, same, budget);
  }

  none();
  const Sequence* const sequence = value.as_sequence();
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "boolean") return value.is_bool();
  if (name == "true") return value.is_bool() && value.boolean();
  if (name == "false") return value.is_bool() && !value.boolean();
  if (name == "string") return value.is_text();
  if (name == "number") return value.is_number();
  if (name == "integer") return value.is_integer() && !value.is_bool();
  if (name == "float") return value.is_float();
  if (name == "mapping") return value.as_dict() != nullptr;
  if (name == "iterable") return value.is_undefined() || value.is_text() || value.as_dict() != nullptr || sequence != nullptr || value.as_loop() != nullptr;
  if (name == "sequence") {
    const bool is_indexed = value.is(SequenceKind::kList) || value.is(SequenceKind::kTuple) || value.is(SequenceKind::kRange);
    return value.is_text() || value.as_dict() != nullptr || is_indexed || value.is_undefined();
  }
  if (name == "callable") return value.as_callable() != nullptr || value.is_undefined();
  if (name == "odd") return is_equal(modulo(2), 1, budget);
  if (name == "even") return is_equal(modulo(2), 0, budget);
  if (name == "lower" || name == "upper") {
    bool has_letter = false, fits = true;
    for_each_character(text_of(value, budget), [&](char32_t c, std::string_view) {
      const LetterCase letter = letter_case(c);
      has_letter = has_letter || letter != LetterCase::kNone;
      fits = fits && (letter == LetterCase::kNone || letter == (name == "lower" ? LetterCase::kLower : LetterCase::kUpper));
    });
    return has_letter && fits;
  }
  if (name == "escaped") return value.is_safe();
  throw Failure{"the test \"" + name + "\" is not part of this engine"};
}

}  // namespace deltatune::jinja
