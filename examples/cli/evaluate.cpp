// deltatune evaluate: how often a model is right on labelled texts.
#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "commands.hpp"
#include "model_io.hpp"
#include "deltatune/train/evaluation.hpp"
#include "report.hpp"
#include "text_options.hpp"

namespace deltatune::cli {

namespace {

struct EvaluateOptions {
  TextOptions text;
  bool json = false;
};

// Right answers and mistakes by class: count(truth, answer).
class Confusion {
 public:
  Confusion(const Dataset& data, const std::vector<std::int32_t>& answers, std::size_t classes) : counts_(classes, std::vector<Index>(classes, 0)) {
    for (std::size_t i = 0; i < answers.size(); ++i)
      ++counts_[static_cast<std::size_t>(data[static_cast<Index>(i)].label)][static_cast<std::size_t>(answers[i])];
  }

  std::size_t classes() const { return counts_.size(); }
  const std::vector<std::vector<Index>>& counts() const { return counts_; }
  Index examples(std::size_t c) const { return std::accumulate(counts_[c].begin(), counts_[c].end(), Index{0}); }
  Index answers(std::size_t c) const {
    return std::accumulate(counts_.begin(), counts_.end(), Index{0}, [c](Index sum, const auto& row) { return sum + row[c]; });
  }
  double precision(std::size_t c) const { return ratio(counts_[c][c], answers(c)); }
  double recall(std::size_t c) const { return ratio(counts_[c][c], examples(c)); }
  double f1(std::size_t c) const { return ratio(2 * counts_[c][c], examples(c) + answers(c)); }
  double macro_f1() const {
    double sum = 0;
    for (std::size_t c = 0; c < classes(); ++c) sum += f1(c);
    return sum / static_cast<double>(classes());
  }

 private:
  static double ratio(Index part, Index whole) { return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole); }

  std::vector<std::vector<Index>> counts_;
};

std::string class_table(const Confusion& confusion, const std::vector<std::string>& labels) {
  TextTable table({"label", "precision", "recall", "F1", "examples"});
  const auto share = [](double x) { return formatted("%.3f", x); };
  for (std::size_t c = 0; c < labels.size(); ++c)
    table.add({labels[c], share(confusion.precision(c)), share(confusion.recall(c)), share(confusion.f1(c)), grouped(confusion.examples(c))});
  return table.text();
}

std::string confusion_table(const Confusion& confusion, const std::vector<std::string>& labels) {
  std::vector<std::string> header{"truth \\ answer"};
  header.insert(header.end(), labels.begin(), labels.end());
  TextTable table(header);
  for (std::size_t c = 0; c < labels.size(); ++c) {
    std::vector<std::string> row{labels[c]};
    for (const Index count : confusion.counts()[c]) row.push_back(grouped(count));
    table.add(row);
  }
  return table.text();
}

nlohmann::json to_json(const Evaluation& result, const Confusion& confusion, const std::vector<std::string>& labels) {
  nlohmann::json classes = nlohmann::json::array();
  for (std::size_t c = 0; c < labels.size(); ++c)
    classes.push_back({{"label", labels[c]},
                       {"precision", confusion.precision(c)},
                       {"recall", confusion.recall(c)},
                       {"f1", confusion.f1(c)},
                       {"examples", confusion.examples(c)}});
  return {{"examples", result.examples}, {"eval_accuracy", result.accuracy}, {"eval_loss", result.loss},
          {"macro_f1", confusion.macro_f1()}, {"classes", classes},          {"confusion", confusion.counts()}};
}

// A language model: how well it foretells the tokens.
void run_language_model(const EvaluateOptions& options) {
  const std::unique_ptr<Device> device = open_device(options.text.device);
  const std::unique_ptr<DeviceModel> model = device->load(options.text.model, options.text.adapters);
  const ModelInfo& info = model->info();
  const Index room = info.positions - info.taken;
  const Dataset data = tokenize_for_language(options.text.data, Tokenizer::open(options.text.model),
                                             options.text.max_length > 0 ? std::min(options.text.max_length, room) : usual_max_length(options.text.model, options.text.adapters, room));
  double loss = 0, tokens = 0;
  std::vector<Index> members;
  for (Index first = 0; first < data.size(); first += options.text.batch_size) {
    members.resize(static_cast<std::size_t>(std::min(options.text.batch_size, data.size() - first)));
    std::iota(members.begin(), members.end(), first);
    const auto [batch_loss, batch_tokens] = model->loss(data.batch(members));
    loss += batch_loss;
    tokens += batch_tokens;
  }
  loss /= std::max(1.0, tokens);
  std::cout << grouped(data.size()) << " texts, " << grouped(static_cast<Index>(tokens)) << " predicted tokens, mean loss " << formatted("%.4f", loss)
            << ", perplexity " << formatted("%.2f", std::exp(loss)) << "\n";
  if (options.json)
    std::cout << nlohmann::json{{"examples", data.size()}, {"tokens", tokens}, {"eval_loss", loss}, {"perplexity", std::exp(loss)}}.dump() << "\n";
}

void run(const EvaluateOptions& options) {
  if (head_of(options.text.model, options.text.adapters).next_token) return run_language_model(options);
  TextTask task(options.text, true);
  DeviceModel& model = *task.model;
  const std::vector<std::string>& labels = model.info().labels;
  const Dataset data = tokenize(task.table, task.columns, task.tokenizer, task.max_length, labels);
  const Evaluation result = evaluate(data, options.text.batch_size, model.info().classes, [&](const PackedBatch& batch) { return model.logits(batch); });
  const Confusion confusion(data, result.predictions, labels.size());
  std::cout << grouped(result.examples) << " examples, accuracy " << formatted("%.2f", 100.0 * result.accuracy) << " %, mean loss "
            << formatted("%.4f", result.loss) << "\n\n"
            << class_table(confusion, labels) << "\n"
            << confusion_table(confusion, labels);
  if (options.json) std::cout << to_json(result, confusion, labels).dump() << "\n";
}

}  // namespace

void add_evaluate(CLI::App& app) {
  const auto options = std::make_shared<EvaluateOptions>();
  CLI::App* const command = app.add_subcommand("evaluate", "How good a model is: on labelled texts accuracy, loss and mistakes by class; of a language model loss and perplexity");
  add_text_options(*command, options->text);
  command->add_option("--label-column", options->text.columns.label, "Column with the right labels [label or sentiment]")->type_name("NAME");
  command->add_flag("--json", options->json, "Print the numbers once more as one JSON object, on the last line");
  command->footer("Example:\n  deltatune evaluate --model minilm --adapter runs/tweets --data held_out.csv");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
