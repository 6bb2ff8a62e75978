// What many adapters cost: batches whose sequences go through different ones, and merging one.
//
//   OMP_NUM_THREADS=2 deltatune_op_benchmarks --benchmark_filter=adapters --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true
//
// MiniLM's shape with random weights; 32 sequences of a tweet's length take turns through LoRAs of rank 8 on query and value.
//   adapters/train/K, adapters/infer/K   a step, or the logits, with K adapters; K = 1 is not routed: all rows go through it in one product
//   adapters/merge, adapters/unmerge     of one of them;  adapters/read  every byte of the model's weights once
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../shapes.hpp"
#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/backend/cpu.hpp"
#include "deltatune/model/bert.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/train/trainer.hpp"

namespace {

using namespace deltatune;
using X = Tensor<float, DefaultCpu>;

struct Job {
  DefaultCpu::Context ctx;
  Bert<X> model{ctx, bench::bert_shape(384, 6, 12), Head::classifier(3)};
  std::vector<Attachment<X>> adapters;
  std::unique_ptr<Trainer<Bert<X>>> trainer;
  PackedBatch batch;

  explicit Job(Index count) {
    model.initialise(ctx, 1);
    for (Index k = 0; k < count; ++k) {
      LoraPlan plan;
      plan.name = "tenant " + std::to_string(k);
      plan.lora = {.rank = 8, .alpha = 16};
      adapters.push_back(k == 0 ? attach(ctx, model, plan) : attach_beside(ctx, model, plan));
      adapters.back().set_routed(count > 1);
    }
    for (Index b = 0; b < 32; ++b) {
      std::vector<std::int32_t> tokens;
      for (Index t = 0; t < 14 + b * 37 % 38; ++t) tokens.push_back(static_cast<std::int32_t>(1000 + (b * 51 + t) * 7919 % 20000));
      batch.add(tokens);
      batch.labels.push_back(static_cast<std::int32_t>(b % 3));
      if (count > 1) batch.adapters.push_back("tenant " + std::to_string(b % count));
    }
    trainer = std::make_unique<Trainer<Bert<X>>>(ctx, model, TrainerConfig{.optimizer = {.learning_rate = 1e-4}});
    trainer->plan(batch);
  }
};

// One for each number of adapters, kept until the end, so that repetitions of different cases can take turns.
Job& job_of(Index count) {
  static std::vector<std::pair<Index, std::unique_ptr<Job>>> jobs;
  for (const auto& [number, job] : jobs)
    if (number == count) return *job;
  return *jobs.emplace_back(count, std::make_unique<Job>(count)).second;
}

void train(benchmark::State& state) {
  Job& job = job_of(state.range(0));
  job.trainer->step(job.batch);
  for (auto _ : state) job.trainer->step(job.batch);
}
void infer(benchmark::State& state) {
  Job& job = job_of(state.range(0));
  job.trainer->logits(job.batch);
  for (auto _ : state) benchmark::DoNotOptimize(job.trainer->logits(job.batch));
}
BENCHMARK(train)->Name("adapters/train")->Arg(1)->Arg(8)->Arg(32)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(infer)->Name("adapters/infer")->Arg(1)->Arg(8)->Arg(32)->Unit(benchmark::kMillisecond)->UseRealTime();

void merge(benchmark::State& state) {
  Job& job = job_of(1);
  for (auto _ : state) {
    job.adapters[0].merge(job.ctx);
    state.PauseTiming();
    job.adapters[0].unmerge(job.ctx);
    state.ResumeTiming();
  }
}
void unmerge(benchmark::State& state) {
  Job& job = job_of(1);
  for (auto _ : state) {
    state.PauseTiming();
    job.adapters[0].merge(job.ctx);
    state.ResumeTiming();
    job.adapters[0].unmerge(job.ctx);
  }
}
void read(benchmark::State& state) {
  Job& job = job_of(1);
  double bytes = 0;
  for (auto _ : state) {
    bytes = 0;
    job.model.visit([&](Parameter<X>& parameter) {
      const View<const float> value = parameter.value();
      std::vector<float> sums(static_cast<std::size_t>(value.cols));
      ops::column_sum<DefaultCpu, float>(job.ctx, value, {sums.data(), 1, value.cols, value.cols});
      benchmark::DoNotOptimize(sums.data());
      bytes += 4.0 * static_cast<double>(value.rows * value.cols);
    });
  }
  state.counters["MB"] = 1e-6 * bytes;
}
BENCHMARK(merge)->Name("adapters/merge")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(unmerge)->Name("adapters/unmerge")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(read)->Name("adapters/read")->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
