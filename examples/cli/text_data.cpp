#include "text_data.hpp"

#include <algorithm>
#include <set>
#include <sstream>

#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/ops/cross_entropy.hpp"

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

Dataset tokenize(const Table& table, const TextColumns& columns, const Tokenizer& tokenizer, Index max_length, const std::vector<std::string>& classes) {
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

Dataset tokenize_for_language(const std::filesystem::path& file, const Tokenizer& tokenizer, Index max_length) {
  const ByteBpe* const bpe = tokenizer.byte_bpe();
  if (bpe == nullptr) throw Error("--task lm", "needs a language model", {.remedy = "use the folder of a GPT-2"});
  Dataset data;
  const MappedFile mapped(file);
  if (file.extension() != ".jsonl") {
    const std::vector<std::int32_t> ids = tokenizer.encode(mapped.text(), 0);
    for (std::size_t first = 0; first + 1 < ids.size(); first += static_cast<std::size_t>(max_length)) {
      const std::size_t last = std::min(ids.size(), first + static_cast<std::size_t>(max_length));
      if (last - first < 2) break;
      Example example{.ids = {ids.begin() + static_cast<std::ptrdiff_t>(first), ids.begin() + static_cast<std::ptrdiff_t>(last)}};
      example.token_labels = example.ids;
      data.add(std::move(example));
    }
  } else {
    std::istringstream lines{std::string(mapped.text())};
    Index number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (line.find_first_not_of(" \r\t") == std::string::npos) continue;
      const std::string place = file.string() + ": line " + std::to_string(number);
      const JsonConfig row = JsonConfig::parse(line, place);
      Example example;
      if (row.has("prompt")) example.ids = row.get<std::string>("prompt").empty() ? std::vector<std::int32_t>{} : tokenizer.encode(row.get<std::string>("prompt"), 0);
      example.token_labels.assign(example.ids.size(), ops::kIgnoredLabel);
      std::vector<std::int32_t> completion = tokenizer.encode(row.get<std::string>(row.has("completion") ? "completion" : "text"), 0);
      if (bpe->eos_id()) completion.push_back(*bpe->eos_id());
      example.ids.insert(example.ids.end(), completion.begin(), completion.end());
      example.token_labels.insert(example.token_labels.end(), completion.begin(), completion.end());
      if (static_cast<Index>(example.ids.size()) > max_length) {
        example.ids.resize(static_cast<std::size_t>(max_length));
        example.token_labels.resize(static_cast<std::size_t>(max_length));
      }
      const bool is_labelled = std::any_of(example.token_labels.begin(), example.token_labels.end(), [](std::int32_t label) { return label != ops::kIgnoredLabel; });
      if (example.ids.size() > 1 && is_labelled) data.add(std::move(example));  // a prompt that leaves no room for its completion teaches nothing
    }
  }
  if (data.size() == 0) throw Error(file.string(), "holds no text to learn from", {.expected = "a plain text, or .jsonl with prompt and completion"});
  return data;
}

std::string encoding_note(const Table& table) {
  if (table.rows_with_invalid_utf8 == 0) return "";
  return table.name + ": " + std::to_string(table.replaced_sequences) + " sequences of bytes in " + std::to_string(table.rows_with_invalid_utf8) +
         " rows are not UTF-8 and were replaced by U+FFFD";
}

}  // namespace deltatune::cli
