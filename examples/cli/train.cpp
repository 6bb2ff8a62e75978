// deltatune train: fine-tunes a model on labelled text.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>

#include "chat_options.hpp"
#include "commands.hpp"
#include "config_file.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/hf_checkpoint.hpp"
#include "deltatune/io/result_files.hpp"
#include "deltatune/model/families.hpp"
#include "deltatune/train/checkpoint.hpp"
#include "deltatune/version.hpp"
#include "device_options.hpp"
#include "interrupts.hpp"
#include "loss_plot.hpp"
#include "model_card.hpp"
#include "model_io.hpp"
#include "plans.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "run_folder.hpp"
#include "run_record.hpp"
#include "seq2seq_options.hpp"
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
  bool cached_features = false, recompute = false, json = false, new_head = false;
  // the result
  std::filesystem::path init_adapter;
  Resume resume = Resume::no;
  std::string metric;
  bool overwrite = false, no_kept_ids = false;
  ChatDataOptions chat;
  PairColumns pair_columns;
  std::optional<std::string> prefix;
  PairLanguages languages;
  Index max_target_length = 0;
  DeviceOptions device;
  std::string config;                               // what repeats the run: the text of train.yaml
  nlohmann::json given = nlohmann::json::object();  // "--rank": "4", as the command line has it
};

Recipe recipe_of(const TrainOptions& options, const std::vector<std::string>& labels, const Tokenizer& tokenizer, const ModelFamily& family, Index steps) {
  Recipe recipe;
  recipe.model = options.model;
  recipe.head = family.classifies ? Head::classifier(static_cast<Index>(labels.size()), options.new_head) : Head::language_model();
  if (family.classifies) recipe.problem_type = problem_type_of(options.task == "regression" ? Output::numbers : Output::one_label);
  recipe.labels = labels;
  if (!options.init_adapter.empty()) recipe.init_adapters = adapter_folders({options.init_adapter});
  const auto encode = [&tokenizer](const std::string& text, bool special_tokens) {
    return tokenizer.encode(text, EncodeOptions{.special_tokens = special_tokens});
  };
  if (recipe.init_adapters.empty()) recipe.plans = plans_of(options.method, family, labels, {options.model, encode});
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

// One JSON object a line, on the disk after each. The file is opened for each line: a result may put another folder in the place of this one.
class MetricsLog {
 public:
  // With `kept` steps the lines of an earlier part of the run up to there stay.
  MetricsLog(std::filesystem::path path, Index kept) : path_(std::move(path)) {
    std::string text;
    if (kept > 0) {
      std::ifstream earlier(path_);
      for (std::string line; std::getline(earlier, line) && !earlier.eof();) {  // a last line without its end was cut off when the program was killed
        const nlohmann::json entry = parse_json(line, path_.string());
        if (entry.value("step", Index{0}) > kept) {
          evaluated_later_ = evaluated_later_ || entry.contains("eval_loss");
          continue;
        }
        remember(entry);
        text += line + "\n";
      }
    }
    write_text_file(path_, text);
  }

  void add(const nlohmann::json& entry) {
    remember(entry);
    std::ofstream stream(path_, std::ios::app);
    stream << entry.dump() << "\n" << std::flush;
    if (!stream) throw Error(path_.string(), "cannot be written", {.remedy = "is the disk full?"});
  }

  const std::vector<double>& losses() const { return losses_; }
  const std::vector<EvaluationPoint>& evaluations() const { return evaluations_; }
  // Whether there were evaluations after the steps that were kept.
  bool evaluated_later() const { return evaluated_later_; }

 private:
  void remember(const nlohmann::json& entry) {
    if (entry.contains("loss")) losses_.push_back(entry.at("loss").get<double>());
    if (entry.contains("eval_loss") && entry.at("eval_loss").is_number())
      evaluations_.push_back({entry.at("step").get<double>(), entry.at("eval_loss").get<double>()});
  }

  std::filesystem::path path_;
  std::vector<double> losses_;
  std::vector<EvaluationPoint> evaluations_;
  bool evaluated_later_ = false;
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

// What makes two runs the same one, all that the result depends on. Those of kMayChange may be others when it is resumed.
nlohmann::json run_settings(const TrainOptions& options, Index examples, Index steps) {
  return {{"method", options.method.method},
          {"method_options", options.method.given()},
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
          {"metric", options.metric},
          {"seed", options.seed},
          {"device", options.device.device},
          {"tf32", options.device.tf32},
          {"base_precision", options.device.base_precision},
          {"kept_precision", options.kept_precision},
          {"cached_features", options.cached_features},
          {"threads", options.device.threads}};
}
constexpr std::array kMayChange{"steps", "threads"};

// From the checkpoint in the folder. Says where it goes on, and what is not as it was. Throws Error when the checkpoint is one of another run.
struct Resumed {
  Progress progress;
  bool changed = false;  // more steps, other threads
};

Resumed resume(DeviceTraining& run, const RunFolder& folder, const nlohmann::json& settings) {
  const nlohmann::json before = checkpoint_settings(folder.checkpoint()).raw();
  nlohmann::json fixed = settings;
  for (const char* const key : kMayChange) fixed.erase(key);
  Resumed resumed{run.resume(folder.checkpoint(), fixed)};
  const Index step = resumed.progress.step, steps = settings.at("steps").get<Index>();
  if (step > steps) throw Error("--steps", "is less than the run has done", {.expected = "at least " + std::to_string(step), .got = std::to_string(steps)});
  for (const std::string key : kMayChange) {
    const nlohmann::json& was = before.at(key);
    if (was == settings.at(key)) continue;
    resumed.changed = true;
    std::cerr << "note: " << counted(settings.at(key).get<Index>(), key.substr(0, key.size() - 1)) << " instead of " << was << ": "
              << (key == "threads" ? "sums may be rounded differently"
                                   : "from here on the learning rate is that of the " + settings.at("schedule").get<std::string>() + " schedule over them all")
              << "\n";
  }
  return resumed;
}

// Of a finished run in the folder that has no checkpoint. Throws Error when it was another one.
void check_same_run(const RunFolder& folder, const nlohmann::json& settings) {
  const JsonConfig before = JsonConfig::open(folder.path() / kRunRecord);
  nlohmann::json expected = nlohmann::json::object(), got = nlohmann::json::object();
  for (const auto& [key, value] : settings.items()) {
    const nlohmann::json was = before.raw().value(key, nlohmann::json(nullptr));
    if (was == value || std::find(kMayChange.begin(), kMayChange.end(), key) != kMayChange.end()) continue;
    expected[key] = was;
    got[key] = value;
  }
  if (!got.empty())
    throw Error(before.name(), "is not that of the run that is to be resumed",
                {.expected = expected.dump(), .got = got.dump(), .remedy = deltatune::detail::kResumeRemedy});
}

// Whether a run that is to be resumed has nothing to do any more: all of the steps are done. Throws Error when there are more of them and no checkpoint.
bool has_nothing_to_do(const RunFolder& folder, const nlohmann::json& settings) {
  if (!folder.holds_finished_run()) return false;
  if (!folder.resumes()) check_same_run(folder, settings);
  const JsonConfig record = JsonConfig::open(folder.path() / kRunRecord);
  const Index done = record.get_or<std::int64_t>("last_step", 0), steps = settings.at("steps").get<Index>();
  if (done >= steps || record.get_or<bool>("stopped_early", false)) return true;
  if (!folder.resumes())
    throw Error(folder.path().string(), "holds a run that is finished after step " + std::to_string(done) + ", and no checkpoint to go on from",
                {.remedy = "--init-adapter trains its adapter further; a run with --save-every keeps its last checkpoint"});
  return false;
}

// Of a folder, without what is above it.
std::string name_of(const std::filesystem::path& folder) {
  const std::filesystem::path path = std::filesystem::absolute(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

// "8.4 s", "3 min 20 s", "2 h 5 min"
std::string duration_text(double seconds) {
  if (seconds < 60) return formatted("%.1f s", seconds);
  const Index whole = static_cast<Index>(seconds + 0.5);
  if (whole < 3600) return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  return std::to_string(whole / 3600) + " h " + std::to_string(whole % 3600 / 60) + " min";
}

// Where a chat template may be: beside the adapter that is trained further, and the model.
std::vector<std::filesystem::path> template_folders(const TrainOptions& options) {
  std::vector<std::filesystem::path> folders;
  if (!options.init_adapter.empty()) folders.push_back(options.init_adapter);
  folders.emplace_back(options.model);
  return folders;
}

bool is_of_pairs(const TrainOptions& options) { return options.task == "seq2seq"; }
bool is_of_language(const TrainOptions& options) { return options.task == "lm" || options.task == "chat" || is_of_pairs(options); }

// What is to be learned, unless the user says: of an encoder-decoder without a classifier a target, of conversations what the assistant says, of a model with a
// single output numbers, of a plain text its language, else classes.
std::string default_task(const TrainOptions& options, const OwnHead& head, const Architecture& architecture) {
  if (architecture.encoder && head.num_labels == 0) return "seq2seq";
  const bool writes = !architecture.head.lm_head.empty() && !architecture.encoder;
  if (const RecordFormat format = record_format(options.data); format != RecordFormat::kOther && (writes || format != RecordFormat::kInstruction))
    return task_of(format, format == RecordFormat::kInstruction && (!options.chat.template_file.empty() || find_chat_template(template_folders(options))));
  if (writes && std::filesystem::path(options.data).extension() == ".txt") return "lm";
  return head.num_labels == 1 && !options.new_head ? "regression" : "classify";
}

// Throws Error when a model of this kind cannot learn the task.
void check_task(const TrainOptions& options, const Architecture& architecture) {
  const std::string task = "--task " + options.task;
  if (architecture.encoder && is_of_language(options) && !is_of_pairs(options))
    throw Error(task, "is not for " + architecture.title + ", an encoder-decoder",
                {.remedy = "--task seq2seq learns to write targets from source texts, --task classify their labels"});
  if (!architecture.encoder && is_of_pairs(options))
    throw Error(task, "needs an encoder-decoder",
                {.got = architecture.title, .remedy = "use the folder of a model such as T5; --task lm learns prompts and completions"});
  if (is_of_language(options) && architecture.head.lm_head.empty())
    throw Error(task, "needs a language model", {.remedy = "use the folder of a language model, such as GPT-2"});
}

// The trained adapter to start from, or nothing.
std::vector<std::filesystem::path> init_adapters(const TrainOptions& options) {
  return options.init_adapter.empty() ? std::vector<std::filesystem::path>() : std::vector{options.init_adapter};
}
std::string head_folder(const TrainOptions& options) { return options.init_adapter.empty() ? options.model : options.init_adapter.string(); }

// How sources and targets are read. Prefix and languages are those of the adapter or model that is trained further where nobody says. Throws Error for targets
// that are longer than the model's positions.
PairSettings pair_settings(const TrainOptions& options, const Architecture& architecture) {
  const std::optional<TrainedPairs> trained = trained_pairs(options.model, init_adapters(options));
  const std::string whose = " of " + head_folder(options);
  return {options.pair_columns, prefix_of(options.prefix, trained, whose), options.max_length,
          target_length_of(options.max_target_length, kTargetLength, architecture), languages_of(options.languages, trained, whose)};
}

// The method comes with the adapter. Throws Error for options that would say something else.
void check_init_adapter(const TrainOptions& options) {
  if (options.init_adapter.empty()) return;
  for (const auto& [option, value] : options.method.values)
    if (option != "--lora-plus-ratio") throw Error("--init-adapter", "brings its method's settings with it", {.got = option, .remedy = "leave out " + option});
  if (options.given.contains("--method")) throw Error("--init-adapter", "brings its method with it", {.got = "--method", .remedy = "leave out --method"});
  if (options.new_head) throw Error("--init-adapter", "brings its output layer with it", {.got = "--new-head", .remedy = "leave out --new-head"});
}

// Throws Error when the model's trained output layer learned another kind of answer than `task`.
void check_head(const TrainOptions& options, const OwnHead& head) {
  if (head.num_labels == 0 || options.new_head || is_of_language(options)) return;
  const Output output = output_of(options.model, init_adapters(options), head.num_labels);
  const bool fits = options.task == "regression" ? output == Output::numbers && head.num_labels == 1 : output == Output::one_label;
  if (!fits)
    throw Error(head_folder(options), "the output layer was trained for another task",
                {.expected = options.task == "regression" ? "a single output, a number" : "one label per text",
                 .got = output == Output::one_label        ? "one label per text, of " + std::to_string(head.num_labels)
                        : output == Output::several_labels ? "any number of labels per text (problem_type multi_label_classification)"
                                                           : std::to_string(head.num_labels) + (head.num_labels == 1 ? " number" : " numbers") + " per text",
                 .remedy = output == Output::numbers && head.num_labels == 1 ? "--task regression goes on with it; --new-head draws a new output layer"
                                                                             : "--new-head draws a new output layer"});
}

// "scores from 0 to 5", of all the data.
std::string score_range(const TrainingData& data) {
  float lowest = data.training[0].target, highest = lowest;
  for (const Dataset* const part : {&data.training, data.evaluation ? &*data.evaluation : &data.training})
    for (Index i = 0; i < part->size(); ++i) {
      lowest = std::min(lowest, (*part)[i].target);
      highest = std::max(highest, (*part)[i].target);
    }
  return "scores from " + formatted("%g", static_cast<double>(lowest)) + " to " + formatted("%g", static_cast<double>(highest));
}

// Throws Error for options that contradict each other, and for those that the task has no use for.
void check_options(const TrainOptions& options) {
  const auto given = [&](const char* option) { return options.given.contains(option); };
  if (given("--eval-data") && given("--eval-fraction"))
    throw Error("--eval-fraction", "holds out a share of --data, and --eval-data names other texts for the evaluation", {.remedy = "leave out one of the two"});
  if (given("--steps") && given("--epochs")) throw Error("--epochs", "contradicts --steps", {.remedy = "leave out one of the two"});
  if (options.eval_data.empty() && options.eval_fraction == 0)
    for (const char* const option : {"--eval-every", "--patience", "--metric"})
      if (given(option)) throw Error(option, "needs an evaluation, and there is none", {.remedy = "give --eval-data, or an --eval-fraction above 0"});
  if (is_of_language(options))
    for (const char* const option : {"--text-column", "--text-pair-column", "--label-column", "--new-head", "--class-weights"})
      if (given(option))
        throw Error(
            option, "is for texts with labels",
            {.remedy = is_of_pairs(options) ? "leave it out; --source-column and --target-column name texts" : "leave it out, or give --task classify"});
  if (is_of_language(options) && given("--cache-features")) throw Error("--cache-features", "is for classifiers", {.remedy = "leave it out"});
  if (!is_of_pairs(options))
    for (const char* const option : kPairOptions)
      if (given(option)) throw Error(option, "is for source and target texts", {.remedy = "leave it out, or use an encoder-decoder such as T5"});
  if (options.task != "chat")
    for (const char* const option : kChatOptions)
      if (given(option)) throw Error(option, "is for conversations", {.remedy = "leave it out, or give --task chat"});
  if (options.task == "regression")
    for (const char* const option : {"--class-weights", "--label-smoothing"})
      if (given(option)) throw Error(option, "is for classes", {.remedy = "leave it out, or give --task classify"});
}

// Throws Error when a factor of rank R would be larger than the layer that it stands for. VeRA's are random and may be.
void check_rank(const MethodOptions& method, Index hidden_size) {
  const std::vector<std::string> methods = split(method.method, '+');
  const bool is_factor = std::any_of(methods.begin(), methods.end(), [](const std::string& name) { return name != "vera"; });
  const std::string rank = method.text("--rank");
  if (!rank.empty() && is_factor && whole_number(rank, "--rank") > hidden_size)
    throw Error("--rank", "is more than the layers have", {.expected = "at most " + std::to_string(hidden_size) + ", the model's hidden_size", .got = rank});
}

TrainingData read_data(const TrainOptions& options, const Architecture& architecture, const OwnHead& head, bool any_labels, const TextEncoding& encoding,
                       const ChatSource* chat, const PairSettings& pairs) {
  const DataOptions data{options.data,
                         options.eval_data,
                         options.eval_fraction,
                         options.columns,
                         options.labels.empty() ? std::vector<std::string>() : labels_option(options.labels),
                         any_labels,
                         options.max_length,
                         options.seed,
                         options.init_adapter,
                         chat,
                         pairs};
  if (!data.labels.empty() && options.task != "classify")
    throw Error("--labels", "are of classes", {.remedy = is_of_pairs(options) ? "leave it out" : "leave it out, or give --task classify"});
  if (is_of_pairs(options)) return pair_data(data, architecture, encoding);
  if (is_of_language(options)) return language_data(data, encoding);
  if (options.task == "regression") return scored_data(data, encoding);
  OutputLayer layer{head_folder(options), options.new_head ? 0 : head.num_labels, options.new_head ? std::vector<std::string>() : head.labels};
  if (!options.init_adapter.empty()) layer.remedy = "without --init-adapter a new output layer is trained";
  return labelled_data(data, layer, encoding);
}

void train(TrainOptions options) {
  Interrupts interrupts;  // before any thread is started
  check_init_adapter(options);
  RunFolder folder(options.out, options.model, options.resume, options.overwrite, options.method.method == "full");
  const std::filesystem::path out = folder.path();
  const std::unique_ptr<Device> device = open_device(options.device);
  options.device.threads = device->threads();

  const Architecture architecture = architecture_in(options.model);
  const OwnHead head = own_head(options.model, init_adapters(options));
  const bool any_labels = options.task == "classify";  // said, not guessed
  if (options.task.empty()) options.task = default_task(options, head, architecture);
  check_task(options, architecture);
  check_options(options);
  check_rank(options.method, architecture.hidden_size);
  const MetricKind kind = is_of_language(options) ? MetricKind::language : options.task == "regression" ? MetricKind::scores : MetricKind::classes;
  const Metric metric = options.metric.empty() ? default_metric(kind) : metric_of(options.metric, kind, "--metric");
  options.metric = name_of(metric);
  if (!options.init_adapter.empty())
    for (const std::string& note : run_notes(options.model, init_adapters(options))) std::cerr << "note: " << note << "\n";
  const bool classifies = options.task == "classify", has_classifier = !is_of_language(options);
  const Index room = architecture.longest() - (options.init_adapter.empty() ? positions_taken(options.method) : positions_taken_by({options.init_adapter}));
  const bool of_pairs = is_of_pairs(options);
  if (options.max_length == 0) options.max_length = std::min(options.task == "chat" ? kConversationLength : of_pairs ? kSourceLength : Index{128}, room);
  if (options.max_length > room)
    throw Error("--max-length", "is more than the model's positions",
                {.expected = "at most " + std::to_string(room), .got = std::to_string(options.max_length)});
  const Tokenizer tokenizer = tokenizer_of(options.model);
  check_vocabulary(options.model, tokenizer, architecture.vocab_size);
  check_head(options, head);
  std::optional<ChatSource> chat;
  if (options.task == "chat")
    chat = chat_source(options.chat, template_folders(options), trained_date({}, folder.resumes() ? std::vector{folder.path()} : init_adapters(options)));
  const PairSettings pairs = of_pairs ? pair_settings(options, architecture) : PairSettings();
  TrainingData data =
      read_data(options, architecture, head, any_labels, {tokenizer, options.model, static_cast<unsigned>(options.device.threads), !options.no_kept_ids},
                chat ? &*chat : nullptr, pairs);
  print(data.notes);
  Dataset& training = data.training;
  std::optional<Dataset>& evaluation = data.evaluation;
  const std::vector<std::string>& labels = data.labels;
  const std::string unit = chat ? "conversation" : of_pairs ? "pair" : "text";

  const Index per_epoch = steps_per_epoch(training.size(), options.batch_size, options.accumulation);
  const Index steps = options.steps > 0 ? options.steps : static_cast<Index>(std::ceil(options.epochs * static_cast<double>(per_epoch)));
  const ModelFamily family{architecture, has_classifier};
  const std::unique_ptr<DeviceTraining> run = device->train(recipe_of(options, labels, tokenizer, family, steps));
  for (const std::string& path : run->load_report().initialised)
    std::cout << "note: " << path << (options.new_head ? " is drawn at random\n" : " is not in the model's file: drawn at random\n");
  for (const std::string& name : run->load_report().left_out) std::cout << "note: " << name << " is not used\n";
  options.method.method = run->method();
  const std::string& method = options.method.method;
  nlohmann::json settings = run_settings(options, training.size(), steps);
  settings["labels"] = labels;
  settings["training_data"] = content_hash(training);
  settings["evaluation_data"] = evaluation ? content_hash(*evaluation) : "";
  settings["base_weights"] = HfCheckpoint::open(options.model).content_hash();
  if (of_pairs) settings["max_target_length"] = pairs.max_target_length;
  nlohmann::json record = settings;
  record.update({{"version", DELTATUNE_VERSION_STRING},
                 {"command", "train"},
                 {"model", options.model},
                 {"data", options.data},
                 {"options", options.given},
                 {"text_pairs", !options.columns.pair.empty()},
                 {"finished", false}});
  if (of_pairs) write_pairs({data.pair_columns.source, data.pair_columns.target, pairs.prefix, pairs.max_target_length, pairs.languages}, record);
  if (data.date_is_printed) record["chat_date"] = date_text(chat->date);
  const auto save = [&] {
    folder.save([&](const std::filesystem::path& to) {
      run->save(to);
      if (method != "full") copy_tokenizer(options.model, to);
      if (chat && chat->folder != options.model) copy_chat_template(chat->file.empty() ? chat->folder : chat->file, to);
      if (method != "full" && has_classifier) write_text_file(to / "labels.json", nlohmann::json(labels).dump(2) + "\n");
      write_text_file(to / kRunRecord, record.dump(2) + "\n");
    });
  };

  Resumed from;
  if (folder.resumes()) from = resume(*run, folder, settings);
  if (has_nothing_to_do(folder, settings)) {
    const nlohmann::json before = JsonConfig::open(out / kRunRecord).raw();
    const Index done = before.value("last_step", Index{0});
    if (folder.resumes() && from.progress.step < done) folder.remove_checkpoint();  // killed when only that was left to do
    folder.finish();
    std::cout << options.out << " is finished: " << counted(done, "step") << ", nothing is left to do\n";
    if (options.json) std::cout << before.dump() << std::endl;
    return;
  }
  if (folder.resumes()) std::cout << "resuming after step " << from.progress.step << " of " << steps << ", from " << folder.checkpoint().string() << "\n";
  folder.begin(record);
  if (folder.replaces()) std::cout << "the earlier result stays until the new one is complete; until then that is in " << out.string() << "\n";
  MetricsLog metrics(out / "metrics.jsonl", from.progress.step);
  if (from.changed && metrics.evaluated_later()) from.progress.best_step = 0;  // the best result on the disk may be of a step that comes again, and differently

  std::cout << "training " << method << " on " << counted(training.size(), unit) << ", ";
  if (classifies) std::cout << labels.size() << " classes, ";
  if (options.task == "regression") std::cout << score_range(data) << ", ";
  std::cout << counted(steps, "step") << " of " << options.batch_size * options.accumulation << "\n";
  if (classifies) std::cout << class_report(data) << "\n";
  const auto begin = std::chrono::steady_clock::now();
  interrupts.hold("finishing the step");
  Index checkpoint_step = 0;
  const auto save_checkpoint = [&](const Progress& now) {
    if (now.step != checkpoint_step) run->save_checkpoint(folder.checkpoint(), now, settings);
    checkpoint_step = now.step;
  };
  std::vector<double> seconds, tokens_per_second;
  std::optional<ProgressBar> bar(std::in_place, steps, false);
  FitCallbacks callbacks;
  callbacks.after_step = [&](const StepReport& report) {
    const double speed = static_cast<double>(report.rows) / report.seconds;
    seconds.push_back(report.seconds);
    tokens_per_second.push_back(speed);
    metrics.add(
        {{"step", report.step}, {"loss", report.loss}, {"lr", report.learning_rate}, {"tokens_per_second", speed}, {"gradient_norm", report.gradient_norm}});
    bar->update(report.step, report.loss, report.learning_rate, speed);
  };
  callbacks.after_evaluation = [&](const Evaluation& result, const Progress& now, bool is_best) {
    nlohmann::json entry{{"step", now.step}, {"eval_loss", result.loss}};
    std::ostringstream line;
    line << "step " << now.step << ": ";
    if (classifies) {
      entry.update({{"eval_accuracy", result.accuracy},
                    {"eval_macro_f1", result.classes.macro_f1()},
                    {"eval_weighted_f1", result.classes.weighted_f1()},
                    {"eval_matthews", result.classes.matthews()}});
      line << "accuracy " << percent(result.accuracy) << ", macro F1 " << formatted("%.3f", result.classes.macro_f1());
      if (metric == Metric::weighted_f1 || metric == Metric::matthews) line << ", " << options.metric << " " << formatted("%.3f", result.value(metric, kind));
      line << ", loss " << formatted("%.4f", result.loss);
    } else if (has_classifier) {
      entry.update({{"eval_pearson", result.pearson}, {"eval_spearman", result.spearman}});
      line << "mean squared error " << formatted("%.4f", result.loss) << ", Pearson " << formatted("%.3f", result.pearson) << ", Spearman "
           << formatted("%.3f", result.spearman);
    } else {
      entry["eval_perplexity"] = result.perplexity();
      line << "perplexity " << formatted("%.2f", result.perplexity()) << ", loss " << formatted("%.4f", result.loss);
    }
    metrics.add(entry);
    line << " on " << counted(result.examples, "held-out " + unit) << (is_best ? ", the best so far" : "");
    bar->note(line.str());
    if (is_best) save();
  };
  callbacks.at_rest = [&](const Progress& now) {
    if (options.save_every > 0 && now.step % options.save_every == 0) save_checkpoint(now);
  };
  callbacks.should_stop = [&] { return interrupts.received() != 0; };
  const FitConfig fit_config{steps, options.batch_size, options.accumulation, options.evaluate_every, options.patience, metric};
  const Progress end = run->fit(training, evaluation ? &*evaluation : nullptr, fit_config, from.progress, callbacks);
  bar.reset();
  const bool stopped_early = options.patience > 0 && end.evaluations_since_best >= options.patience && end.step < steps;
  if (end.step == steps || stopped_early) interrupts.hold("writing the result");
  const double duration = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (end.step < steps && !stopped_early) {
    save_checkpoint(end);
    std::cerr << "stopped by " << (interrupts.received() == SIGINT ? "Ctrl-C" : "SIGTERM") << " after step " << end.step << " of " << steps
              << ": the same command with --resume goes on from " << folder.checkpoint().string() << "\n";
    throw Interrupted{interrupts.received()};
  }
  if (stopped_early)
    std::cout << "stopped early after step " << end.step << " of " << steps << ": " << counted(options.patience, "evaluation")
              << " without a better result than that of step " << end.best_step << "\n";
  std::cout << counted(end.step - from.progress.step, "step") << " in " << duration_text(duration) << "\n";
  if (!evaluation) save();
  write_text_file(out / kRunOptions, options.config);
  write_text_file(out / "loss.svg", loss_plot_svg(metrics.losses(), metrics.evaluations()));
  if (options.save_every > 0) save_checkpoint(end);  // from which more steps can follow
  const double best_metric = metric == Metric::loss ? end.best_loss : end.best_value;
  record.update({{"finished", true}, {"last_step", end.step}, {"stopped_early", stopped_early}, {"seconds", duration}});
  if (evaluation) record.update({{"best_step", end.best_step}, {"eval_loss", end.best_loss}, {"best_metric", best_metric}});
  if (evaluation && classifies) record["eval_accuracy"] = end.best_accuracy;
  const std::vector<double>& losses = metrics.losses();
  const std::size_t last = std::min<std::size_t>(20, losses.size());
  const double final_loss =
      std::accumulate(losses.end() - static_cast<std::ptrdiff_t>(last), losses.end(), 0.0) / static_cast<double>(std::max<std::size_t>(1, last));
  const std::filesystem::path card = std::filesystem::path(options.out) / kModelCard;
  if (!std::filesystem::exists(card) || is_model_card(card)) {
    std::vector<std::pair<std::string, double>> results{{"loss", evaluation ? end.best_loss : final_loss}};
    if (evaluation && classifies) results.emplace_back("accuracy", end.best_accuracy);
    if (!has_classifier) results.emplace_back("perplexity", std::exp(results.front().second));
    write_text_file(out / kModelCard, model_card(out, name_of(options.out), record, results));
  } else {
    std::cerr << "note: " << card.string() << " is no model card of this program and stays as it is\n";
  }
  const std::size_t warm = seconds.size() > 5 ? 5 : 0;
  const auto after_warm = [warm](const std::vector<double>& values) {
    return std::vector<double>(values.begin() + static_cast<std::ptrdiff_t>(warm), values.end());
  };
  const std::map<std::string, PartSize> parts = run->parts();
  const nlohmann::json cost{{"trainable_parameters", total(parts).trained},
                            {"total_parameters", total(parts).all},
                            {"median_step_ms", 1e3 * median(after_warm(seconds))},
                            {"peak_rss_mb", peak_rss_mb()}};
  record.update(cost);
  write_text_file(out / kRunRecord, record.dump(2) + "\n");
  if (options.save_every == 0) folder.remove_checkpoint();  // it is of an earlier step
  folder.finish();

  nlohmann::json summary = {
      {"method", method},
      {"steps", end.step},
      {"seconds", duration},
      {"stopped_early", stopped_early},
      {"real_tokens_per_second", median(after_warm(tokens_per_second))},
      {"final_train_loss", final_loss},
      {"eval_accuracy", evaluation && classifies ? nlohmann::json(end.best_accuracy) : nlohmann::json(nullptr)},
      {"eval_perplexity", evaluation && !has_classifier ? nlohmann::json(std::exp(end.best_loss)) : nlohmann::json(nullptr)},
      {"eval_loss", evaluation ? nlohmann::json(end.best_loss) : nlohmann::json(nullptr)},
      {"best_step", evaluation ? nlohmann::json(end.best_step) : nlohmann::json(nullptr)},
      {"metric", options.metric},
      {"best_metric", evaluation ? nlohmann::json(best_metric) : nlohmann::json(nullptr)},
      {"device", options.device.device},
      {"threads", options.device.threads},
      {"out", options.out},
  };
  summary.update(cost);
  std::cout << "\n" << training_report(parts, run->memory()) << "\nwritten to " << options.out << "\n";
  if (options.json) std::cout << summary.dump() << std::endl;
}

}  // namespace

void add_train(CLI::App& app) {
  const auto options = std::make_shared<TrainOptions>();
  CLI::App* const command = app.add_subcommand(
      "train", "Fine-tune a model on labelled text, a language model on text or conversations, or an encoder-decoder on source and target texts");
  TrainOptions& o = *options;
  command->add_option("--model", o.model, "Hugging Face folder of the base model")->required();
  command
      ->add_option("--data", o.data,
                   "Labelled texts, or sources and targets: .csv, .tsv, .jsonl or .json; for --task lm a plain text, .jsonl or .json; for --task chat .jsonl "
                   "or .json")
      ->required();
  command->add_option("--out", o.out, "Folder for the result")->required();
  command->add_flag("--overwrite", o.overwrite, "Replace the result that --out holds, once the new one is complete; or write beside what else it holds");
  command->add_option("--text-column", o.columns.text, "Column with the text [text, sentence or tweet]");
  command->add_option("--text-pair-column", o.columns.pair, "Column with a second text");
  command->add_option("--label-column", o.columns.label, "Column with the label [label, labels or sentiment]");
  command->add_option(
      "--labels", o.labels,
      "Classes in the order of the output layer, with commas between them, or a .json file with a list [those of the model's output layer, else of the data]");
  command->add_flag("--new-head", o.new_head, "Draw a new output layer at random, where the model has one for other classes");
  command->add_option("--eval-data", o.eval_data, "Labelled texts to evaluate on");
  command->add_option("--eval-fraction", o.eval_fraction, "Share of --data to hold out when there is no --eval-data; 0: no evaluation")
      ->check(CLI::Range(0.0, 0.99))
      ->capture_default_str();
  command
      ->add_option(
          "--task", o.task,
          "classify (texts with labels), regression (texts with numbers), lm (a language model on plain text, or on .jsonl with prompt and "
          "completion), chat (what the assistant says in conversations) or seq2seq (an encoder-decoder on sources and targets) [seq2seq for an "
          "encoder-decoder without a classifier, lm for .txt, chat for records with messages, regression for a model with a single output, else classify]")
      ->check(CLI::IsMember({"classify", "regression", "lm", "chat", "seq2seq"}));
  add_pair_options(*command, o.pair_columns, o.prefix, o.languages, o.max_target_length);
  add_chat_options(*command, o.chat);
  add_method_options(*command, o.method);
  command->add_option("--init-adapter", o.init_adapter, "Instead of --method: train this adapter further")->type_name("DIR");

  command->add_option("--epochs", o.epochs, "Passes over the data")->check(CLI::PositiveNumber)->group("Run")->capture_default_str();
  command->add_option("--steps", o.steps, "Updates, instead of --epochs")->check(CLI::PositiveNumber)->group("Run");
  command->add_option("--batch-size", o.batch_size, "Texts per batch")->check(CLI::PositiveNumber)->group("Run")->capture_default_str();
  command->add_option("--accumulate", o.accumulation, "Batches per update")->check(CLI::PositiveNumber)->group("Run")->capture_default_str();
  command->add_flag("--no-kept-ids", o.no_kept_ids, "Don't keep the tokens of a large data set in a file beside it, DATA.ids, for the next run")->group("Run");
  command
      ->add_option("--max-length", o.max_length,
                   "Tokens per text, the rest is cut off [128, 1024 for --task chat, 512 of a source; fewer if the model reads fewer]")
      ->check(CLI::Range(2, 1 << 20))
      ->group("Run");
  command->add_option("--learning-rate", o.optimizer.learning_rate, "Peak learning rate of AdamW")->group("Run")->capture_default_str();
  command->add_option("--weight-decay", o.optimizer.weight_decay, "Weight decay, not on biases and norms")->group("Run")->capture_default_str();
  command->add_option("--schedule", o.schedule, "Learning rate after the warm-up: linear, cosine or constant")
      ->check(CLI::IsMember({"linear", "cosine", "constant"}))
      ->group("Run")
      ->capture_default_str();
  command->add_option("--warmup-ratio", o.warmup_ratio, "Share of the steps to warm up")->check(CLI::Range(0.0, 1.0))->group("Run")->capture_default_str();
  command->add_option("--max-gradient-norm", o.max_gradient_norm, "Clip the gradient to this norm; 0: never")
      ->check(CLI::NonNegativeNumber)
      ->group("Run")
      ->capture_default_str();
  command->add_option("--label-smoothing", o.loss.label_smoothing, "Share of each label spread over all classes")->group("Run")->capture_default_str();
  command->add_option("--class-weights", o.loss.class_weights, "Weight of each class in the loss, in the order of the classes")->delimiter(',')->group("Run");
  command->add_option("--seed", o.seed, "Seed of order, dropout and start values")->group("Run")->capture_default_str();
  command->add_option("--eval-every", o.evaluate_every, "Steps between evaluations [each epoch]; the best result is the one that is kept")
      ->check(CLI::PositiveNumber)
      ->group("Run");
  command
      ->add_option("--metric", o.metric,
                   "Which result is the best: of classes accuracy, macro_f1, weighted_f1 or matthews, of scores pearson or spearman, of all loss [accuracy of "
                   "classes, else loss]; of equal ones that with the smaller loss")
      ->group("Run");
  command->add_option("--patience", o.patience, "Stop after so many evaluations without a better one [never]")->check(CLI::PositiveNumber)->group("Run");
  command->add_option("--save-every", o.save_every, "Steps between checkpoints in OUT/checkpoint [none]")->check(CLI::PositiveNumber)->group("Run");
  command->add_flag("--cache-features", o.cached_features, "With --method head: what the output layer reads is computed once, without dropout")->group("Run");
  command
      ->add_flag("--recompute", o.recompute,
                 "Compute inner values of feed-forward layers again in backward: less than half of the activations, a sixth more time")
      ->group("Run");
  command->add_option("--kept-precision", o.kept_precision, "Activations kept for backward: float32, or bf16 for half the memory and rounded gradients")
      ->check(CLI::IsMember({"float32", "bf16"}))
      ->group("Run")
      ->capture_default_str();
  const auto resume = std::make_shared<std::string>();
  command
      ->add_option(
          "--resume", *resume,
          "Go on from OUT/checkpoint; 'auto': start where there is none. Data, model and options must be the same, but for --steps, --epochs and --threads")
      ->expected(0, 1)
      ->check(CLI::IsMember({"", "auto"}))
      ->type_name("[auto]")
      ->group("Run");
  add_device_options(*command, o.device);
  command->add_flag("--json", o.json, "A last line of output with a summary as JSON");
  command->footer(
      "Writes to OUT: the adapter (or the model, with --method full), the tokenizer, labels.json, run.json (options, seed, version, hash of the data), "
      "metrics.jsonl, loss.svg, train.yaml (for --config), README.md (a model card).\n"
      "Ctrl-C or SIGTERM: finishes the step, writes OUT/checkpoint and ends with 130 or 143; once more stops at once.\n"
      "Example:\n"
      "  deltatune train --model all-MiniLM-L6-v2 --data tweets.csv --label-column sentiment --method lora --learning-rate 1e-3 --out tweets-lora");
  command->callback([options, command, resume] {
    if (command->count("--resume") > 0) options->resume = *resume == "auto" ? Resume::automatic : Resume::yes;
    for (const CLI::Option* option : command->get_options([](const CLI::Option* each) { return each->count() > 0; }))
      options->given[option->get_name()] = CLI::detail::join(option->results());
    options->config = config_text(*command, {"overwrite", "resume"});
    train(*options);
  });
}

}  // namespace deltatune::cli
