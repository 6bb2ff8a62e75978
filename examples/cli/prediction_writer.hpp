// The file that predictions are written to: the rows of a table as they are, and the answers behind them.
#pragma once

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/table.hpp"
#include "report.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

enum class Format { csv, tsv, jsonl };

// Of the file to write, by its name; CSV goes to the screen.
inline Format format_of(const std::string& out) {
  std::string extension = std::filesystem::path(out).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (out.empty() || extension == ".csv") return Format::csv;
  if (extension == ".tsv") return Format::tsv;
  if (extension == ".jsonl" || extension == ".ndjson") return Format::jsonl;
  throw Error("--out", "unknown kind of file", {.expected = "a name that ends in .csv, .tsv or .jsonl", .got = "\"" + out + "\""});
}

class PredictionWriter {
 public:
  // answers: names of the columns that add() gives values for.
  PredictionWriter(const Table& table, Format format, std::vector<std::string> answers, Notes& notes_io)
      : table_(table), format_(format), delimiter_(format == Format::tsv ? '\t' : ','), answers_(std::move(answers)) {
    for (const std::string& column : table_.columns) {
      names_.push_back(free_name(column));
      if (names_.back() != column)
        notes_io.push_back(table_.name + ": column " + column + " is written as " + names_.back() + ", since \"" + column + "\" is the model's answer");
    }
    if (format_ == Format::jsonl) {
      if (table_.json.empty()) return;
      std::string_view text = file_.emplace(table_.name).text();
      if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
      records_ = deltatune::detail::json_records(text, table_.name);
      return;
    }
    for (const std::string& name : names_) add_field(name);
    for (const std::string& name : answers_) add_field(name);
    end_line();
  }

  // One value per answer: a text, a number, or for JSON anything.
  void add(Index row, const std::vector<nlohmann::ordered_json>& values) {
    const std::size_t r = static_cast<std::size_t>(row);
    if (format_ == Format::jsonl) {
      nlohmann::ordered_json line = given(r);
      for (std::size_t i = 0; i < answers_.size(); ++i) line[answers_[i]] = values[i];
      out_ += line.dump() + "\n";
      return;
    }
    for (const std::string& cell : table_.rows[r]) add_field(cell);
    for (const nlohmann::ordered_json& value : values) add_field(value.is_string() ? value.get<std::string>() : formatted("%.6f", value.get<double>()));
    end_line();
  }

  const std::string& text() const { return out_; }

 private:
  // Of a CSV file (RFC 4180), or of one with tabs.
  static std::string field(const std::string& text, char delimiter) {
    if (text.find_first_of(std::string("\"\r\n") + delimiter) == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + "\"";
  }
  void add_field(const std::string& text) {
    if (line_begun_) out_ += delimiter_;
    out_ += field(text, delimiter_);
    line_begun_ = true;
  }
  void end_line() {
    out_ += "\n";
    line_begun_ = false;
  }

  // The column's own, unless an answer has it.
  std::string free_name(const std::string& column) const {
    const auto is_taken = [this](const std::string& name) { return std::find(answers_.begin(), answers_.end(), name) != answers_.end(); };
    if (!is_taken(column)) return column;
    std::string name = "input_" + column;
    while (is_taken(name) || std::find(table_.columns.begin(), table_.columns.end(), name) != table_.columns.end()) name = "input_" + name;
    return name;
  }

  // What a JSON file has is written as it stands there, numbers as numbers.
  nlohmann::ordered_json given(std::size_t row) const {
    nlohmann::ordered_json line = nlohmann::ordered_json::object();
    if (records_.empty()) {
      for (std::size_t c = 0; c < names_.size(); ++c) line[names_[c]] = table_.rows[row][c];
      return line;
    }
    std::string text(records_[row].text);
    replace_invalid_utf8(text);
    const nlohmann::ordered_json record = nlohmann::ordered_json::parse(text);
    for (const auto& [key, value] : record.items()) line[free_name(key)] = value;
    return line;
  }

  const Table& table_;
  Format format_;
  char delimiter_;
  std::vector<std::string> answers_, names_;  // columns: the model's, and what the table's are called
  std::optional<MappedFile> file_;
  std::vector<deltatune::detail::JsonRecord> records_;  // of a JSON file, one per row
  std::string out_;
  bool line_begun_ = false;
};

}  // namespace deltatune::cli
