// deltatune train: fine-tunes a model on labelled text.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>

#include "commands.hpp"
#include "confusion.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "device_options.hpp"
#include "loss_plot.hpp"
#include "deltatune/model/bert.hpp"
#include "deltatune/model/gpt2.hpp"
#include "model_io.hpp"
#include "plans.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "training_data.hpp"

namespace deltatune::cli {

namespace {

struct TrainOptions {
  std::string model, data, eval_data, out, task, labels;
  double eval_fraction = 0.1;
  TextColumns columns;
  MethodOptions method;
  // run
  double epochs = 1;
  Index steps = 0, batch_size = 32, accumulation = 1, max_length = 0;
  AdamWConfig optimizer;
  std::string schedule = "linear";
  double warmup_ratio = 0.06, max_gradient_norm = 1.0;
  LossConfig loss;
  std::uint64_t seed = 0;
  Index evaluate_every = 0, patience = 0, save_every = 0;
  std::string kept_precision = "float32";
  bool cached_features = false, recompute = false, resume = false, json = false, new_head = false;
  DeviceOptions device;
};

Recipe recipe_of(const TrainOptions& options, const std::vector<std::string>& labels, const Tokenizer& tokenizer, const ModelFamily& family, Index steps) {
  Recipe recipe;
  recipe.model = options.model;
  recipe.out = options.out;
  recipe.head = family.classifies ? Head::classifier(static_cast<Index>(labels.size()), options.new_head) : Head::language_model();
  if (family.classifies) recipe.problem_type = problem_type_of(options.task == "regression" ? Output::numbers : Output::one_label);
  recipe.labels = labels;
  // Without the special tokens that BERT's tokenizer puts around a text.
  recipe.plans = plans_of(options.method, family, labels, [&](const std::string& text) {
    std::vector<std::int32_t> ids = tokenizer.encode(text, 1 << 20);
    if (tokenizer.word_piece() != nullptr && ids.size() > 2) ids = {ids.begin() + 1, ids.end() - 1};
    return ids;
  });
  recipe.lora_plus_ratio = options.method.lora_plus_ratio.value_or(0);
  recipe.saves_model = options.method.method == "full";
  recipe.recompute = options.recompute;
  recipe.trainer.round_kept = options.kept_precision == "bf16";
  if (options.cached_features) recipe.feature_batch = options.batch_size;
  recipe.trainer.optimizer = options.optimizer;
  recipe.trainer.loss = options.loss;
  recipe.trainer.max_gradient_norm = options.max_gradient_norm;
  recipe.trainer.seed = options.seed;
  recipe.trainer.schedule = {options.schedule == "linear"   ? Schedule::Kind::linear
                             : options.schedule == "cosine" ? Schedule::Kind::cosine
                                                            : Schedule::Kind::constant,
                             static_cast<Index>(std::ceil(options.warmup_ratio * static_cast<double>(steps))), steps};
  return recipe;
}

// One JSON object a line, on the disk after each.
class MetricsLog {
 public:
  // With `kept` steps the lines of an earlier part of the run up to there stay.
  MetricsLog(std::filesystem::path path, Index kept) : path_(std::move(path)) {
    std::string text;
    if (kept > 0) {
      std::ifstream earlier(path_);
      for (std::string line; std::getline(earlier, line);) {
        const nlohmann::json entry = parse_json(line, path_.string());
        if (entry.value("step", Index{0}) > kept) continue;
        remember(entry);
        text += line + "\n";
      }
    }
    write_text_file(path_, text);
    stream_.open(path_, std::ios::app);
  }

  void add(const nlohmann::json& entry) {
    remember(entry);
    stream_ << entry.dump() << std::endl;
    if (!stream_) throw Error(path_.string(), "cannot be written", {.remedy = "is the disk full?"});
  }

  const std::vector<double>& losses() const { return losses_; }
  const std::vector<EvaluationPoint>& evaluations() const { return evaluations_; }

 private:
  void remember(const nlohmann::json& entry) {
    if (entry.contains("loss")) losses_.push_back(entry.at("loss").get<double>());
    if (entry.contains("eval_loss") && entry.at("eval_loss").is_number()) evaluations_.push_back({entry.at("step").get<double>(), entry.at("eval_loss").get<double>()});
  }

  std::filesystem::path path_;
  std::ofstream stream_;
  std::vector<double> losses_;
  std::vector<EvaluationPoint> evaluations_;
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values.size() % 2 == 1 ? values[values.size() / 2] : 0.5 * (values[values.size() / 2 - 1] + values[values.size() / 2]);
}

double peak_rss_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

nlohmann::json run_settings(const TrainOptions& options, Index examples, Index steps) {
  return {{"method", options.method.method},
          {"method_options", options.method.given},
          {"task", options.task},
          {"examples", examples},
          {"steps", steps},
          {"batch_size", options.batch_size},
          {"accumulation", options.accumulation},
          {"max_length", options.max_length},
          {"learning_rate", options.optimizer.learning_rate},
          {"weight_decay", options.optimizer.weight_decay},
          {"schedule", options.schedule},
          {"warmup_ratio", options.warmup_ratio},
          {"max_gradient_norm", options.max_gradient_norm},
          {"label_smoothing", options.loss.label_smoothing},
          {"class_weights", options.loss.class_weights},
          {"seed", options.seed},
          {"device", options.device.device},
          {"tf32", options.device.tf32},
          {"base_precision", options.device.base_precision},
          {"kept_precision", options.kept_precision},
          {"threads", options.device.threads}};
}

// What is to be learned, unless the user says: of a model with a single output numbers, of a plain text its language, else classes.
std::string default_task(const TrainOptions& options, const OwnHead& head, bool is_decoder) {
  if (is_decoder && std::filesystem::path(options.data).extension() == ".txt") return "lm";
  return head.classes == 1 && !options.new_head ? "regression" : "classify";
}

// Throws Error when the model's trained output layer learned another kind of answer than `task`.
void check_head(const TrainOptions& options, const OwnHead& head) {
  if (head.classes == 0 || options.new_head || options.task == "lm") return;
  const Output output = output_of(options.model, {}, head.classes);
  const bool fits = options.task == "regression" ? output == Output::numbers && head.classes == 1 : output == Output::one_label;
  if (!fits)
    throw Error(options.model, "the output layer was trained for another task",
                {.expected = options.task == "regression" ? "a single output, a number" : "one label per text",
                 .got = output == Output::one_label        ? "one label per text, of " + std::to_string(head.classes)
                        : output == Output::several_labels ? "any number of labels per text (problem_type multi_label_classification)"
                                                           : std::to_string(head.classes) + (head.classes == 1 ? " number" : " numbers") + " per text",
                 .remedy = output == Output::numbers && head.classes == 1 ? "--task regression goes on with it; --new-head draws a new output layer" : "--new-head draws a new output layer"});
}

// "scores from 0 to 5"
std::string score_range(const Dataset& data) {
  float lowest = data[0].target, highest = lowest;
  for (Index i = 1; i < data.size(); ++i) {
    lowest = std::min(lowest, data[i].target);
    highest = std::max(highest, data[i].target);
  }
  return "scores from " + formatted("%g", static_cast<double>(lowest)) + " to " + formatted("%g", static_cast<double>(highest));
}

TrainingData read_data(const TrainOptions& options, const OwnHead& head, bool any_labels, const Tokenizer& tokenizer) {
  const DataOptions data{options.data, options.eval_data, options.eval_fraction, options.columns, options.labels.empty() ? std::vector<std::string>() : labels_option(options.labels),
                         any_labels,   options.max_length, options.seed};
  if (!data.labels.empty() && options.task != "classify") throw Error("--labels", "are of classes", {.remedy = "leave it out, or give --task classify"});
  if (options.task == "lm") return language_data(data, tokenizer);
  if (options.task == "regression") return scored_data(data, tokenizer);
  return labelled_data(data, {options.model, options.new_head ? 0 : head.classes, options.new_head ? std::vector<std::string>() : head.labels}, tokenizer);
}

void train(TrainOptions options) {
  const std::filesystem::path out = options.out;
  const std::unique_ptr<Device> device = open_device(options.device);
  options.device.threads = device->threads();

  const JsonConfig config = JsonConfig::open(std::filesystem::path(options.model) / "config.json");
  const bool is_decoder = family_in(options.model) == "gpt2";
  const Index positions = is_decoder ? Gpt2Config::from_json(config).positions : BertConfig::from_json(config).positions;
  const Index layers = is_decoder ? Gpt2Config::from_json(config).layers : BertConfig::from_json(config).layers;
  const Index vocabulary = is_decoder ? Gpt2Config::from_json(config).vocab_size : BertConfig::from_json(config).vocab_size;
  const OwnHead head = own_head(options.model);
  const bool any_labels = options.task == "classify";  // said, not guessed
  if (options.task.empty()) options.task = default_task(options, head, is_decoder);
  const bool classifies = options.task == "classify", has_classifier = options.task != "lm";
  if (!has_classifier && !is_decoder) throw Error("--task lm", "needs a language model", {.remedy = "use the folder of a GPT-2"});
  const Index room = positions - positions_taken(options.method);
  if (options.max_length == 0) options.max_length = std::min<Index>(128, room);
  if (options.max_length > room)
    throw Error("--max-length", "is more than the model's positions", {.expected = "at most " + std::to_string(room), .got = std::to_string(options.max_length)});
  const Tokenizer tokenizer = Tokenizer::open(options.model);
  if (tokenizer.vocab_size() > vocabulary)
    throw Error(options.model, "the tokenizer has more tokens than the model", {.expected = "at most " + std::to_string(vocabulary), .got = std::to_string(tokenizer.vocab_size())});
  check_head(options, head);
  TrainingData data = read_data(options, head, any_labels, tokenizer);
  print(data.notes);
  Dataset& training = data.training;
  std::optional<Dataset>& evaluation = data.evaluation;
  const std::vector<std::string>& labels = data.labels;
  const std::string& method = options.method.method;

  const Index per_epoch = steps_per_epoch(training.size(), options.batch_size, options.accumulation);
  const Index steps = options.steps > 0 ? options.steps : static_cast<Index>(std::ceil(options.epochs * static_cast<double>(per_epoch)));
  const ModelFamily family{is_decoder ? "gpt2" : "bert", has_classifier, layers};
  const std::unique_ptr<DeviceTraining> run = device->train(recipe_of(options, labels, tokenizer, family, steps));
  for (const std::string& path : run->load_report().initialised) std::cout << "note: " << path << (options.new_head ? " is drawn at random\n" : " is not in the model's file: drawn at random\n");
  for (const std::string& name : run->load_report().left_out) std::cout << "note: " << name << " is not used\n";
  const auto save = [&] {
    run->save();
    if (method != "full" && has_classifier) write_text_file(out / "labels.json", nlohmann::json(labels).dump(2) + "\n");
  };

  make_directory(out);
  const nlohmann::json settings = run_settings(options, training.size(), steps);
  Progress progress;
  if (options.resume) progress = run->resume(out / "checkpoint", settings);
  MetricsLog metrics(out / "metrics.jsonl", progress.step);

  std::cout << "training " << method << " on " << training.size() << " texts, ";
  if (classifies) std::cout << labels.size() << " classes, ";
  if (options.task == "regression") std::cout << score_range(training) << ", ";
  std::cout << steps << " steps of " << options.batch_size * options.accumulation << "\n";
  if (classifies) std::cout << class_report(data) << "\n";
  std::vector<double> seconds, tokens_per_second;
  std::optional<ProgressBar> bar(std::in_place, steps, false);
  FitCallbacks callbacks;
  callbacks.after_step = [&](const StepReport& report) {
    const double speed = static_cast<double>(report.rows) / report.seconds;
    seconds.push_back(report.seconds);
    tokens_per_second.push_back(speed);
    metrics.add({{"step", report.step}, {"loss", report.loss}, {"lr", report.learning_rate}, {"tokens_per_second", speed}, {"gradient_norm", report.gradient_norm}});
    bar->update(report.step, report.loss, report.learning_rate, speed);
  };
  callbacks.after_evaluation = [&](const Evaluation& result, const Progress& now, bool is_best) {
    nlohmann::json entry{{"step", now.step}, {"eval_loss", result.loss}};
    std::ostringstream line;
    line << "step " << now.step << ": ";
    if (classifies) {
      const double f1 = Confusion(*evaluation, result.predictions, labels.size()).macro_f1();
      entry["eval_accuracy"] = result.accuracy;
      entry["eval_macro_f1"] = f1;
      line << "accuracy " << result.accuracy << ", macro F1 " << f1 << ", loss " << result.loss;
    } else if (has_classifier) {
      line << "mean squared error " << result.loss;
    } else {
      entry["eval_perplexity"] = result.perplexity();
      line << "perplexity " << result.perplexity() << ", loss " << result.loss;
    }
    metrics.add(entry);
    line << " on " << result.examples << " held-out texts" << (is_best ? ", the best so far" : "");
    bar->note(line.str());
    if (is_best) save();
  };
  callbacks.at_rest = [&](const Progress& now) {
    if (options.save_every > 0 && now.step % options.save_every == 0) run->save_checkpoint(out / "checkpoint", now, settings);
  };
  const FitConfig fit_config{steps, options.batch_size, options.accumulation, options.evaluate_every, options.patience};
  const Progress end = run->fit(training, evaluation ? &*evaluation : nullptr, fit_config, progress, callbacks);
  bar.reset();
  if (!evaluation) save();

  write_text_file(out / "loss.svg", loss_plot_svg(metrics.losses(), metrics.evaluations()));
  const std::size_t warm = seconds.size() > 5 ? 5 : 0;
  const auto after_warm = [warm](const std::vector<double>& values) { return std::vector<double>(values.begin() + static_cast<std::ptrdiff_t>(warm), values.end()); };
  const std::vector<double>& losses = metrics.losses();
  const std::size_t last = std::min<std::size_t>(20, losses.size());
  const std::map<std::string, PartSize> parts = run->parts();
  const nlohmann::json summary = {
      {"method", method},
      {"trainable_parameters", total(parts).trained},
      {"total_parameters", total(parts).all},
      {"steps", end.step},
      {"median_step_ms", 1e3 * median(after_warm(seconds))},
      {"real_tokens_per_second", median(after_warm(tokens_per_second))},
      {"peak_rss_mb", peak_rss_mb()},
      {"final_train_loss", std::accumulate(losses.end() - static_cast<std::ptrdiff_t>(last), losses.end(), 0.0) / static_cast<double>(std::max<std::size_t>(1, last))},
      {"eval_accuracy", evaluation && classifies ? nlohmann::json(end.best_accuracy) : nlohmann::json(nullptr)},
      {"eval_perplexity", evaluation && !has_classifier ? nlohmann::json(std::exp(end.best_loss)) : nlohmann::json(nullptr)},
      {"eval_loss", evaluation ? nlohmann::json(end.best_loss) : nlohmann::json(nullptr)},
      {"best_step", evaluation ? nlohmann::json(end.best_step) : nlohmann::json(nullptr)},
      {"device", options.device.device},
      {"threads", options.device.threads},
      {"out", options.out},
  };
  std::cout << "\n" << training_report(parts, run->memory()) << "\nwritten to " << options.out << "\n";
  if (options.json) std::cout << summary.dump() << std::endl;
}

}  // namespace

void add_train(CLI::App& app) {
  const auto options = std::make_shared<TrainOptions>();
  CLI::App* const command = app.add_subcommand("train", "Fine-tune a model on labelled text, or a language model on text");
  TrainOptions& o = *options;
  command->add_option("--model", o.model, "Hugging Face folder of the base model")->required();
  command->add_option("--data", o.data, "Labelled texts: .csv, .tsv, .jsonl or .json; for --task lm a plain text, .jsonl or .json")->required();
  command->add_option("--out", o.out, "Folder for the result")->required();
  command->add_option("--text-column", o.columns.text, "Column with the text [text, sentence or tweet]");
  command->add_option("--text-pair-column", o.columns.pair, "Column with a second text");
  command->add_option("--label-column", o.columns.label, "Column with the label [label, labels or sentiment]");
  command->add_option("--labels", o.labels, "Classes in the order of the output layer, with commas between them, or a .json file with a list [those of the model's output layer, else of the data]");
  command->add_flag("--new-head", o.new_head, "Draw a new output layer at random, where the model has one for other classes");
  command->add_option("--eval-data", o.eval_data, "Labelled texts to evaluate on");
  command->add_option("--eval-fraction", o.eval_fraction, "Share of --data to hold out when there is no --eval-data; 0: no evaluation")
      ->check(CLI::Range(0.0, 0.99))->capture_default_str();
  command->add_option("--task", o.task, "classify (texts with labels), regression (texts with numbers) or lm (a language model on plain text, or on .jsonl with prompt and completion) [lm for .txt, regression for a model with a single output, else classify]")
      ->check(CLI::IsMember({"classify", "regression", "lm"}));
  add_method_options(*command, o.method);

  command->add_option("--epochs", o.epochs, "Passes over the data")->check(CLI::PositiveNumber)->group("Run")->capture_default_str();
  command->add_option("--steps", o.steps, "Updates, instead of --epochs")->check(CLI::PositiveNumber)->group("Run");
  command->add_option("--batch-size", o.batch_size, "Texts a batch")->check(CLI::PositiveNumber)->group("Run")->capture_default_str();
  command->add_option("--accumulate", o.accumulation, "Batches an update")->check(CLI::PositiveNumber)->group("Run")->capture_default_str();
  command->add_option("--max-length", o.max_length, "Tokens a text, the rest is cut off [128, or fewer if the model reads fewer]")->check(CLI::Range(2, 1 << 20))->group("Run");
  command->add_option("--learning-rate", o.optimizer.learning_rate, "Peak learning rate of AdamW")->group("Run")->capture_default_str();
  command->add_option("--weight-decay", o.optimizer.weight_decay, "Weight decay, not on biases and norms")->group("Run")->capture_default_str();
  command->add_option("--schedule", o.schedule, "Learning rate after the warm-up: linear, cosine or constant")
      ->check(CLI::IsMember({"linear", "cosine", "constant"}))->group("Run")->capture_default_str();
  command->add_option("--warmup-ratio", o.warmup_ratio, "Share of the steps to warm up")->check(CLI::Range(0.0, 1.0))->group("Run")->capture_default_str();
  command->add_option("--max-gradient-norm", o.max_gradient_norm, "Clip the gradient to this norm; 0: never")->check(CLI::NonNegativeNumber)->group("Run")->capture_default_str();
  command->add_option("--label-smoothing", o.loss.label_smoothing, "Share of each label spread over all classes")->group("Run")->capture_default_str();
  command->add_option("--class-weights", o.loss.class_weights, "Weight of each class in the loss, in the order of the classes")->delimiter(',')->group("Run");
  command->add_option("--seed", o.seed, "Seed of order, dropout and start values")->group("Run")->capture_default_str();
  command->add_option("--eval-every", o.evaluate_every, "Steps between evaluations [each epoch]; the best result is the one that is kept")->check(CLI::PositiveNumber)->group("Run");
  command->add_option("--patience", o.patience, "Stop after so many evaluations without a better one [never]")->check(CLI::PositiveNumber)->group("Run");
  command->add_option("--save-every", o.save_every, "Steps between checkpoints in OUT/checkpoint [none]")->check(CLI::PositiveNumber)->group("Run");
  command->add_flag("--cache-features", o.cached_features, "With --method head: what the output layer reads is computed once, without dropout")->group("Run");
  command->add_flag("--recompute", o.recompute, "Compute inner values of feed-forward layers again in backward: less than half of the activations, a sixth more time")->group("Run");
  command->add_option("--kept-precision", o.kept_precision, "Activations kept for backward: float32, or bf16 for half the memory and rounded gradients")
      ->check(CLI::IsMember({"float32", "bf16"}))->group("Run")->capture_default_str();
  command->add_flag("--resume", o.resume, "Go on from OUT/checkpoint")->group("Run");
  add_device_options(*command, o.device);
  command->add_flag("--json", o.json, "A last line of output with a summary as JSON");
  command->footer(
      "Writes to OUT: the adapter (or the model, with --method full), metrics.jsonl, loss.svg, labels.json.\n"
      "Example:\n"
      "  deltatune train --model all-MiniLM-L6-v2 --data tweets.csv --label-column sentiment --method lora --learning-rate 1e-3 --out tweets-lora");
  command->callback([options] { train(*options); });
}

}  // namespace deltatune::cli
