#include "text_data.hpp"

#include <algorithm>
#include <set>

namespace deltatune::cli {

namespace {

std::string usual_column(const Table& table, const std::vector<std::string>& usual, const char* option) {
  for (const std::string& name : usual)
    if (std::find(table.columns.begin(), table.columns.end(), name) != table.columns.end()) return name;
  std::string present;
  for (const std::string& name : table.columns) present += (present.empty() ? "" : ", ") + name;
  throw Error(table.name, "has no column \"" + usual.front() + "\"", {.got = present, .remedy = std::string("name the column with ") + option});
}

bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 18 &&
         std::all_of(text.begin() + (text[0] == '-' && text.size() > 1 ? 1 : 0), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

TextColumns resolve_columns(const Table& table, TextColumns columns, bool with_label) {
  if (columns.text.empty()) columns.text = usual_column(table, {"text", "sentence", "tweet"}, "--text-column");
  if (with_label && columns.label.empty()) columns.label = usual_column(table, {"label", "sentiment"}, "--label-column");
  return columns;
}

std::vector<std::string> class_names(const Table& table, const std::string& label_column) {
  const std::size_t column = static_cast<std::size_t>(table.column(label_column));
  std::set<std::string> distinct;
  for (const auto& row : table.rows) distinct.insert(row[column]);
  std::vector<std::string> names(distinct.begin(), distinct.end());
  if (std::all_of(names.begin(), names.end(), is_number))
    std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) { return std::stoll(a) < std::stoll(b); });
  return names;
}

Dataset tokenize(const Table& table, const TextColumns& columns, const WordPiece& tokenizer, Index max_length, const std::vector<std::string>& classes) {
  const std::size_t text = static_cast<std::size_t>(table.column(columns.text));
  const std::size_t pair = columns.pair.empty() ? 0 : static_cast<std::size_t>(table.column(columns.pair));
  const std::size_t label = classes.empty() ? 0 : static_cast<std::size_t>(table.column(columns.label));
  std::map<std::string, std::int32_t> numbers;
  std::string known;
  for (const std::string& name : classes) {
    numbers.emplace(name, static_cast<std::int32_t>(numbers.size()));
    known += (known.empty() ? "\"" : ", \"") + name + "\"";
  }
  Dataset data;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    Example example;
    if (columns.pair.empty()) {
      example.ids = tokenizer.encode(table.rows[row][text], max_length);
    } else {
      EncodedPair encoded = tokenizer.encode_pair(table.rows[row][text], table.rows[row][pair], max_length);
      example.ids = std::move(encoded.ids);
      example.types = std::move(encoded.token_types);
    }
    if (!classes.empty()) {
      const auto number = numbers.find(table.rows[row][label]);
      if (number == numbers.end())
        throw Error(table.name + ": data row " + std::to_string(row + 1) + ", column " + columns.label, "unknown label",
                    {.expected = "one of " + known, .got = "\"" + table.rows[row][label] + "\""});
      example.label = number->second;
    }
    data.add(std::move(example));
  }
  return data;
}

std::string encoding_note(const Table& table) {
  if (table.rows_with_invalid_utf8 == 0) return "";
  return table.name + ": " + std::to_string(table.replaced_sequences) + " sequences of bytes in " + std::to_string(table.rows_with_invalid_utf8) +
         " rows are not UTF-8 and were replaced by U+FFFD";
}

}  // namespace deltatune::cli
