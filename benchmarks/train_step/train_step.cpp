// One training step: its time beside that of its matrix products alone, what it keeps for backward, and where the time goes.
//
//   OMP_NUM_THREADS=2 deltatune_train_step --benchmark_filter=minilm_tweets
//
// A row of the table is the median of the repetitions; a time is that of a step, and everything is measured in turns with it:
//   rows/s        tokens that are trained on
//   gemm_ms       the products of the step alone, run again on the same memory in the same order
//   step/gemms    time of the step in units of that
//   gemm_GFLOPS   of the products alone;  peak_GFLOPS  of the fastest of some large products
//   act/layer     bytes kept for backward a layer, in units of rows · width floats;  floor  the fewest possible (job.hpp)
// Below it: the share of each op in the steps of each case. Models have random weights and the shapes of those they are named after.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "job.hpp"

namespace {

using namespace deltatune;
using namespace deltatune::bench;

std::vector<Case> all_cases() {
  const Architecture minilm = bert_shape(384, 6, 12);
  // A batch of tweets as MiniLM's tokenizer cuts them: 1,044 rows; padded it would be 1,856.
  const std::vector<Index> tweets{10, 33, 30, 27, 34, 43, 39, 30, 30, 45, 9,  40, 43, 43, 52, 41,
                                  25, 27, 58, 33, 20, 25, 48, 34, 26, 25, 31, 17, 39, 24, 21, 42};
  const auto equal = [](std::size_t count, Index length) { return std::vector<Index>(count, length); };
  std::vector<Case> cases{{"minilm_tweets/lora", minilm, tweets, true},
                          {"minilm_tweets/lora_all", minilm, tweets, true, Method::lora_all},
                          {"minilm_tweets/bitfit", minilm, tweets, true, Method::bitfit},
                          {"minilm_tweets/full", minilm, tweets, true, Method::full},
                          {"minilm_32x64/lora", minilm, equal(32, 64)},
                          {"bert_base_8x128/lora", bert_shape(768, 12, 12), equal(8, 128)},
                          {"modernbert_base_8x128/lora", modernbert_shape(), equal(8, 128)},
                          {"gpt2_4x256/lora", gpt2_shape(), equal(4, 256)}};
  if constexpr (kRounds<X>) {
    const std::vector<Case> in_float = cases;
    for (Case c : in_float) {
      if (c.method != Method::lora) continue;
      c.name += "/bf16";
      c.bf16 = true;
      cases.push_back(c);
    }
  }
  return cases;
}

// The case at hand, kept from repetition to repetition, and the profiles of all of them.
class Bench {
 public:
  void run(benchmark::State& state, const Case& c) {
    if (done_.empty() || done_.back().name != c.name) {
      job_.reset();
      job_ = make_job(c);
      done_.push_back({c.name, {}, 0, 0});
    }
    Job& job = *job_;
    job.best_peak = std::max(job.best_peak, job.peak(job.ctx));
    double seconds = 0, gemm_seconds = 0;
    for (auto _ : state) {
      const double step = job.step();
      state.SetIterationTime(step);
      seconds += step;
      gemm_seconds += seconds_of([&] {
        for (const auto& product : job.ctx.profile.products) product();
      });
    }
    job.steps += static_cast<Index>(state.iterations());
    job.seconds += seconds;
    done_.back() = {c.name, job.ctx.profile.ops, job.steps, job.seconds};
    const double steps = static_cast<double>(state.iterations());
    state.counters["rows/s"] = static_cast<double>(job.rows) * steps / seconds;
    state.counters["gemm_ms"] = 1e3 * gemm_seconds / steps;
    state.counters["step/gemms"] = seconds / gemm_seconds;
    state.counters["gemm_GFLOPS"] = 1e-9 * job.gemm_flops * steps / gemm_seconds;
    state.counters["peak_GFLOPS"] = 1e-9 * job.best_peak;
    state.counters["act/layer"] = job.activations;
    state.counters["floor"] = job.floor;
  }

  void print_shares() const {
    for (const Done& done : done_) {
      std::vector<std::pair<std::string_view, OpTime>> ops(done.ops.begin(), done.ops.end());
      OpTime rest{.calls = done.steps, .seconds = done.seconds};
      for (const auto& [name, op] : ops) rest.seconds -= op.seconds;
      ops.emplace_back("(between the ops)", rest);
      std::sort(ops.begin(), ops.end(), [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
      const double steps = static_cast<double>(done.steps);
      std::printf("\n%s: a step takes %.1f ms (mean of %.0f)\n", done.name.c_str(), 1e3 * done.seconds / steps, steps);
      std::printf("%8s %9s %7s %9s\n", "share", "ms", "calls", "GFLOP/s");
      for (const auto& [name, op] : ops) {
        char speed[32] = "";
        if (op.flops > 0) std::snprintf(speed, sizeof speed, "%.1f", 1e-9 * op.flops / op.seconds);
        std::printf("%6.1f %% %9.3f %7.0f %9s  %.*s\n", 100 * op.seconds / done.seconds, 1e3 * op.seconds / steps, static_cast<double>(op.calls) / steps, speed,
                    static_cast<int>(name.size()), name.data());
      }
    }
  }

 private:
  struct Done {
    std::string name;
    std::map<std::string_view, OpTime> ops;
    Index steps;
    double seconds;
  };
  std::unique_ptr<Job> job_;
  std::vector<Done> done_;
};

// Of several repetitions the median alone, under the name of the case.
class MedianReporter : public benchmark::ConsoleReporter {
 public:
  MedianReporter() : ConsoleReporter(OO_Tabular) {}
  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Run> medians;
    std::copy_if(runs.begin(), runs.end(), std::back_inserter(medians), [](const Run& run) { return run.aggregate_name == "median"; });
    for (Run& run : medians) {
      run.run_name.repetitions.clear();
      run.run_name.time_type.clear();
    }
    ConsoleReporter::ReportRuns(medians.empty() ? runs : medians);
  }
};

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  Bench bench;
  for (const Case& c : all_cases())
    benchmark::RegisterBenchmark(c.name.c_str(), [&bench, c](benchmark::State& state) { bench.run(state, c); })
        ->Unit(benchmark::kMillisecond)
        ->UseManualTime()
        ->Repetitions(5)
        ->ReportAggregatesOnly();
  MedianReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  bench.print_shares();
  benchmark::Shutdown();
}
