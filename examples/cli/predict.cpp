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
#include "deltatune/train/evaluation.hpp"
#include "report.hpp"
#include "text_options.hpp"

namespace deltatune::cli {

namespace {

struct PredictOptions {
  TextOptions text;
  std::string out;
};

// A field of a CSV file (RFC 4180).
std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
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

// The output: one row per text with its label and the probability of each label, or its labels, or its numbers.
class PredictionWriter {
 public:
  PredictionWriter(const TextTask& task, bool as_json)
      : task_(task), table_(task.table), labels_(task.labels), as_json_(as_json), text_(table_.column(task.columns.text)) {
    if (!task.columns.pair.empty()) pair_ = table_.column(task.columns.pair);
    if (as_json_) return;
    out_ = pair_ ? "text,text_pair" : "text";
    if (task_.output == Output::one_label) out_ += ",label";
    if (task_.output == Output::several_labels) out_ += ",labels";
    for (const std::string& label : labels_) out_ += "," + csv_field(value_name(label));
    out_ += "\n";
  }

  // values: of each label, from values_of().
  void add(Index row, const std::vector<double>& values) {
    if (as_json_) return add_json(row, values);
    out_ += csv_field(cell(row, text_));
    if (pair_) out_ += "," + csv_field(cell(row, *pair_));
    if (task_.output != Output::numbers) {
      std::string names;
      for (const std::string& label : chosen(values)) names += (names.empty() ? "" : ";") + label;
      out_ += "," + csv_field(names);
    }
    for (const double value : values) out_ += "," + formatted("%.6f", value);
    out_ += "\n";
  }

  const std::string& text() const { return out_; }

 private:
  const std::string& cell(Index row, Index column) const { return table_.rows[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)]; }

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

  void add_json(Index row, const std::vector<double>& values) {
    nlohmann::ordered_json line{{"text", cell(row, text_)}};
    if (pair_) line["text_pair"] = cell(row, *pair_);
    if (task_.output == Output::one_label) line["label"] = chosen(values).front();
    if (task_.output == Output::several_labels) line["labels"] = chosen(values);
    if (task_.output == Output::numbers && values.size() == 1) {
      line["score"] = values[0];
    } else {
      for (std::size_t c = 0; c < labels_.size(); ++c) line[task_.output == Output::numbers ? "scores" : "probabilities"][labels_[c]] = values[c];
    }
    out_ += line.dump() + "\n";
  }

  const TextTask& task_;
  const Table& table_;
  const std::vector<std::string>& labels_;
  bool as_json_;
  Index text_;
  std::optional<Index> pair_;
  std::string out_;
};

void run(const PredictOptions& options) {
  const std::string extension = std::filesystem::path(options.out).extension().string();
  if (!options.out.empty() && extension != ".csv" && extension != ".jsonl")
    throw Error("--out", "unknown kind of file", {.expected = "a name that ends in .csv or .jsonl", .got = "\"" + options.out + "\""});
  TextTask task(options.text, false);
  Dataset data;
  for (Example& example : tokenize(task.table, task.columns, task.tokenizer, task.max_length, task.notes)) data.add(std::move(example));
  print(task.notes);
  PredictionWriter writer(task, extension == ".jsonl");
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
    std::cerr << grouped(data.size()) << " predictions written to " << options.out << "\n";
  }
}

}  // namespace

void add_predict(CLI::App& app) {
  const auto options = std::make_shared<PredictOptions>();
  CLI::App* const command = app.add_subcommand("predict", "The label that a model gives to each text, with probabilities; or its number");
  add_text_options(*command, options->text);
  command->add_option("--out", options->out, "Where the predictions go, .csv or .jsonl [CSV to the screen]")->type_name("FILE");
  command->footer(
      "CSV: text, label and one column prob_<label> for each label. JSONL: {\"text\", \"label\", \"probabilities\": {label: p}}.\n"
      "With problem_type multi_label_classification: labels, those with p > 0.5 (in CSV with semicolons between them). Of a regression: score.\n\n"
      "Example:\n  deltatune predict --model minilm --adapter runs/tweets --data new_tweets.csv --out predictions.csv");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
