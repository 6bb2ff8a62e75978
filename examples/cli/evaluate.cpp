// deltatune evaluate: how often a model is right on labelled texts.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>

#include "chat_options.hpp"
#include "class_report.hpp"
#include "commands.hpp"
#include "deltatune/text/text_metrics.hpp"
#include "deltatune/train/evaluation.hpp"
#include "language_loss.hpp"
#include "model_io.hpp"
#include "report.hpp"
#include "seq2seq_task.hpp"
#include "text_options.hpp"

namespace deltatune::cli {

namespace {

struct EvaluateOptions {
  TextOptions text;
  ChatDataOptions chat;
  PairOptions pairs;
  bool generate = false, json = false;
  std::set<std::string> given = {};  // options
};

// Whether the data are conversations. Instructions are, or are not, as in training, where a record says so.
bool reads_conversations(const EvaluateOptions& options, const std::vector<std::filesystem::path>& folders) {
  const RecordFormat format = record_format(options.text.data);
  const std::string trained = format == RecordFormat::kInstruction ? trained_task(options.text.model, options.text.adapters) : "";
  if (trained == "lm" || trained == "chat") return trained == "chat";
  return task_of(format, format == RecordFormat::kInstruction && (!options.chat.template_file.empty() || find_chat_template(folders))) == "chat";
}

void refuse_chat_options(const EvaluateOptions& options) {
  const std::string given = !options.chat.template_file.empty()        ? "--chat-template"
                            : !options.chat.date.empty()               ? "--date"
                            : options.chat.long_conversations != "cut" ? "--long"
                                                                       : "";
  if (!given.empty()) throw Error(given, "is for conversations", {.remedy = "leave it out"});
}

// A language model: how well it foretells the tokens.
void run_language_model(const EvaluateOptions& options) {
  if (!options.text.labels.empty() || !options.text.columns.label.empty())
    throw Error(options.text.model, "has no classifier for --labels or --label-column",
                {.remedy = "leave them out, or give the adapter that brings a classifier: --adapter DIR"});
  const std::unique_ptr<Device> device = open_device(options.text.device);
  const std::unique_ptr<DeviceModel> model = device->load(options.text.model, options.text.adapters);
  const ModelInfo& info = model->info();
  Notes notes;
  std::vector<std::filesystem::path> folders = options.text.adapters;
  folders.emplace_back(options.text.model);
  const bool is_chat = reads_conversations(options, folders);
  const TextEncoding encoding = encoding_of(options.text);
  const Index max_length = max_length_of(options.text, info, is_chat ? kConversationLength : Index{128});
  Dataset data;
  if (is_chat) {
    const ChatSource source = chat_source(options.chat, folders, trained_date(options.text.model, options.text.adapters));
    bool prints_date = false;
    data = tokenize_conversations(options.text.data, encoding, source, max_length, notes, prints_date);
  } else {
    refuse_chat_options(options);
    data = tokenize_for_language(options.text.data, encoding, max_length, notes);
  }
  print(notes);
  const LanguageLoss result = language_loss(*model, data, options.text.batch_size);
  std::cout << loss_report(data.size(), is_chat ? "conversation" : "text", result) << "\n";
  if (options.json) std::cout << to_json(data.size(), result).dump() << "\n";
}

// An encoder-decoder that chooses among a few targets: how often it is right.
void run_choices(const EvaluateOptions& options) {
  const std::vector<std::string> names = labels_option(options.pairs.choices, "--choices");
  PairTask task(options.text, options.pairs, true);
  LabelColumn column = read_label_column(task.table, task.settings.columns.target);
  const std::vector<std::int32_t> numbers = class_numbers(column, names, "--choices names all targets that there are");
  task.notes.insert(task.notes.end(), column.notes.begin(), column.notes.end());
  std::vector<Example> sources =
      tokenize_sources(task.table, task.settings, task.encoding, task.notes, [&](std::size_t row) { return !column.labels[row].empty(); });
  print(task.notes);
  Dataset data;
  for (std::size_t row = 0; row < sources.size(); ++row) {
    if (column.labels[row].empty()) continue;
    sources[row].label = numbers[row];
    data.add(std::move(sources[row]));
  }
  const std::vector<std::vector<std::int32_t>> choices = task.tokens_of(names);
  const Evaluation result = evaluate(data, options.text.batch_size, static_cast<Index>(choices.size()),
                                     [&](const PackedBatch& batch) { return task.model->choice_log_likelihoods(batch, choices); });
  report_classes(result, names, options.json);
}

// An encoder-decoder: how well it foretells the targets, and how good those are that it writes.
void run_pairs(const EvaluateOptions& options, const std::string& title) {
  refuse_label_options(options.given, title);
  if (!options.generate) refuse_options(options.given, options.pairs.generation_names, "is for targets that are written", "give --generate");
  if (!options.pairs.choices.empty()) return run_choices(options);
  PairTask task(options.text, options.pairs, true);
  const Pairs pairs = tokenize_pairs(task.table, task.settings, task.encoding, task.architecture(), task.notes);
  print(task.notes);
  const LanguageLoss loss = language_loss(*task.model, pairs.data, options.text.batch_size);
  nlohmann::json json = to_json(pairs.data.size(), loss);
  std::cout << loss_report(pairs.data.size(), "pair", loss) << "\n";
  if (options.generate) {
    Dataset sources;
    for (Index i = 0; i < pairs.data.size(); ++i) sources.add({.ids = pairs.data[i].source});
    const std::size_t target = static_cast<std::size_t>(task.table.column(task.settings.columns.target));
    std::vector<std::string> references;
    for (const std::size_t row : pairs.rows) references.push_back(task.table.rows[row][target]);
    const std::vector<std::string> texts = task.written(sources, options.pairs.generation, options.text.model);
    const double exact = exact_match(texts, references), bleu = corpus_bleu(texts, references).score, chrf = corpus_chrf(texts, references).score;
    const Rouge rouge = mean_rouge(texts, references);
    json.update(
        {{"exact_match", exact}, {"rouge1", rouge.rouge_1.f}, {"rouge2", rouge.rouge_2.f}, {"rougeL", rouge.rouge_l.f}, {"bleu", bleu}, {"chrf", chrf}});
    std::cout << "written: exact match " << percent(exact) << ", ROUGE-L " << formatted("%.3f", rouge.rouge_l.f) << ", BLEU " << formatted("%.2f", bleu)
              << ", chrF " << formatted("%.2f", chrf) << "\n";
  }
  if (options.json) std::cout << json.dump() << "\n";
}

// The examples of the rows with a label; set_label(row, example).
template <class SetLabel>
Dataset labelled_rows(TextTask& task_io, const LabelColumn& column, bool regression, const SetLabel& set_label) {
  task_io.notes.insert(task_io.notes.end(), column.notes.begin(), column.notes.end());
  std::vector<Example> examples = tokenize(task_io.table, task_io.columns, task_io.encoding, task_io.max_length, task_io.notes,
                                           [&](std::size_t row) { return !column.labels[row].empty(); });
  Dataset data(regression);
  for (std::size_t row = 0; row < examples.size(); ++row) {
    if (column.labels[row].empty()) continue;
    set_label(row, examples[row]);
    data.add(std::move(examples[row]));
  }
  print(task_io.notes);
  return data;
}

// A model with a single output: how near its numbers are.
void run_regression(const EvaluateOptions& options, TextTask& task) {
  if (task.model->info().num_labels != 1)
    throw Error(options.text.model, "predicts " + std::to_string(task.model->info().num_labels) + " numbers per text, and 'evaluate' compares one",
                {.remedy = "use 'deltatune predict'"});
  const LabelColumn column = read_label_column(task.table, task.columns.label);
  const std::vector<std::optional<float>> targets = scores(column, "leave the cell empty to leave the row out");
  const Dataset data = labelled_rows(task, column, true, [&](std::size_t row, Example& example) { example.target = *targets[row]; });
  const Evaluation result = evaluate(data, options.text.batch_size, 1, [&](const PackedBatch& batch) { return task.model->logits(batch); });
  std::cout << counted(result.examples, "example") << ", mean squared error " << formatted("%.4f", result.loss) << ", Pearson correlation "
            << formatted("%.3f", result.pearson) << ", Spearman correlation " << formatted("%.3f", result.spearman) << "\n";
  if (options.json)
    std::cout << nlohmann::json{{"examples", result.examples}, {"eval_loss", result.loss}, {"pearson", result.pearson}, {"spearman", result.spearman}}.dump()
              << "\n";
}

void run(const EvaluateOptions& options) {
  const Architecture architecture = architecture_in(options.text.model);
  const bool writes = head_of(options.text.model, options.text.adapters).next_token;
  if (architecture.encoder && writes) return run_pairs(options, architecture.title);
  refuse_pair_options(options.given, options.pairs);
  if (writes) return run_language_model(options);
  refuse_chat_options(options);
  TextTask task(options.text, true);
  if (task.output == Output::numbers) return run_regression(options, task);
  if (task.output == Output::several_labels)
    throw Error(options.text.model, "gives each text any number of labels (problem_type multi_label_classification), and 'evaluate' compares one per text",
                {.remedy = "use 'deltatune predict'"});
  DeviceModel& model = *task.model;
  const std::vector<std::string>& labels = task.labels;
  LabelColumn column = read_label_column(task.table, task.columns.label);
  const std::vector<std::int32_t> numbers = class_numbers(column, labels, "--labels names the classes in the order of the model's output layer");
  const Dataset data = labelled_rows(task, column, false, [&](std::size_t row, Example& example) { example.label = numbers[row]; });
  const Evaluation result = evaluate(data, options.text.batch_size, model.info().num_labels, [&](const PackedBatch& batch) { return model.logits(batch); });
  report_classes(result, labels, options.json);
}

}  // namespace

void add_evaluate(CLI::App& app) {
  const auto options = std::make_shared<EvaluateOptions>();
  CLI::App* const command = app.add_subcommand("evaluate",
                                               "How good a model is: on labelled texts accuracy, loss and mistakes by class, or the error of numbers; of a "
                                               "language model loss and perplexity, on texts or conversations; of an encoder-decoder those of its targets, "
                                               "and scores of the targets that it writes");
  add_text_options(*command, options->text);
  command->add_option("--label-column", options->text.columns.label, "Column with the right labels, as names or class numbers [label, labels or sentiment]")
      ->type_name("NAME");
  add_chat_options(*command, options->chat);
  add_pair_run_options(*command, options->pairs);
  command->add_flag("--generate", options->generate, "Write a target for each source, too: exact match, ROUGE-L, BLEU and chrF with those of the data")
      ->excludes("--choices")
      ->group("Encoder-decoders");
  command->add_flag("--json", options->json, "Print the numbers once more as one JSON object, on the last line");
  command->footer(
      "Examples:\n  deltatune evaluate --model minilm --adapter runs/tweets --data held_out.csv\n"
      "  deltatune evaluate --model t5-small --adapter runs/news --data held_out.jsonl --generate\n"
      "  deltatune evaluate --model t5-small --adapter runs/tweets --data held_out.csv --choices negative,neutral,positive");
  command->callback([options, command] {
    options->given = given_options(*command);
    run(*options);
  });
}

}  // namespace deltatune::cli
