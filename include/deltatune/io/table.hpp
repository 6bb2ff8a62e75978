// Rows of text with named columns from a file: .csv (RFC 4180), .tsv (the same with tabs), .jsonl / .ndjson (one flat object per line) and .json
// (a list of flat objects; .jsonl may hold one, too). Lines end in LF, CRLF or CR; a byte order mark and blank lines are skipped. A .csv whose
// header has no comma but semicolons or tabs is cut at those. Bytes that aren't UTF-8 become U+FFFD and are counted.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/parse_json.hpp"

namespace deltatune {

// Of a column of a JSON file: in how many rows its key is missing, or its value is a number, true or false, which is read as it is written. And the first
// of each.
struct JsonColumn {
  Index missing = 0, not_text = 0;
  std::size_t first_missing = 0, first_not_text = 0;
};

struct Table {
  std::string name;  // of the file, for messages
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // each as long as columns
  Index replaced_sequences = 0;                // U+FFFD written for bytes that weren't UTF-8, header included
  Index rows_with_invalid_utf8 = 0;
  std::vector<Index> lines = {};      // of the file, counted from 1, where each row begins
  char delimiter = ',';               // of a .csv or .tsv
  std::vector<JsonColumn> json = {};  // of a JSON file, one per column

  // "data.csv: data row 2 (line 3)", for messages; row counts from 0.
  std::string place(std::size_t row) const {
    return name + ": data row " + std::to_string(row + 1) + (row < lines.size() ? " (line " + std::to_string(lines[row]) + ")" : "");
  }

  DELTATUNE_FUNCTION Index column(std::string_view wanted) const {
    const auto found = std::find(columns.begin(), columns.end(), wanted);
    if (found != columns.end()) return found - columns.begin();
    std::string present;
    for (const std::string& column_name : columns) present += (present.empty() ? "" : ", ") + column_name;
    throw Error(name, "no column \"" + std::string(wanted) + "\"", {.expected = "one of: " + present});
  }
};

namespace detail {

inline std::string line_of(const std::string& file, Index line) { return file + ": line " + std::to_string(line); }

// Cuts a text into fields and rows. Quotes enclose a field only where they stand at its begin and its end; within it a quote is doubled.
class DelimitedReader {
 public:
  DelimitedReader(std::string_view text, char delimiter, const std::string& file) : text_(text), delimiter_(delimiter), file_(file) {}

  // Line where the row began that next_row() gave last.
  Index line() const { return row_line_; }

  // False at the end of the text.
  DELTATUNE_FUNCTION bool next_row(std::vector<std::string>& fields_out) {
    while (at_ < text_.size() && at_line_end()) skip_line_end();
    if (at_ == text_.size()) return false;
    fields_out.clear();
    row_line_ = line_;
    while (true) {
      fields_out.push_back(text_[at_] == '"' ? quoted_field() : plain_field());
      if (at_ == text_.size()) return true;
      if (at_line_end()) {
        skip_line_end();
        return true;
      }
      ++at_;  // the delimiter
      if (at_ == text_.size()) {
        fields_out.emplace_back();
        return true;
      }
    }
  }

 private:
  bool at_line_end() const { return text_[at_] == '\n' || text_[at_] == '\r'; }

  void skip_line_end() {
    at_ += text_.substr(at_).starts_with("\r\n") ? 2 : 1;
    ++line_;
  }

  std::string plain_field() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != delimiter_ && !at_line_end()) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  DELTATUNE_FUNCTION std::string quoted_field() {
    const Index first_line = line_;
    std::string field;
    ++at_;
    while (at_ < text_.size()) {
      const std::size_t begin = at_;
      if (text_[at_] == '"') {
        ++at_;
        if (at_ == text_.size() || text_[at_] != '"') return closed(std::move(field), first_line);
        ++at_;
        field += '"';
      } else if (at_line_end()) {
        skip_line_end();
        field += text_.substr(begin, at_ - begin);
      } else {
        field += text_[at_++];
      }
    }
    throw Error(line_of(file_, first_line), "a quoted field begins here and never ends", {.remedy = "close it with \", or write \"\" for a quote within"});
  }

  DELTATUNE_FUNCTION std::string closed(std::string field, Index first_line) const {
    if (at_ < text_.size() && text_[at_] != delimiter_ && !at_line_end()) {
      throw Error(line_of(file_, first_line), "text after the closing quote of a field",
                  {.expected = "a delimiter or the end of the line", .remedy = "write \"\" for a quote within a quoted field"});
    }
    return field;
  }

  std::string_view text_;
  char delimiter_;
  const std::string& file_;
  std::size_t at_ = 0;
  Index line_ = 1, row_line_ = 1;
};

DELTATUNE_FUNCTION Index replace_invalid_utf8(std::vector<std::string>& fields_io) {
  Index replaced = 0;
  for (std::string& field : fields_io) replaced += deltatune::replace_invalid_utf8(field);
  return replaced;
}

DELTATUNE_FUNCTION void read_delimited(std::string_view text, char delimiter, Table& table_io) {
  DelimitedReader reader(text, delimiter, table_io.name);
  if (!reader.next_row(table_io.columns)) return;
  table_io.replaced_sequences += replace_invalid_utf8(table_io.columns);
  for (auto column = table_io.columns.begin(); column != table_io.columns.end(); ++column) {
    if (std::find(table_io.columns.begin(), column, *column) != column) {
      throw Error(line_of(table_io.name, reader.line()), "two columns are named \"" + *column + "\"");
    }
  }

  for (std::vector<std::string> fields; reader.next_row(fields);) {
    if (fields.size() != table_io.columns.size()) {
      throw Error(line_of(table_io.name, reader.line()), "wrong number of fields",
                  {.expected = std::to_string(table_io.columns.size()) + " as in the header",
                   .got = std::to_string(fields.size()),
                   .remedy = "put quotes around a field that contains the delimiter or a line end"});
    }
    const Index replaced = replace_invalid_utf8(fields);
    table_io.replaced_sequences += replaced;
    table_io.rows_with_invalid_utf8 += replaced > 0 ? 1 : 0;
    table_io.rows.push_back(std::move(fields));
    table_io.lines.push_back(reader.line());
  }
}

// A comma, unless the header has none and is cut at semicolons (as spreadsheets write where the comma is the decimal point) or tabs.
DELTATUNE_FUNCTION char delimiter_of_csv(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of("\r\n"), text.size()));
  bool quoted = false, semicolon = false, tab = false;
  for (const char c : text) {
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    if (c == ',') return ',';
    if (c == '\n' || c == '\r') break;
    semicolon = semicolon || c == ';';
    tab = tab || c == '\t';
  }
  return semicolon ? ';' : tab ? '\t' : ',';
}

struct JsonRecord {
  std::string_view text;
  Index line = 1;
};

// The entries of a JSON list, uncut; what stands between them is checked, they themselves are not.
DELTATUNE_FUNCTION std::vector<JsonRecord> json_list_entries(std::string_view text, const std::string& file) {
  std::vector<JsonRecord> entries;
  Index line = 1, depth = 0, first_line = 0;
  bool in_string = false, closed = false;
  std::size_t begin = 0;
  const auto add = [&](std::size_t end) {
    if (first_line == 0 && entries.empty() && text[end] == ']') return;  // an empty list
    if (first_line == 0) throw Error(line_of(file, line), "not valid JSON: an entry of the list is missing", {.expected = "{\"column\": value, ...}"});
    entries.push_back({text.substr(begin, end - begin), first_line});
    first_line = 0;
  };
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '\n') ++line;
    const bool is_space = c == ' ' || c == '\t' || c == '\r' || c == '\n';
    if (is_space && !in_string) continue;
    if (closed) throw Error(line_of(file, line), "text after the end of the list");
    if (in_string) {
      if (c == '\\') {
        ++at;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    if (depth == 1 && (c == ',' || c == ']')) {
      add(at);
      closed = c == ']';
      continue;
    }
    if (depth == 1 && first_line == 0) {
      begin = at;
      first_line = line;
    }
    in_string = c == '"';
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
  }
  if (!closed) throw Error(file, "a list begins here and never ends", {.expected = "] at its end", .remedy = "is the file complete?"});
  return entries;
}

// The records of a JSON file: the entries of a list, or else the lines that are not blank.
DELTATUNE_FUNCTION std::vector<JsonRecord> json_records(std::string_view text, const std::string& file) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && text[first] == '[') return json_list_entries(text, file);
  std::vector<JsonRecord> records;
  for (Index line = 1; !text.empty(); ++line) {
    const std::string_view content = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(content.size() + 1, text.size()));
    if (content.find_first_not_of(" \t\r") != std::string_view::npos) records.push_back({content, line});
  }
  return records;
}

// Receives the events of one line of JSON and puts its values into a row; numbers stay as they are written where they aren't integers.
class JsonRowReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  // Which rows have a column's key.
  struct Present {
    Index rows = 0;
    std::size_t first_gap = 0, last = static_cast<std::size_t>(-1);
    void add(std::size_t row) {
      if (last == row) return;  // a key that stands there twice
      last = row;
      ++rows;
      if (first_gap == row) ++first_gap;
    }
  };

  JsonRowReader(Table& table, std::unordered_map<std::string, std::size_t>& columns, std::vector<Present>& present, std::string where)
      : table_(table), columns_(columns), present_(present), where_(std::move(where)) {}

  std::vector<std::string>& row() { return row_; }

  bool null() override { return put(""); }
  bool boolean(bool value) override { return put_written(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return put_written(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return put_written(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return put_written(text); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // part of the interface; JSON text has none

  bool start_object(std::size_t) override {
    if (in_object_) fail_nested("an object");
    return in_object_ = true;
  }
  bool key(string_t& name) override {
    const auto [column, is_new] = columns_.try_emplace(name, table_.columns.size());
    if (is_new) {
      table_.columns.push_back(name);
      table_.json.emplace_back();
      present_.emplace_back();
    }
    column_ = column->second;
    present_[column_].add(table_.rows.size());
    return true;
  }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override {
    if (!in_object_) fail_not_an_object();
    fail_nested("a list");
  }
  bool end_array() override { return true; }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw Error(where_, "not valid JSON at character " + std::to_string(position), {.expected = "one object on each line"});
  }

 private:
  DELTATUNE_FUNCTION bool put(std::string value) {
    if (!in_object_) fail_not_an_object();
    row_.resize(std::max(row_.size(), column_ + 1));
    row_[column_] = std::move(value);
    return true;
  }

  bool put_written(std::string value) {
    put(std::move(value));
    JsonColumn& column = table_.json[column_];
    if (column.not_text++ == 0) column.first_not_text = table_.rows.size();
    return true;
  }

  [[noreturn]] void fail_not_an_object() const { throw Error(where_, "not an object", {.expected = "{\"column\": value, ...}"}); }
  [[noreturn]] void fail_nested(const std::string& got) const {
    throw Error(where_ + ": " + table_.columns[column_], "nested values cannot stand in a table",
                {.expected = "a string, a number, true, false or null", .got = got});
  }

  Table& table_;
  std::unordered_map<std::string, std::size_t>& columns_;
  std::vector<Present>& present_;
  std::string where_;
  std::vector<std::string> row_;
  std::size_t column_ = 0;
  bool in_object_ = false;
};

DELTATUNE_FUNCTION void read_json_records(std::string_view text, Table& table_io) {
  std::unordered_map<std::string, std::size_t> columns;
  std::vector<JsonRowReader::Present> present;
  for (const JsonRecord& record : json_records(text, table_io.name)) {
    std::string content(record.text);
    const Index replaced = deltatune::replace_invalid_utf8(content);
    table_io.replaced_sequences += replaced;
    table_io.rows_with_invalid_utf8 += replaced > 0 ? 1 : 0;
    JsonRowReader reader(table_io, columns, present, line_of(table_io.name, record.line));
    sax_parse(content, reader);
    table_io.rows.push_back(std::move(reader.row()));
    table_io.lines.push_back(record.line);
  }
  for (auto& row : table_io.rows) row.resize(table_io.columns.size());
  for (std::size_t c = 0; c < present.size(); ++c) {
    table_io.json[c].missing = static_cast<Index>(table_io.rows.size()) - present[c].rows;
    table_io.json[c].first_missing = present[c].first_gap;
  }
}

}  // namespace detail

// The extension says how to read it.
DELTATUNE_FUNCTION Table read_table(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  const bool is_json = extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
  if (!is_json && extension != ".csv" && extension != ".tsv") {
    throw Error(path.string(), "unknown kind of table", {.expected = "a name that ends in .csv, .tsv, .jsonl, .ndjson or .json"});
  }

  const MappedFile file(path);
  std::string_view text = file.text();
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    throw Error(path.string(), "is UTF-16", {.expected = "UTF-8", .remedy = "save it as UTF-8"});
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);

  Table table;
  table.name = path.string();
  if (is_json) {
    detail::read_json_records(text, table);
  } else {
    table.delimiter = extension == ".csv" ? detail::delimiter_of_csv(text) : '\t';
    detail::read_delimited(text, table.delimiter, table);
  }
  if (table.rows.empty()) {
    throw Error(table.name, "no rows", {.expected = is_json ? "one object on each line, or a list of objects" : "a header line and at least one row"});
  }
  return table;
}

}  // namespace deltatune
