// Steps of training on a job that make_jobs.py wrote, with peer_step.py's recipe; the last line of stdout is the same JSON object as peer_step.py's.
//   deltatune_step --job FOLDER --method M [--base-precision float32|bf16] [--kept-precision float32|bf16] [--recompute]
//                  [--steps 12] [--warm-up 3] [--threads 2] [--no-dropout] [--graph] [--tf32] [--profile]
// With DELTATUNE_STEP_EIGEN defined, Eigen multiplies matrices also where oneDNN is there. With DELTATUNE_STEP_CUDA it runs on device 0, where
// --graph queues a step as one CUDA graph, --tf32 rounds what products read, and --profile shows a profiler the last step alone.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#ifdef DELTATUNE_STEP_CUDA
#include "deltatune/backend/cuda.hpp"
#ifdef __CUDACC__
#include <cuda_profiler_api.h>
#define DELTATUNE_STEP_PROFILER
#endif
#else
#include "deltatune/backend/cpu.hpp"
#include "deltatune/backend/cpu/gemm_eigen.hpp"
#endif
#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/model/bert.hpp"
#include "deltatune/model/gpt2.hpp"
#include "deltatune/train/trainer.hpp"

namespace {

using namespace deltatune;
namespace fs = std::filesystem;

#if defined(DELTATUNE_STEP_CUDA)
using Backend = Cuda;
#elif defined(DELTATUNE_STEP_EIGEN)
using Backend = Cpu<EigenGemm>;
#else
using Backend = DefaultCpu;
#endif
using X = Tensor<float, Backend>;

struct Options {
  fs::path job;
  std::string method;
  int steps = 12, warm_up = 3, threads = 2;
  bool rounds_base = false, rounds_kept = false, recompute = false, dropout = true, graph = false, tf32 = false, profile = false;
};

bool is_bf16(const std::string& name, const std::string& text) {
  if (text != "float32" && text != "bf16") throw Error(name, "is not known", {.expected = "float32 or bf16", .got = text});
  return text == "bf16";
}

int number(const std::string& name, const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) throw Error(name, "is not a number", {.expected = "at least 1", .got = text});
  return value;
}

Options options_of(const std::vector<std::string>& words) {
  Options options;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& name = words[i];
    if (name == "--no-dropout") {
      options.dropout = false;
      continue;
    }
    if (name == "--recompute") {
      options.recompute = true;
      continue;
    }
#ifdef DELTATUNE_STEP_CUDA
    if (name == "--graph" || name == "--tf32" || name == "--profile") {
      (name == "--graph" ? options.graph : name == "--tf32" ? options.tf32 : options.profile) = true;
      continue;
    }
#endif
    if (++i == words.size()) throw Error(name, "needs a value");
    if (name == "--job")
      options.job = words[i];
    else if (name == "--method")
      options.method = words[i];
    else if (name == "--base-precision")
      options.rounds_base = is_bf16(name, words[i]);
    else if (name == "--kept-precision")
      options.rounds_kept = is_bf16(name, words[i]);
    else if (name == "--steps")
      options.steps = number(name, words[i]);
    else if (name == "--warm-up")
      options.warm_up = number(name, words[i]);
    else if (name == "--threads")
      options.threads = number(name, words[i]);
    else
      throw Error(name, "is not an option");
  }
  if (options.job.empty() || options.method.empty()) throw Error("deltatune_step", "needs --job and --method");
  return options;
}

// As in batches.jsonl.
struct Rows {
  std::vector<std::vector<std::int32_t>> ids;
  std::vector<std::int32_t> labels;  // empty for a language model

  std::size_t tokens() const {
    std::size_t count = 0;
    for (const auto& sequence : ids) count += sequence.size();
    return count;
  }
  PackedBatch packed() const {
    PackedBatch batch;
    for (const auto& sequence : ids) batch.add(sequence);
    batch.labels = labels;
    if (labels.empty()) batch.token_labels = batch.ids;
    return batch;
  }
};

std::vector<Rows> read_batches(const fs::path& path) {
  std::vector<Rows> batches;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json json = parse_json(line, path.string());
    Rows& rows = batches.emplace_back();
    json.at("ids").get_to(rows.ids);
    if (json.contains("labels")) json.at("labels").get_to(rows.labels);
  }
  if (batches.empty()) throw Error(path.string(), "holds no batch");
  return batches;
}

double resident_mb() {
  double ignored = 0, pages = 0;
  std::ifstream("/proc/self/statm") >> ignored >> pages;
  return pages * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

double peak_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

std::string multiplies() {
#if defined(DELTATUNE_STEP_CUDA)
  return "cuBLAS";
#elif defined(DELTATUNE_HAS_ONEDNN) && !defined(DELTATUNE_STEP_EIGEN)
  const dnnl_version_t& version = *dnnl_version();
  return "oneDNN " + std::to_string(version.major) + "." + std::to_string(version.minor) + "." + std::to_string(version.patch);
#else
  return "Eigen " + std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." + std::to_string(EIGEN_MINOR_VERSION);
#endif
}

#ifdef DELTATUNE_STEP_CUDA
using Arguments = CudaOptions;
Arguments context_arguments(const Options& options) { return {.device = 0, .tf32 = options.tf32}; }
#else
using Arguments = int;
Arguments context_arguments(const Options& options) { return options.threads; }
#endif

// What a profiler looks at begins, or ends.
void show_profiler([[maybe_unused]] bool begins) {
#ifdef DELTATUNE_STEP_PROFILER
  detail::cuda_check(begins ? cudaProfilerStart() : cudaProfilerStop(), "telling the profiler");
#endif
}

template <class Model>
void cast_base_to_bf16(Backend::Context& ctx, Model& model) {
  if constexpr (kRounds<X>) {
    model.cast_base_to_bf16(ctx);
  } else {
    throw Error("--base-precision", "bf16 is not there on this backend");
  }
}

template <class Model>
nlohmann::json run(const Options& options, const JsonConfig& job, const Head& head) {
  const std::vector<Rows> batches = read_batches(options.job / "batches.jsonl");
  Backend::Context ctx(context_arguments(options));
  Model model = Model::load(ctx, options.job / "model", head);
  std::optional<Adapter<X>> adapter;
  if (options.method == "full") {
    apply(model, full_fine_tuning());
  } else if (options.method == "bitfit") {
    apply(model, bitfit(family_of(model)));
  } else {
    adapter = load_adapter(ctx, model, options.job / options.method);
  }
  if (options.rounds_base) cast_base_to_bf16(ctx, model);
  model.recompute_feed_forward(options.recompute);

  const double rate = job.object("learning_rates").get<double>(options.method);
  Trainer trainer(ctx, model, {.optimizer = {.learning_rate = rate}, .dropout = options.dropout, .round_kept = options.rounds_kept, .graph = options.graph});
  const auto fewer_tokens = [](const Rows& a, const Rows& b) { return a.tokens() < b.tokens(); };
  trainer.plan(std::max_element(batches.begin(), batches.end(), fewer_tokens)->packed());

  const double rss_before = resident_mb();
  std::vector<double> losses, milliseconds, speeds;
  for (std::size_t step = 0; step < static_cast<std::size_t>(options.steps); ++step) {
    const Rows& rows = batches[step % batches.size()];
    ctx.reset_counters();
    const bool shown = options.profile && step + 1 == static_cast<std::size_t>(options.steps);
    if (shown) show_profiler(true);
    const auto start = std::chrono::steady_clock::now();
    losses.push_back(trainer.step(rows.packed()).loss);
    milliseconds.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    speeds.push_back(1e3 * static_cast<double>(rows.tokens()) / milliseconds.back());
    if (shown) show_profiler(false);
  }
  const int skip = options.steps > options.warm_up ? options.warm_up : 0;
  return {{"losses", losses},
          {"trainable_parameters", trainable_count(model)},
          {"median_step_ms", median({milliseconds.begin() + skip, milliseconds.end()})},
          {"first_step_ms", milliseconds.front()},
          {"real_tokens_per_second", median({speeds.begin() + skip, speeds.end()})},
          {"rss_before_first_step_mb", rss_before},
          {"peak_rss_mb", peak_mb()},
          {"gemm_flops", ctx.gemm_flops()},                                       // of the last step
          {"peak_tensor_mb", static_cast<double>(ctx.peak_bytes()) / (1 << 20)},  // held through the context
          {"multiplies", multiplies()}};
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = options_of({argv + 1, argv + argc});
    const JsonConfig job = JsonConfig::open(options.job / "job.json");
    const bool is_language_model = job.get<std::string>("task") == "lm";
    const Head head = is_language_model ? Head::language_model() : Head::classifier(job.get<std::int64_t>("classes"));
    std::cout << run<Transformer<X>>(options, job, head) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
