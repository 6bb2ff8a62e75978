// deltatune predict: the labels that a model gives to texts, with probabilities.
#include <CLI/CLI.hpp>
#include <algorithm>
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

// The output: one row a text, with the text, its label, and the probability of each label.
class PredictionWriter {
 public:
  PredictionWriter(const TextTask& task, bool as_json) : table_(task.table), labels_(task.model->info().labels), as_json_(as_json), text_(table_.column(task.columns.text)) {
    if (!task.columns.pair.empty()) pair_ = table_.column(task.columns.pair);
    if (as_json_) return;
    out_ = pair_ ? "text,text_pair,label" : "text,label";
    for (const std::string& label : labels_) out_ += "," + csv_field("prob_" + label);
    out_ += "\n";
  }

  void add(Index row, const std::vector<double>& probabilities) {
    const auto best = std::max_element(probabilities.begin(), probabilities.end());
    const std::string& label = labels_[static_cast<std::size_t>(best - probabilities.begin())];
    if (as_json_) return add_json(row, label, probabilities);
    out_ += csv_field(cell(row, text_)) + ",";
    if (pair_) out_ += csv_field(cell(row, *pair_)) + ",";
    out_ += csv_field(label);
    for (const double p : probabilities) out_ += "," + formatted("%.6f", p);
    out_ += "\n";
  }

  const std::string& text() const { return out_; }

 private:
  const std::string& cell(Index row, Index column) const { return table_.rows[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)]; }

  void add_json(Index row, const std::string& label, const std::vector<double>& probabilities) {
    nlohmann::ordered_json line{{"text", cell(row, text_)}};
    if (pair_) line["text_pair"] = cell(row, *pair_);
    line["label"] = label;
    for (std::size_t c = 0; c < labels_.size(); ++c) line["probabilities"][labels_[c]] = probabilities[c];
    out_ += line.dump() + "\n";
  }

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
  const Dataset data = tokenize(task.table, task.columns, task.tokenizer, task.max_length, {});
  PredictionWriter writer(task, extension == ".jsonl");
  const std::size_t classes = task.model->info().labels.size();
  std::vector<Index> members;
  for (Index first = 0; first < data.size(); first += options.text.batch_size) {
    members.resize(static_cast<std::size_t>(std::min(options.text.batch_size, data.size() - first)));
    std::iota(members.begin(), members.end(), first);
    const std::vector<float> logits = task.model->logits(data.batch(members));
    for (std::size_t i = 0; i < members.size(); ++i)
      writer.add(members[i], softmax(std::span<const float>(logits).subspan(i * classes, classes)));
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
  CLI::App* const command = app.add_subcommand("predict", "The label that a model gives to each text, with probabilities");
  add_text_options(*command, options->text);
  command->add_option("--out", options->out, "Where the predictions go, .csv or .jsonl [CSV to the screen]")->type_name("FILE");
  command->footer(
      "CSV: text, label and one column prob_<label> for each label. JSONL: {\"text\", \"label\", \"probabilities\": {label: p}}.\n\n"
      "Example:\n  deltatune predict --model minilm --adapter runs/tweets --data new_tweets.csv --out predictions.csv");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
