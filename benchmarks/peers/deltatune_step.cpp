// Steps of training on a job that make_jobs.py wrote, with peer_step.py's recipe; the last line of stdout is the same JSON object as peer_step.py's.
//   deltatune_step --job FOLDER --method M [--base-precision float32|bf16] [--kept-precision float32|bf16] [--recompute]
//                  [--steps 12] [--warm-up 3] [--threads 2] [--no-dropout] [--graph] [--tf32] [--profile]
// With DELTATUNE_STEP_TILED defined, deltatune multiplies matrices itself also where oneDNN is there. With DELTATUNE_STEP_CUDA it runs on device 0, where
// --graph queues a step as one CUDA graph, --tf32 rounds what products read, and --profile shows a profiler the last step alone.
// The object says besides:
//   gflops_per_step, gflop_per_second  10^9 floating-point operations of the matrix products that a step runs, counted from their shapes (2·m·n·k: forward,
//                                      gradients, deltas; not what attention multiplies inside), and how many of them per second; medians as above
//   best_product_gflops                the best rate of one large product of the model's sizes, right before the first step: {"float32": ...}, and "bf16" with
//                                      --base-precision bf16
//   share_of_best                      gflop_per_second over that of the base's precision
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
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
#include "deltatune/backend/cpu/gemm_tiled.hpp"
#endif
#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/model/transformer.hpp"
#include "deltatune/train/teacher_forcing.hpp"
#include "deltatune/train/trainer.hpp"

namespace {

using namespace deltatune;
namespace fs = std::filesystem;

#if defined(DELTATUNE_STEP_CUDA)
using Backend = Cuda;
#elif defined(DELTATUNE_STEP_TILED)
using Backend = Cpu<TiledGemm>;
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
  std::vector<std::vector<std::int32_t>> ids;           // of an encoder-decoder: sources
  std::vector<std::int32_t> labels;                     // of a classifier
  std::vector<std::vector<std::int32_t>> token_labels;  // of a language model: as long as ids; empty: the ids
  std::vector<std::vector<std::int32_t>> targets;       // of an encoder-decoder

  std::size_t tokens() const {
    std::size_t count = 0;
    for (const auto* const texts : {&ids, &targets})
      for (const auto& sequence : *texts) count += sequence.size();
    return count;
  }
  PackedBatch packed(const Architecture& architecture) const {
    if (!targets.empty()) return pairs(architecture);
    PackedBatch batch;
    for (const auto& sequence : ids) batch.add(sequence);
    batch.labels = labels;
    for (const auto& row : token_labels) batch.token_labels.insert(batch.token_labels.end(), row.begin(), row.end());
    if (labels.empty() && token_labels.empty()) batch.token_labels = batch.ids;
    return batch;
  }

 private:
  PackedBatch pairs(const Architecture& architecture) const {
    Dataset data;
    for (std::size_t i = 0; i < ids.size(); ++i) data.add(teacher_forced(ids[i], targets[i], architecture));
    std::vector<Index> members(ids.size());
    std::iota(members.begin(), members.end(), Index{0});
    return data.batch(members);
  }
};

std::vector<Rows> read_batches(const fs::path& path, bool is_language_model, bool has_sources) {
  std::vector<Rows> batches;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json json = parse_json(line, path.string());
    Rows& rows = batches.emplace_back();
    json.at("ids").get_to(rows.ids);
    if (!is_language_model) {
      json.at("labels").get_to(rows.labels);
      continue;
    }
    if (!json.contains("labels")) continue;
    json.at("labels").get_to(has_sources ? rows.targets : rows.token_labels);
    if (has_sources) continue;
    const auto same_length = [](const auto& a, const auto& b) { return a.size() == b.size(); };
    if (!std::equal(rows.ids.begin(), rows.ids.end(), rows.token_labels.begin(), rows.token_labels.end(), same_length))
      throw Error(path.string() + ": line " + std::to_string(batches.size()), "needs one label per token");
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
#elif defined(DELTATUNE_HAS_ONEDNN) && !defined(DELTATUNE_STEP_TILED)
  const dnnl_version_t& version = *dnnl_version();
  return "oneDNN " + std::to_string(version.major) + "." + std::to_string(version.minor) + "." + std::to_string(version.patch);
#else
  return "deltatune";
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

// 10^9 floating-point operations per second of the fastest of some products of the model's sizes: `rows` of a batch through the feed-forward matrices, up,
// down, and up's gradient. In: what is multiplied.
template <class In>
double best_product(const Options& options, const Architecture& architecture, Index rows) {
  constexpr int kRepetitions = 5;
  Backend::Context ctx(context_arguments(options));  // its own: the model's counts what the step does
  const Index width = architecture.hidden_size, inner = architecture.stack.layers.front().feed_forward.intermediate_size;
  Tensor<In, Backend> narrow(ctx, {rows, width}), wide(ctx, {rows, inner}), up(ctx, {inner, width}), down(ctx, {width, inner});
  X narrow_result(ctx, {rows, width}), wide_result(ctx, {rows, inner});
  for (Tensor<In, Backend>* const tensor : {&narrow, &wide, &up, &down}) Backend::fill(ctx, tensor->view(), In(0.5F));
  const Gemm<float, In> products[]{{.a = narrow.view(), .b = up.view(), .c = wide_result.view(), .transpose_b = true},
                                   {.a = wide.view(), .b = down.view(), .c = narrow_result.view(), .transpose_b = true},
                                   {.a = wide.view(), .b = up.view(), .c = narrow_result.view()}};
  double best = 0;
  for (const Gemm<float, In>& product : products)
    for (int i = 0; i < kRepetitions; ++i) {
      Backend::synchronize(ctx);
      ctx.reset_counters();
      const auto start = std::chrono::steady_clock::now();
      Backend::gemm(ctx, product);
      Backend::synchronize(ctx);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      best = std::max(best, 1e-9 * static_cast<double>(ctx.gemm_flops()) / seconds.count());
    }
  return best;
}

// By precision; of the base's alone as well as of float32, which deltas and gradients of weights are multiplied in.
nlohmann::json best_products(const Options& options, const Architecture& architecture, Index rows) {
  nlohmann::json best{{"float32", best_product<float>(options, architecture, rows)}};
  if constexpr (kRounds<X>) {
    if (options.rounds_base) best["bf16"] = best_product<Bfloat16>(options, architecture, rows);
  }
  return best;
}

template <class Model>
nlohmann::json run(const Options& options, const JsonConfig& job, const Head& head) {
  Backend::Context ctx(context_arguments(options));
  const bool rounds_layers = options.rounds_base && options.method.starts_with("lora");  // as the program does
  Model model = Model::load(ctx, options.job / "model", head, 0, rounds_layers);
  const std::vector<Rows> batches = read_batches(options.job / "batches.jsonl", head.next_token, model.is_encoder_decoder());
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
  const PackedBatch largest = std::max_element(batches.begin(), batches.end(), fewer_tokens)->packed(model.architecture());
  trainer.plan(largest);

  const nlohmann::json best = best_products(options, model.architecture(), largest.rows());
  const double rss_before = resident_mb();
  std::vector<double> losses, milliseconds, speeds, gflops, rates;
  for (std::size_t step = 0; step < static_cast<std::size_t>(options.steps); ++step) {
    const Rows& rows = batches[step % batches.size()];
    ctx.reset_counters();
    const bool shown = options.profile && step + 1 == static_cast<std::size_t>(options.steps);
    if (shown) show_profiler(true);
    const auto start = std::chrono::steady_clock::now();
    losses.push_back(trainer.step(rows.packed(model.architecture())).loss);
    milliseconds.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    speeds.push_back(1e3 * static_cast<double>(rows.tokens()) / milliseconds.back());
    gflops.push_back(1e-9 * static_cast<double>(ctx.gemm_flops()));
    rates.push_back(1e3 * gflops.back() / milliseconds.back());
    if (shown) show_profiler(false);
  }
  const int skip = options.steps > options.warm_up ? options.warm_up : 0;
  const auto timed_median = [skip](const std::vector<double>& values) { return median({values.begin() + skip, values.end()}); };
  return {{"losses", losses},
          {"trainable_parameters", trainable_count(model)},
          {"median_step_ms", timed_median(milliseconds)},
          {"first_step_ms", milliseconds.front()},
          {"real_tokens_per_second", timed_median(speeds)},
          {"gflops_per_step", timed_median(gflops)},
          {"gflop_per_second", timed_median(rates)},
          {"best_product_gflops", best},
          {"share_of_best", timed_median(rates) / best.at(options.rounds_base ? "bf16" : "float32").get<double>()},
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
    const bool is_language_model = job.get<std::string>("task") != "classify";
    const Head head = is_language_model ? Head::language_model() : Head::classifier(job.get<std::int64_t>("classes"));
    std::cout << run<Transformer<X>>(options, job, head) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
