// deltatune predict: the labels that a model gives to texts, with probabilities; or numbers.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <span>

#include "commands.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/train/evaluation.hpp"
#include "report.hpp"
#include "run_folder.hpp"
#include "text_options.hpp"

namespace deltatune::cli {

namespace {

struct PredictOptions {
  TextOptions text;
  std::string out;
  bool overwrite = false;
};

enum class Format { csv, tsv, jsonl };

// Of the file to write, by its name; CSV goes to the screen.
Format format_of(const std::string& out) {
  std::string extension = std::filesystem::path(out).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (out.empty() || extension == ".csv") return Format::csv;
  if (extension == ".tsv") return Format::tsv;
  if (extension == ".jsonl" || extension == ".ndjson") return Format::jsonl;
  throw Error("--out", "unknown kind of file", {.expected = "a name that ends in .csv, .tsv or .jsonl", .got = "\"" + out + "\""});
}

// A field of a CSV file (RFC 4180), or of one with tabs.
std::string field(const std::string& text, char delimiter) {
  if (text.find_first_of(std::string("\"\r\n") + delimiter) == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

// What the outputs of one text mean.
std::vector<double> values_of(Output output, std::span<const float> logits) {
  if (output == Output::one_label) return softmax(logits);
  std::vector<double> values(logits.begin(), logits.end());
  if (output == Output::several_labels)
    for (double& value : values) value = 1.0 / (1.0 + std::exp(-value));
  return values;
}

// The output: one row per text with what the table has, and behind it its label and the probability of each label, or its labels, or its numbers.
class PredictionWriter {
 public:
  PredictionWriter(const TextTask& task, Format format, Notes& notes_io)
      : task_(task), table_(task.table), labels_(task.labels), format_(format), delimiter_(format == Format::tsv ? '\t' : ',') {
    if (task_.output == Output::one_label) answers_ = {"label"};
    if (task_.output == Output::several_labels) answers_ = {"labels"};
    if (format_ != Format::jsonl) {
      for (const std::string& label : labels_) answers_.push_back(value_name(label));
    } else if (task_.output != Output::numbers) {
      answers_.push_back("probabilities");
    } else {
      answers_.push_back(labels_.size() == 1 ? "score" : "scores");
    }
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

  // values: of each label, from values_of().
  void add(Index row, const std::vector<double>& values) {
    if (format_ == Format::jsonl) return add_json(static_cast<std::size_t>(row), values);
    for (const std::string& cell : table_.rows[static_cast<std::size_t>(row)]) add_field(cell);
    if (task_.output != Output::numbers) {
      std::string chosen_names;
      for (const std::string& label : chosen(values)) chosen_names += (chosen_names.empty() ? "" : ";") + label;
      add_field(chosen_names);
    }
    for (const double value : values) add_field(formatted("%.6f", value));
    end_line();
  }

  const std::string& text() const { return out_; }

 private:
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

  // The column with a label's value.
  std::string value_name(const std::string& label) const {
    if (task_.output != Output::numbers) return "prob_" + label;
    return labels_.size() == 1 ? "score" : "score_" + label;
  }

  // The likeliest label, or every one that is likelier than not.
  std::vector<std::string> chosen(const std::vector<double>& values) const {
    if (task_.output == Output::one_label) return {labels_[static_cast<std::size_t>(std::max_element(values.begin(), values.end()) - values.begin())]};
    std::vector<std::string> names;
    for (std::size_t c = 0; c < labels_.size(); ++c)
      if (values[c] > 0.5) names.push_back(labels_[c]);
    return names;
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

  void add_json(std::size_t row, const std::vector<double>& values) {
    nlohmann::ordered_json line = given(row);
    if (task_.output == Output::one_label) line["label"] = chosen(values).front();
    if (task_.output == Output::several_labels) line["labels"] = chosen(values);
    if (task_.output == Output::numbers && values.size() == 1) {
      line["score"] = values[0];
    } else {
      for (std::size_t c = 0; c < labels_.size(); ++c) line[answers_.back()][labels_[c]] = values[c];
    }
    out_ += line.dump() + "\n";
  }

  const TextTask& task_;
  const Table& table_;
  const std::vector<std::string>& labels_;
  Format format_;
  char delimiter_;
  std::vector<std::string> answers_, names_;  // columns: the model's, and what the table's are called
  std::optional<MappedFile> file_;
  std::vector<deltatune::detail::JsonRecord> records_;  // of a JSON file, one per row
  std::string out_;
  bool line_begun_ = false;
};

// Throws Error when the file is one of the inputs, or is there and shall not be replaced.
void check_out_file(const PredictOptions& options) {
  const std::filesystem::path out = options.out;
  refuse_own_file(out, options.text.data, "--data");
  refuse_own_file(out, options.text.model, "the model");
  for (const std::filesystem::path& adapter : options.text.adapters) refuse_own_file(out, adapter, "the adapter");
  if (!options.overwrite && std::filesystem::is_regular_file(out))
    throw Error(out.string(), "is there already", {.remedy = "choose another --out, or replace it with --overwrite"});
  const AtomicFile can_be_made(out);  // said now and not when all is computed
}

void run(const PredictOptions& options) {
  const Format format = format_of(options.out);
  if (!options.out.empty()) check_out_file(options);
  TextTask task(options.text, false);
  Dataset data;
  for (Example& example : tokenize(task.table, task.columns, task.encoding, task.max_length, task.notes)) data.add(std::move(example));
  PredictionWriter writer(task, format, task.notes);
  print(task.notes);
  const std::size_t classes = task.labels.size();
  std::vector<Index> members;
  for (Index first = 0; first < data.size(); first += options.text.batch_size) {
    members.resize(static_cast<std::size_t>(std::min(options.text.batch_size, data.size() - first)));
    std::iota(members.begin(), members.end(), first);
    const std::vector<float> logits = task.model->logits(data.batch(members));
    for (std::size_t i = 0; i < members.size(); ++i)
      writer.add(members[i], values_of(task.output, std::span<const float>(logits).subspan(i * classes, classes)));
  }
  if (options.out.empty()) {
    std::cout << writer.text();
  } else {
    write_text_file(options.out, writer.text());
    std::cerr << counted(data.size(), "prediction") << " written to " << options.out << "\n";
  }
}

}  // namespace

void add_predict(CLI::App& app) {
  const auto options = std::make_shared<PredictOptions>();
  CLI::App* const command = app.add_subcommand("predict", "The label that a model gives to each text, with probabilities; or its number");
  add_text_options(*command, options->text);
  command->add_option("--out", options->out, "Where the predictions go, .csv, .tsv or .jsonl [CSV to the screen]")->type_name("FILE");
  command->add_flag("--overwrite", options->overwrite, "Replace the file that --out names");
  command->footer(
      "Writes the columns of --data and behind them the answers. CSV and TSV: label and one column prob_<label> for each label. JSONL: \"label\" and "
      "\"probabilities\": {label: p}.\n"
      "With problem_type multi_label_classification: labels, those with p > 0.5 (in CSV with semicolons between them). Of a regression: score. A column of "
      "--data that has the name of an answer gets \"input_\" in front of it.\n\n"
      "Example:\n  deltatune predict --model minilm --adapter runs/tweets --data new_tweets.csv --out predictions.csv");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
