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
#include "deltatune/io/atomic_file.hpp"
#include "device_options.hpp"
#include "loss_plot.hpp"
#include "model_io.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

namespace {

struct TrainOptions {
  std::string model, data, eval_data, out;
  double eval_fraction = 0.1;
  TextColumns columns;
  std::string method = "lora";
  // LoRA
  Index rank = 8;
  double alpha = 16;
  double dropout = 0;
  bool rank_stabilized = false;
  std::string targets = "query,value", exclude, bias = "none", modules_to_save = "classifier";
  std::vector<Index> layers;
  std::vector<std::string> rank_pattern, alpha_pattern;
  // run
  double epochs = 1;
  Index steps = 0, batch_size = 32, accumulation = 1, max_length = 0;
  AdamWConfig optimizer;
  std::string schedule = "linear";
  double warmup_ratio = 0.06, max_gradient_norm = 1.0;
  LossConfig loss;
  std::uint64_t seed = 0;
  Index evaluate_every = 0, patience = 0, save_every = 0;
  bool resume = false, json = false;
  DeviceOptions device;
};

std::vector<std::string> split(const std::string& list, char separator = ',') {
  std::vector<std::string> parts;
  std::istringstream stream(list);
  for (std::string part; std::getline(stream, part, separator);)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

// "PATTERN=VALUE"
std::pair<std::string, double> pattern_setting(const std::string& text, const char* option) {
  const std::size_t equals = text.rfind('=');
  try {
    std::size_t used = 0;
    const std::string value = equals == std::string::npos ? "" : text.substr(equals + 1);
    const double number = std::stod(value, &used);
    if (used == value.size()) return {text.substr(0, equals), number};
  } catch (const std::exception&) {
  }
  throw Error(option, "cannot be read", {.expected = "PATTERN=NUMBER", .got = "\"" + text + "\""});
}

LoraPlan lora_plan(const TrainOptions& options) {
  LoraPlan plan;
  plan.lora = {options.rank, options.alpha, options.dropout, options.rank_stabilized};
  plan.targets = options.targets == "all-linear" ? Targets::every_linear() : Targets::named(split(options.targets));
  plan.targets.exclude.names = split(options.exclude);
  plan.targets.layers = options.layers;
  for (const std::string& text : options.rank_pattern) {
    const auto [pattern, value] = pattern_setting(text, "--rank-pattern");
    plan.rank_pattern.emplace_back(pattern, static_cast<Index>(value));
  }
  for (const std::string& text : options.alpha_pattern) plan.alpha_pattern.push_back(pattern_setting(text, "--alpha-pattern"));
  plan.bias = options.bias == "all" ? BiasTraining::all : options.bias == "lora_only" ? BiasTraining::lora_only : BiasTraining::none;
  plan.modules_to_save = split(options.modules_to_save);
  return plan;
}

Recipe recipe_of(const TrainOptions& options, const std::vector<std::string>& labels, Index steps) {
  Recipe recipe{options.model, options.out, labels, LoraPlan{}, options.method == "full", {}};
  if (options.method == "lora") {
    recipe.method = lora_plan(options);
  } else {
    recipe.method = selection_of(options.method);
  }
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
        if (entry.contains("loss")) losses_.push_back(entry.at("loss").get<double>());
        text += line + "\n";
      }
    }
    write_text_file(path_, text);
    stream_.open(path_, std::ios::app);
  }

  void add(const nlohmann::json& entry) {
    if (entry.contains("loss")) losses_.push_back(entry.at("loss").get<double>());
    stream_ << entry.dump() << std::endl;
    if (!stream_) throw Error(path_.string(), "cannot be written", {.remedy = "is the disk full?"});
  }

  const std::vector<double>& losses() const { return losses_; }

 private:
  std::filesystem::path path_;
  std::ofstream stream_;
  std::vector<double> losses_;
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

// Splits a share of the rows off, at random but the same for the same seed.
Table split_off(Table& table_io, double fraction, std::uint64_t seed) {
  const Index rows = static_cast<Index>(table_io.rows.size());
  const Index held_out = static_cast<Index>(std::floor(fraction * static_cast<double>(rows)));
  Table other{table_io.name, table_io.columns, {}, 0, 0};
  std::vector<std::vector<std::string>> kept;
  const std::vector<Index> order = shuffled_order(seed, 0, rows);
  for (Index i = 0; i < rows; ++i) {
    std::vector<std::string>& row = table_io.rows[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])];
    (i < held_out ? other.rows : kept).push_back(std::move(row));
  }
  table_io.rows = std::move(kept);
  return other;
}

nlohmann::json run_settings(const TrainOptions& options, Index examples, Index steps) {
  return {{"method", options.method},
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
          {"dropout", options.dropout},
          {"seed", options.seed},
          {"device", options.device.device},
          {"tf32", options.device.tf32},
          {"threads", options.device.threads}};
}

// Class names: those of the model's own output layer when they are the ones in the data, else found in the data.
std::vector<std::string> choose_labels(const BertConfig& config, std::vector<std::string> found) {
  std::vector<std::string> a = config.labels, b = found;
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b ? config.labels : found;
}

void train(TrainOptions options) {
  const std::filesystem::path out = options.out;
  const std::unique_ptr<Device> device = open_device(options.device);
  options.device.threads = device->threads();

  Table table = read_table(options.data);
  options.columns = resolve_columns(table, options.columns, true);
  std::optional<Table> eval_table;
  if (!options.eval_data.empty()) {
    eval_table = read_table(options.eval_data);
  } else if (options.eval_fraction > 0) {
    eval_table = split_off(table, options.eval_fraction, options.seed);
    if (eval_table->rows.empty()) eval_table.reset();
  }
  if (table.rows.empty()) throw Error(options.data, "no rows are left to train on", {.remedy = "lower --eval-fraction"});
  for (const Table* each : {&table, eval_table ? &*eval_table : nullptr})
    if (each != nullptr && !encoding_note(*each).empty()) std::cout << "note: " << encoding_note(*each) << "\n";

  const JsonConfig model_config = JsonConfig::open(std::filesystem::path(options.model) / "config.json");
  const BertConfig config = BertConfig::from_json(model_config);
  if (options.max_length == 0) options.max_length = std::min<Index>(128, config.positions);
  if (options.max_length > config.positions)
    throw Error("--max-length", "is more than the model's positions", {.expected = "at most " + std::to_string(config.positions), .got = std::to_string(options.max_length)});
  const std::vector<std::string> labels = choose_labels(config, class_names(table, options.columns.label));
  if (labels.size() < 2)
    throw Error(options.data + ": column " + options.columns.label, "holds a single label", {.expected = "two classes or more", .got = "\"" + labels.front() + "\""});
  const WordPiece tokenizer = WordPiece::load(options.model);
  if (tokenizer.vocab_size() > config.vocab_size)
    throw Error(options.model, "the tokenizer has more tokens than the model", {.expected = "at most " + std::to_string(config.vocab_size), .got = std::to_string(tokenizer.vocab_size())});
  const Dataset training = tokenize(table, options.columns, tokenizer, options.max_length, labels);
  std::optional<Dataset> evaluation;
  if (eval_table) evaluation = tokenize(*eval_table, options.columns, tokenizer, options.max_length, labels);

  const Index per_epoch = steps_per_epoch(training.size(), options.batch_size, options.accumulation);
  const Index steps = options.steps > 0 ? options.steps : static_cast<Index>(std::ceil(options.epochs * static_cast<double>(per_epoch)));
  const std::unique_ptr<DeviceTraining> run = device->train(recipe_of(options, labels, steps));
  for (const std::string& path : run->load_report().initialised) std::cout << "note: " << path << " is not in the model's file: drawn at random\n";
  for (const std::string& name : run->load_report().left_out) std::cout << "note: " << name << " is not used\n";
  const auto save = [&] {
    run->save();
    if (options.method != "full") write_text_file(out / "labels.json", nlohmann::json(labels).dump(2) + "\n");
  };

  make_directory(out);
  const nlohmann::json settings = run_settings(options, training.size(), steps);
  Progress progress;
  if (options.resume) progress = run->resume(out / "checkpoint", settings);
  MetricsLog metrics(out / "metrics.jsonl", progress.step);

  std::cout << "training " << options.method << " on " << training.size() << " texts, " << labels.size() << " classes, " << steps << " steps of "
       << options.batch_size * options.accumulation << "\n";
  std::vector<double> seconds, tokens_per_second;
  std::optional<ProgressBar> bar(std::in_place, steps, false);
  FitCallbacks callbacks;
  callbacks.after_step = [&](const StepReport& report) {
    const double speed = static_cast<double>(report.rows) / report.seconds;
    seconds.push_back(report.seconds);
    tokens_per_second.push_back(speed);
    metrics.add({{"step", report.step}, {"loss", report.loss}, {"lr", report.learning_rate}, {"tokens_per_second", speed}, {"gradient_norm", report.gradient_norm}});
    bar->update(report.step, report.loss, report.learning_rate, speed);
    if (options.save_every > 0 && report.step % options.save_every == 0) {
      Progress now = progress;
      now.step = report.step;
      run->save_checkpoint(out / "checkpoint", now, settings);
    }
  };
  callbacks.after_evaluation = [&](const Evaluation& result, const Progress& now, bool is_best) {
    progress = now;
    metrics.add({{"step", now.step}, {"eval_accuracy", result.accuracy}, {"eval_loss", result.loss}});
    std::ostringstream line;
    line << "step " << now.step << ": accuracy " << result.accuracy << ", loss " << result.loss << " on " << result.examples << " held-out texts"
         << (is_best ? ", the best so far" : "");
    bar->note(line.str());
    if (is_best) save();
  };
  const FitConfig fit_config{steps, options.batch_size, options.accumulation, options.evaluate_every, options.patience};
  const Progress end = run->fit(training, evaluation ? &*evaluation : nullptr, fit_config, progress, callbacks);
  bar.reset();
  if (!evaluation) save();

  write_text_file(out / "loss.svg", loss_plot_svg(metrics.losses()));
  const std::size_t warm = seconds.size() > 5 ? 5 : 0;
  const auto after_warm = [warm](const std::vector<double>& values) { return std::vector<double>(values.begin() + static_cast<std::ptrdiff_t>(warm), values.end()); };
  const std::vector<double>& losses = metrics.losses();
  const std::size_t last = std::min<std::size_t>(20, losses.size());
  const std::map<std::string, PartSize> parts = run->parts();
  const nlohmann::json summary = {
      {"method", options.method},
      {"trainable_parameters", total(parts).trained},
      {"total_parameters", total(parts).all},
      {"steps", end.step},
      {"median_step_ms", 1e3 * median(after_warm(seconds))},
      {"real_tokens_per_second", median(after_warm(tokens_per_second))},
      {"peak_rss_mb", peak_rss_mb()},
      {"final_train_loss", std::accumulate(losses.end() - static_cast<std::ptrdiff_t>(last), losses.end(), 0.0) / static_cast<double>(std::max<std::size_t>(1, last))},
      {"eval_accuracy", evaluation ? nlohmann::json(end.best_accuracy) : nlohmann::json(nullptr)},
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
  CLI::App* const command = app.add_subcommand("train", "Fine-tune a model on labelled text");
  TrainOptions& o = *options;
  command->add_option("--model", o.model, "Hugging Face folder of the base model")->required();
  command->add_option("--data", o.data, "Labelled texts: .csv, .tsv or .jsonl")->required();
  command->add_option("--out", o.out, "Folder for the result")->required();
  command->add_option("--text-column", o.columns.text, "Column with the text [text, sentence or tweet]");
  command->add_option("--text-pair-column", o.columns.pair, "Column with a second text");
  command->add_option("--label-column", o.columns.label, "Column with the label [label or sentiment]");
  command->add_option("--eval-data", o.eval_data, "Labelled texts to evaluate on");
  command->add_option("--eval-fraction", o.eval_fraction, "Share of --data to hold out when there is no --eval-data; 0: no evaluation")
      ->check(CLI::Range(0.0, 0.99))->capture_default_str();
  command->add_option("--method", o.method, "What to train: lora, bitfit, bitfit_query_ffn, head (output layer only) or full (everything)")
      ->check(CLI::IsMember({"lora", "bitfit", "bitfit_query_ffn", "head", "full"}))->capture_default_str();

  command->add_option("--rank", o.rank, "LoRA: rank")->group("LoRA")->capture_default_str();
  command->add_option("--alpha", o.alpha, "LoRA: scaling is alpha / rank")->group("LoRA")->capture_default_str();
  command->add_option("--dropout", o.dropout, "LoRA: dropout on the adapter's input")->group("LoRA")->capture_default_str();
  command->add_flag("--rslora", o.rank_stabilized, "LoRA: scaling is alpha / sqrt(rank)")->group("LoRA");
  command->add_option("--targets", o.targets, "LoRA: layers by the ends of their names, or all-linear")->group("LoRA")->capture_default_str();
  command->add_option("--exclude", o.exclude, "LoRA: layers to leave out")->group("LoRA");
  command->add_option("--layers", o.layers, "LoRA: numbers of the layers to adapt [all]")->delimiter(',')->group("LoRA");
  command->add_option("--rank-pattern", o.rank_pattern, "LoRA: another rank for some layers, PATTERN=RANK")->group("LoRA");
  command->add_option("--alpha-pattern", o.alpha_pattern, "LoRA: another alpha for some layers, PATTERN=ALPHA")->group("LoRA");
  command->add_option("--bias", o.bias, "LoRA: biases to train as well: none, all, lora_only")
      ->check(CLI::IsMember({"none", "all", "lora_only"}))->group("LoRA")->capture_default_str();
  command->add_option("--modules-to-save", o.modules_to_save, "LoRA: modules trained as a whole")->group("LoRA")->capture_default_str();

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
