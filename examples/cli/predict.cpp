// deltatune predict: the labels that a model gives to texts, with probabilities; or numbers.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <span>

#include "commands.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/train/evaluation.hpp"
#include "prediction_writer.hpp"
#include "report.hpp"
#include "run_folder.hpp"
#include "seq2seq_task.hpp"
#include "text_options.hpp"

namespace deltatune::cli {

namespace {

struct PredictOptions {
  TextOptions text;
  std::string out;
  PairOptions pairs;
  bool overwrite = false;
  std::set<std::string> given = {};  // options
};

// What the outputs of one text mean.
template <class T>
std::vector<double> values_of(Output output, std::span<const T> logits) {
  if (output == Output::one_label) return softmax(logits);
  std::vector<double> values(logits.begin(), logits.end());
  if (output == Output::several_labels)
    for (double& value : values) value = 1.0 / (1.0 + std::exp(-value));
  return values;
}

// The answers of a classifier, as a format has them: a label and the probability of each, or labels, or numbers.
class ClassAnswers {
 public:
  ClassAnswers(Output output, std::vector<std::string> labels, Format format) : output_(output), labels_(std::move(labels)), format_(format) {}

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    if (output_ == Output::one_label) all = {"label"};
    if (output_ == Output::several_labels) all = {"labels"};
    const bool one_number = output_ == Output::numbers && labels_.size() == 1;
    if (format_ == Format::jsonl) {
      all.push_back(output_ != Output::numbers ? "probabilities" : one_number ? "score" : "scores");
    } else {
      for (const std::string& label : labels_) all.push_back(output_ != Output::numbers ? "prob_" + label : one_number ? "score" : "score_" + label);
    }
    return all;
  }

  // values: of each label, from values_of().
  std::vector<nlohmann::ordered_json> of(const std::vector<double>& values) const {
    std::vector<nlohmann::ordered_json> all;
    const std::vector<std::string> names = chosen(values);
    if (output_ == Output::one_label) all.emplace_back(names.front());
    if (output_ == Output::several_labels && format_ == Format::jsonl) all.emplace_back(names);
    if (output_ == Output::several_labels && format_ != Format::jsonl) {
      std::string joined_names;
      for (const std::string& name : names) joined_names += (joined_names.empty() ? "" : ";") + name;
      all.emplace_back(joined_names);
    }
    if (format_ == Format::jsonl && (output_ != Output::numbers || values.size() > 1)) {
      nlohmann::ordered_json by_label = nlohmann::ordered_json::object();
      for (std::size_t c = 0; c < labels_.size(); ++c) by_label[labels_[c]] = values[c];
      all.push_back(std::move(by_label));
    } else {
      for (const double value : values) all.emplace_back(value);
    }
    return all;
  }

 private:
  // The likeliest label, or every one that is likelier than not.
  std::vector<std::string> chosen(const std::vector<double>& values) const {
    if (output_ == Output::one_label) return {labels_[static_cast<std::size_t>(std::max_element(values.begin(), values.end()) - values.begin())]};
    std::vector<std::string> names;
    for (std::size_t c = 0; c < labels_.size(); ++c)
      if (output_ == Output::several_labels && values[c] > 0.5) names.push_back(labels_[c]);
    return names;
  }

  Output output_;
  std::vector<std::string> labels_;
  Format format_;
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

void write(const PredictOptions& options, const PredictionWriter& writer, Index count) {
  if (options.out.empty()) {
    std::cout << writer.text();
  } else {
    write_text_file(options.out, writer.text());
    std::cerr << counted(count, "prediction") << " written to " << options.out << "\n";
  }
}

Dataset dataset_of(std::vector<Example> examples) {
  Dataset data;
  for (Example& example : examples) data.add(std::move(example));
  return data;
}

// The class of each text. scores: a function from a PackedBatch to its row-major scores.
template <class Scores>
void write_classes(const PredictOptions& options, const Table& table, const Dataset& data, Output output, const std::vector<std::string>& labels, Notes notes,
                   const Scores& scores) {
  const Format format = format_of(options.out);
  const ClassAnswers answers(output, labels, format);
  PredictionWriter writer(table, format, answers.names(), notes);
  print(notes);
  const std::size_t classes = labels.size();
  std::vector<Index> members;
  for (Index first = 0; first < data.size(); first += options.text.batch_size) {
    members.resize(static_cast<std::size_t>(std::min(options.text.batch_size, data.size() - first)));
    std::iota(members.begin(), members.end(), first);
    const auto all = scores(data.batch(members));
    for (std::size_t i = 0; i < members.size(); ++i) writer.add(members[i], answers.of(values_of(output, std::span(all).subspan(i * classes, classes))));
  }
  write(options, writer, data.size());
}

// An encoder-decoder: the target that it writes for each source, or the likeliest one of a few.
void run_pairs(const PredictOptions& options, const std::string& title) {
  refuse_label_options(options.given, title);
  const std::vector<std::string> names = options.pairs.choices.empty() ? std::vector<std::string>() : labels_option(options.pairs.choices, "--choices");
  if (!names.empty()) refuse_options(options.given, options.pairs.generation_names, "is for targets that are written", "leave it out, or leave out --choices");
  PairTask task(options.text, options.pairs, false);
  const Dataset sources = dataset_of(tokenize_sources(task.table, task.settings, task.encoding, task.notes));
  if (!names.empty()) {
    const std::vector<std::vector<std::int32_t>> choices = task.tokens_of(names);
    return write_classes(options, task.table, sources, Output::one_label, names, task.notes,
                         [&](const PackedBatch& batch) { return task.model->choice_log_likelihoods(batch, choices); });
  }
  PredictionWriter writer(task.table, format_of(options.out), {"prediction"}, task.notes);
  print(task.notes);
  const std::vector<std::string> texts = task.written(sources, options.pairs.generation, options.text.model);
  for (Index i = 0; i < sources.size(); ++i) writer.add(i, {texts[static_cast<std::size_t>(i)]});
  write(options, writer, sources.size());
}

void run(const PredictOptions& options) {
  format_of(options.out);  // throws for one that is not known
  if (!options.out.empty()) check_out_file(options);
  const Architecture architecture = architecture_in(options.text.model);
  if (architecture.encoder && head_of(options.text.model, options.text.adapters).next_token) return run_pairs(options, architecture.title);
  refuse_pair_options(options.given, options.pairs);
  TextTask task(options.text, false);
  const Dataset data = dataset_of(tokenize(task.table, task.columns, task.encoding, task.max_length, task.notes));
  write_classes(options, task.table, data, task.output, task.labels, task.notes, [&](const PackedBatch& batch) { return task.model->logits(batch); });
}

}  // namespace

void add_predict(CLI::App& app) {
  const auto options = std::make_shared<PredictOptions>();
  CLI::App* const command = app.add_subcommand(
      "predict", "The label that a model gives to each text, with probabilities; or its number; or the target that an encoder-decoder writes");
  add_text_options(*command, options->text);
  add_pair_run_options(*command, options->pairs);
  command->add_option("--out", options->out, "Where the predictions go, .csv, .tsv or .jsonl [CSV to the screen]")->type_name("FILE");
  command->add_flag("--overwrite", options->overwrite, "Replace the file that --out names");
  command->footer(
      "Writes the columns of --data and behind them the answers. CSV and TSV: label and one column prob_<label> for each label. JSONL: \"label\" and "
      "\"probabilities\": {label: p}.\n"
      "With problem_type multi_label_classification: labels, those with p > 0.5 (in CSV with semicolons between them). Of a regression: score. A column of "
      "--data that has the name of an answer gets \"input_\" in front of it. Of an encoder-decoder: prediction, the target that it writes; with --choices, "
      "label and "
      "probabilities, as above.\n\n"
      "Examples:\n  deltatune predict --model minilm --adapter runs/tweets --data new_tweets.csv --out predictions.csv\n"
      "  deltatune predict --model t5-small --adapter runs/news --data new.jsonl --out summaries.jsonl");
  command->callback([options, command] {
    options->given = given_options(*command);
    run(*options);
  });
}

}  // namespace deltatune::cli
