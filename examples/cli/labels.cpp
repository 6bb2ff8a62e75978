#include "labels.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "deltatune/core/sort_stably.hpp"
#include "deltatune/io/parse_json.hpp"
#include "deltatune/text/unicode.hpp"
#include "display.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace {

std::string in_quotes(const std::string& label) { return "\"" + label + "\""; }

// The text in one of Unicode's forms; as it is where it is no UTF-8.
std::string mapped(const std::string& text, int options) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &result,
                                             static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options));
  std::string copy = size < 0 ? text : std::string(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
  std::free(result);
  return copy;
}

// Without white space and invisible characters around it.
std::string trimmed(const std::string& text) {
  std::size_t begin = text.size(), end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const DecodedCodePoint next = decode_utf8(text, at);
    const bool is_invisible = unicode::is_white_space(next.code_point) || next.code_point == 0x200B || next.code_point == 0xFEFF;
    if (!is_invisible) {
      begin = std::min(begin, at);
      end = at + next.bytes;
    }
    at += next.bytes;
  }
  return begin < end ? text.substr(begin, end - begin) : "";
}

// Finite, and nothing beside it. "nan" and "inf" are none.
std::optional<double> number_in(const std::string& label) {
  double value = 0;
  const char* const begin = label.data() + (label.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, label.data() + label.size(), value);
  if (error != std::errc() || end != label.data() + label.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

bool is_whole(double value) { return value == std::floor(value) && std::abs(value) < 1e15; }

// A number below `classes`: 2, 2.0 or LABEL_2.
std::optional<std::int32_t> class_number(const std::string& label, std::size_t classes) {
  const std::optional<double> value = number_in(label.starts_with("LABEL_") ? label.substr(6) : label);
  if (!value || !is_whole(*value) || *value < 0 || *value >= static_cast<double>(classes)) return std::nullopt;
  return static_cast<std::int32_t>(*value);
}

// What labels have in common that one person may have written in two ways: besides what folded_label() evens out also accents, punctuation, hyphens and
// spaces, and the "s" of a plural.
std::string skeleton(const std::string& label) {
  if (number_in(label)) return folded_label(label);
  const std::string plain = mapped(folded_label(label), UTF8PROC_DECOMPOSE | UTF8PROC_STRIPMARK);
  std::string text;
  for (std::size_t at = 0; at < plain.size();) {
    const DecodedCodePoint next = decode_utf8(plain, at);
    const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(next.code_point));
    const bool joins = (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO) || unicode::is_white_space(next.code_point);
    if (!joins) text += plain.substr(at, next.bytes);
    at += next.bytes;
  }
  if (text.size() > 3 && text.ends_with('s')) text.pop_back();
  return text.empty() ? folded_label(label) : text;
}

// Labels grouped by what they have in common.
std::map<std::string, std::vector<std::string>> by_skeleton(const std::vector<std::string>& labels) {
  std::map<std::string, std::vector<std::string>> groups;
  for (const std::string& label : labels) groups[skeleton(label)].push_back(label);
  return groups;
}

std::vector<std::string> sorted(std::vector<std::string> names) {
  if (std::all_of(names.begin(), names.end(), [](const std::string& name) { return number_in(name).has_value(); })) {
    deltatune::detail::sort_stably(names.begin(), names.end(), [](const std::string& a, const std::string& b) { return *number_in(a) < *number_in(b); });
  } else {
    std::sort(names.begin(), names.end());
  }
  return names;
}

}  // namespace

std::string normal_label(const std::string& cell) {
  const bool is_ascii = std::all_of(cell.begin(), cell.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  return trimmed(is_ascii ? cell : mapped(cell, UTF8PROC_COMPOSE));
}

std::string folded_label(const std::string& label) {
  if (const std::optional<double> value = number_in(label)) return "number " + formatted("%.17g", *value == 0 ? 0.0 : *value);
  const std::string folded = mapped(label, UTF8PROC_COMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
  std::string text;
  bool in_space = false;
  for (std::size_t at = 0; at < folded.size();) {
    const DecodedCodePoint next = decode_utf8(folded, at);
    const bool is_space = next.code_point == '_' || unicode::is_white_space(next.code_point);
    if (is_space && !in_space && !text.empty()) text += ' ';
    if (!is_space) text += folded.substr(at, next.bytes);
    in_space = is_space;
    at += next.bytes;
  }
  if (text.ends_with(' ')) text.pop_back();
  return text;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 12, kColumns = 40;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, names.size()); ++i) text += (i == 0 ? "" : ", ") + in_quotes(shortened(names[i], kColumns));
  return names.size() > kShown ? text + " and " + std::to_string(names.size() - kShown) + " more" : text;
}

std::vector<std::string> placeholder_names(Index classes) {
  std::vector<std::string> names;
  for (Index i = 0; i < classes; ++i) names.push_back("LABEL_" + std::to_string(i));
  return names;
}

bool are_placeholders(const std::vector<std::string>& names) { return names == placeholder_names(static_cast<Index>(names.size())); }

std::vector<std::string> labels_option(const std::string& value, const std::string& option) {
  std::vector<std::string> names;
  if (value.ends_with(".json")) {
    const nlohmann::json list = parse_json(MappedFile(value).text(), value);
    if (!list.is_array() || !std::all_of(list.begin(), list.end(), [](const auto& name) { return name.is_string(); }))
      throw Error(option + ": " + value, "does not name the classes", {.expected = "a list of strings", .got = describe(list)});
    names = list.get<std::vector<std::string>>();
  } else {
    for (std::size_t at = 0; at <= value.size();) {
      const std::size_t comma = std::min(value.find(',', at), value.size());
      names.push_back(value.substr(at, comma - at));
      at = comma + 1;
    }
  }
  std::set<std::string> seen;
  for (std::string& name : names) {
    name = normal_label(name);
    if (name.empty()) throw Error(option, "holds an empty name", {.expected = "a name for each class, in the order of their numbers", .got = in_quotes(value)});
    if (!seen.insert(name).second) throw Error(option, "names two classes " + in_quotes(name), {.expected = "another name for each class"});
  }
  return names;
}

std::vector<std::string> LabelColumn::distinct() const {
  std::set<std::string> found(labels.begin(), labels.end());
  found.erase("");
  return sorted({found.begin(), found.end()});
}

LabelColumn read_label_column(const Table& table, const std::string& column) {
  LabelColumn result{&table, column, {}, 0};
  const std::size_t c = static_cast<std::size_t>(table.column(column));
  std::size_t first_missing = 0, first_changed = 0;
  Index changed = 0;
  static const std::set<std::string> kOdd{"nan", "null", "none", "n/a", "#n/a", "<na>"};
  std::vector<std::string> odd;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    const std::string& cell = table.rows[row][c];
    const std::string label = normal_label(cell);
    if (label.empty() && result.missing++ == 0) first_missing = row;
    if (!label.empty() && label != cell && changed++ == 0) first_changed = row;
    result.labels.push_back(label);
  }
  for (const std::string& label : result.distinct())
    if (kOdd.contains(folded_label(label))) odd.push_back(label);
  if (result.missing == static_cast<Index>(table.rows.size())) throw Error(result.place(), "no row has a label");
  const std::string rows = " of " + grouped(static_cast<Index>(table.rows.size())) + " rows ";
  if (result.missing > 0)
    result.notes.push_back(result.place() + ": " + grouped(result.missing) + rows + (result.missing == 1 ? "has" : "have") + " no label and " +
                           (result.missing == 1 ? "is" : "are") + " left out; the first is data row " + std::to_string(first_missing + 1));
  if (changed > 0)
    result.notes.push_back(result.place() + ": " + grouped(changed) + (changed == 1 ? " label is" : " labels are") +
                           " read without the white space around it, or in Unicode's composed form; the first in data row " +
                           std::to_string(first_changed + 1));
  if (!odd.empty())
    result.notes.push_back(result.place() + ": " + listed(odd) + (odd.size() == 1 ? " is a class like any other" : " are classes like any other") +
                           "; leave the cell empty where there is no label");
  return result;
}

std::vector<std::string> classes_in(LabelColumn& column_io, bool whatever) {
  std::vector<std::string> names = column_io.distinct();
  const bool all_numbers = std::all_of(names.begin(), names.end(), [](const std::string& name) { return number_in(name).has_value(); });
  const Index rows = static_cast<Index>(column_io.labels.size()) - column_io.missing;
  if (all_numbers && !whatever) {
    const auto fraction = std::find_if(names.begin(), names.end(), [](const std::string& name) { return !is_whole(*number_in(name)); });
    if (fraction != names.end())
      throw Error(column_io.place(), "holds numbers that are not classes",
                  {.expected = "class names, or whole numbers",
                   .got = in_quotes(*fraction) + " and " + std::to_string(names.size() - 1) + " other values",
                   .remedy = "--task regression trains a model that predicts a number; --task classify makes every value a class"});
  }
  if (names.size() > 20 && static_cast<Index>(names.size()) * 2 > rows && !whatever)
    throw Error(
        column_io.place(), "holds nearly as many labels as rows",
        {.expected = "a few classes",
         .got = std::to_string(names.size()) + " in " + std::to_string(rows) + " rows: " + listed(names),
         .remedy = std::string(all_numbers ? "--task regression trains a model that predicts a number; " : "name the right column with --label-column; ") +
                   "--task classify makes every value a class"});
  if (all_numbers && !whatever) {
    // 1.0 is class 1: what a column of whole numbers becomes in a table with empty cells.
    std::set<std::string> whole;
    Index decimal = 0;
    for (const std::string& name : names) {
      const bool is_decimal = name.find_first_of(".eE") != std::string::npos;
      decimal += is_decimal ? 1 : 0;
      whole.insert(is_decimal ? formatted("%.0f", *number_in(name) + 0.0) : name);
    }
    if (decimal > 0) names = sorted({whole.begin(), whole.end()});
  }
  for (const auto& [common, alike] : by_skeleton(names))
    if (alike.size() > 1)
      column_io.notes.push_back(column_io.place() + ": " + listed(alike) + " are nearly the same, but " + std::to_string(alike.size()) +
                                " classes; correct the data if one is meant");
  return names;
}

std::vector<std::int32_t> class_numbers(LabelColumn& column_io, const std::vector<std::string>& classes, const std::string& remedy) {
  std::map<std::string, std::int32_t> exact, folded;
  std::set<std::string> ambiguous;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    const std::int32_t number = static_cast<std::int32_t>(i);
    exact.emplace(normal_label(classes[i]), number);
    if (!folded.emplace(folded_label(classes[i]), number).second) ambiguous.insert(folded_label(classes[i]));
  }
  for (const std::string& name : ambiguous) folded.erase(name);
  const std::vector<std::string> found = column_io.distinct();
  const bool names_are_numbers = std::any_of(classes.begin(), classes.end(), [](const std::string& name) { return number_in(name).has_value(); });

  std::map<std::string, std::int32_t> by_name;
  std::string read_as;
  for (const std::string& label : found) {
    if (const auto number = exact.find(label); number != exact.end()) {
      by_name.emplace(label, number->second);
    } else if (const auto alike = folded.find(folded_label(label)); alike != folded.end()) {
      by_name.emplace(label, alike->second);
      read_as += (read_as.empty() ? "" : ", ") + in_quotes(label) + " as " + in_quotes(classes[static_cast<std::size_t>(alike->second)]);
    }
  }
  std::map<std::string, std::int32_t> by_number;
  if (!names_are_numbers)
    for (const std::string& label : found)
      if (const auto number = class_number(label, classes.size())) by_number.emplace(label, *number);
  const bool are_names = by_name.size() == found.size(), are_numbers = by_number.size() == found.size();
  if (are_names && !read_as.empty()) column_io.notes.push_back(column_io.place() + ": labels are read " + read_as);
  if (!are_names && are_numbers) {
    std::string meaning;
    for (std::size_t i = 0; i < std::min<std::size_t>(classes.size(), 20); ++i)
      meaning += (i == 0 ? "" : ", ") + std::to_string(i) + " is " + in_quotes(shortened(classes[i], 40));
    column_io.notes.push_back(column_io.place() + ": labels are class numbers: " + meaning + (classes.size() > 20 ? ", ..." : ""));
  }
  const std::map<std::string, std::int32_t>& numbers = !are_names && are_numbers ? by_number : by_name;
  std::vector<std::int32_t> result;
  for (std::size_t row = 0; row < column_io.labels.size(); ++row) {
    const std::string& label = column_io.labels[row];
    const auto number = numbers.find(label);
    if (!label.empty() && number == numbers.end()) {
      const auto unknown =
          std::count_if(column_io.labels.begin(), column_io.labels.end(), [&](const std::string& each) { return !each.empty() && !numbers.contains(each); });
      const std::string others = unknown > 1 ? ", and unknown labels in " + std::to_string(unknown - 1) + (unknown > 2 ? " other rows" : " other row") : "";
      const std::string or_numbers = names_are_numbers ? "" : ", or class numbers 0 to " + std::to_string(classes.size() - 1);
      throw Error(column_io.place(row), "unknown label",
                  {.expected = "one of " + listed(classes) + or_numbers, .got = in_quotes(shortened(label, 80)) + others, .remedy = remedy});
    }
    result.push_back(label.empty() ? -1 : number->second);
  }
  return result;
}

std::vector<std::optional<float>> scores(const LabelColumn& column, const std::string& remedy) {
  std::vector<std::optional<float>> result;
  Index bad = 0;
  std::size_t first_bad = 0;
  for (std::size_t row = 0; row < column.labels.size(); ++row) {
    const std::string& label = column.labels[row];
    const std::optional<double> value = number_in(label);
    if (!label.empty() && !value && bad++ == 0) first_bad = row;
    result.push_back(value ? std::optional<float>(static_cast<float>(*value)) : std::nullopt);
  }
  if (bad > 0)
    throw Error(column.place(first_bad), "is not a number",
                {.expected = "a number such as 0.5",
                 .got = in_quotes(shortened(column.labels[first_bad], 80)) +
                        (bad == 1 ? "" : ", and no numbers in " + grouped(bad - 1) + (bad == 2 ? " other row" : " other rows")),
                 .remedy = remedy});
  return result;
}

bool reorders(const std::vector<std::string>& names, const std::vector<std::string>& own) {
  const auto folded = [](const std::vector<std::string>& list) {
    std::vector<std::string> result;
    for (const std::string& name : list) result.push_back(folded_label(name));
    return result;
  };
  std::vector<std::string> a = folded(names), b = folded(own);
  if (a == b || are_placeholders(own)) return false;
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b;
}

std::vector<std::string> choose_classes(LabelColumn& column_io, const OutputLayer& layer, const std::vector<std::string>& given, bool whatever) {
  const std::size_t trained = static_cast<std::size_t>(layer.classes);
  std::vector<std::string> own = layer.labels;
  if (trained > 0 && own.size() != trained) own = placeholder_names(layer.classes);
  const auto does_not_fit = [&](const std::vector<std::string>& wanted) {
    return Error(layer.model, "the output layer was trained for other classes",
                 {.expected = listed(own) + " (" + std::to_string(own.size()) + ")",
                  .got = listed(wanted) + " (" + std::to_string(wanted.size()) + ") in " + column_io.place(),
                  .remedy = layer.remedy + "; --labels names the classes of this one, in its order, when they have other names in the data"});
  };
  if (!given.empty()) {
    if (trained > 0 && given.size() != trained) throw does_not_fit(given);
    if (trained > 0 && reorders(given, own))
      throw Error("--labels", "gives the classes of the output layer in another order, which would swap their names",
                  {.expected = listed(own), .got = listed(given), .remedy = "leave it out; " + layer.remedy});
    return given;
  }
  const auto fits = [&](const std::vector<std::string>& names) {
    LabelColumn trial = column_io;
    try {
      class_numbers(trial, names);
    } catch (const Error&) {
      return false;
    }
    return true;
  };
  if (trained > 0 && !are_placeholders(own)) {
    if (!fits(own)) throw does_not_fit(column_io.distinct());
    return own;
  }
  if (trained > 0 && fits(own)) {  // class numbers
    if (column_io.distinct().front().starts_with("LABEL_")) return own;
    for (std::size_t i = 0; i < trained; ++i) own[i] = std::to_string(i);
    return own;
  }
  std::vector<std::string> found = classes_in(column_io, whatever);
  if (trained > 0) {
    if (found.size() != trained) throw does_not_fit(found);
    column_io.notes.push_back(layer.model + ": the output layer is trained but does not name its classes; its rows are used for " + listed(found) +
                              " in this order (" + layer.remedy + ", --labels gives another order)");
    return found;
  }
  // A configuration may name classes without an output layer: their order counts when they are those of the data.
  if (own.size() == found.size() && !are_placeholders(own) && fits(own)) return own;
  return found;
}

}  // namespace deltatune::cli
