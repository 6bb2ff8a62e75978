// Kernels and steps of the CUDA backend. Each iteration is timed by events, with the L2 cache overwritten before it, and is given as a share of
// what the device can do: of its float multiply-adds (SMs · 128 · 2 · clock) or of its memory's bytes (clock · bus width · 2).
//
//   build/release/benchmarks/deltatune_cuda_benchmarks --benchmark_filter=attention
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "../shapes.hpp"
#include "deltatune/cuda.hpp"

namespace {

using namespace deltatune;
using X = Tensor<float, Cuda>;

// One context for all, made at the first use, and what the device can do.
struct Device {
  Cuda::Context ctx;
  double flops_per_second = 0;
  double bytes_per_second = 0;
  Index l2_bytes = 0;

  Device() {
    const auto attribute = [](cudaDeviceAttr which) {
      int value = 0;
      detail::cuda_check(cudaDeviceGetAttribute(&value, which, 0), "cudaDeviceGetAttribute");
      return static_cast<double>(value);
    };
    flops_per_second = attribute(cudaDevAttrMultiProcessorCount) * 128 * 2 * attribute(cudaDevAttrClockRate) * 1e3;
    bytes_per_second = 2 * attribute(cudaDevAttrMemoryClockRate) * 1e3 * attribute(cudaDevAttrGlobalMemoryBusWidth) / 8;
    l2_bytes = static_cast<Index>(attribute(cudaDevAttrL2CacheSize));
  }
};
Device& device() {
  static Device instance;
  return instance;
}

X random_matrix(Index rows, Index cols, std::uint64_t seed) {
  Cuda::Context& ctx = device().ctx;
  std::vector<float> host;
  for (Index i = 0; i < rows * cols; ++i) host.push_back(uniform(derive(seed), static_cast<std::uint64_t>(i)) - 0.5F);
  X matrix(ctx, {rows, cols});
  Cuda::copy_in(ctx, host.data(), matrix.view().data, matrix.bytes());
  return matrix;
}

// Times work(), which multiplies and adds `flops` times and has to move `bytes` bytes at least (0: not a measure of this work).
template <class Work>
void measure(benchmark::State& state, double flops, double bytes, const Work& work) {
  Device& d = device();
  cudaEvent_t begin{}, end{};
  detail::cuda_check(cudaEventCreate(&begin), "cudaEventCreate");
  const detail::CudaEvent begin_owner(begin);
  detail::cuda_check(cudaEventCreate(&end), "cudaEventCreate");
  const detail::CudaEvent end_owner(end);
  X flush(d.ctx, {2 * d.l2_bytes / 4 + 1});
  work();
  for (auto unused : state) {
    static_cast<void>(unused);
    Cuda::fill(d.ctx, flush.view(), 1.0F);
    detail::cuda_check(cudaEventRecord(begin, d.ctx.stream()), "cudaEventRecord");
    work();
    detail::cuda_check(cudaEventRecord(end, d.ctx.stream()), "cudaEventRecord");
    detail::cuda_check(cudaEventSynchronize(end), "cudaEventSynchronize");
    float milliseconds = 0;
    detail::cuda_check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    state.SetIterationTime(static_cast<double>(milliseconds) * 1e-3);
  }
  using benchmark::Counter;
  if (flops > 0) {
    state.counters["GFLOP/s"] = Counter(flops * 1e-9, Counter::kIsIterationInvariantRate);
    state.counters["% of float peak"] = Counter(100 * flops / d.flops_per_second, Counter::kIsIterationInvariantRate);
  }
  if (bytes > 0) {
    state.counters["GB/s"] = Counter(bytes * 1e-9, Counter::kIsIterationInvariantRate);
    state.counters["% of memory"] = Counter(100 * bytes / d.bytes_per_second, Counter::kIsIterationInvariantRate);
  }
}

double product_flops(Index m, Index n, Index k) { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k); }

// x (N, C) · Wᵀ (F, C), as the first half of a feed-forward layer.
void gemm(benchmark::State& state) {
  const Index n = state.range(0), c = state.range(1), f = 4 * c;
  const X x = random_matrix(n, c, 1), w = random_matrix(f, c, 2);
  X y(device().ctx, {n, f});
  measure(state, product_flops(n, f, c), 0, [&] { Cuda::gemm(device().ctx, Gemm<float>{.a = x.view(), .b = w.view(), .c = y.view(), .transpose_b = true}); });
}
void gemm_bfloat16(benchmark::State& state) {
  const Index n = state.range(0), c = state.range(1), f = 4 * c;
  Cuda::Context& ctx = device().ctx;
  const X x = random_matrix(n, c, 1), w = random_matrix(f, c, 2);
  X y(ctx, {n, f});
  Tensor<Bfloat16, Cuda> x16(ctx, {n, c}), w16(ctx, {f, c});
  ops::round_to_bfloat16<Cuda, float>(ctx, w.view(), w16.view());
  measure(state, product_flops(n, f, c), 0, [&] {
    ops::round_to_bfloat16<Cuda, float>(ctx, x.view(), x16.view());
    Cuda::gemm(ctx, Gemm<float, Bfloat16>{.a = x16.view(), .b = w16.view(), .c = y.view(), .transpose_b = true});
  });
}

void layer_norm(benchmark::State& state) {
  const Index n = state.range(0), c = state.range(1);
  Cuda::Context& ctx = device().ctx;
  const X residual = random_matrix(n, c, 1), branch = random_matrix(n, c, 2), gamma = random_matrix(1, c, 3), beta = random_matrix(1, c, 4);
  X y(ctx, {n, c}), normalized(ctx, {n, c}), inverse(ctx, {n, 1});
  measure(state, 0, 16.0 * static_cast<double>(n * c), [&] {
    ops::layer_norm_forward<Cuda, float>(ctx, residual.view(), branch.view(), {}, gamma.view(), beta.view(), 1e-12, y.view(), normalized.view(),
                                         inverse.view());
  });
}
void layer_norm_backward(benchmark::State& state) {
  const Index n = state.range(0), c = state.range(1);
  Cuda::Context& ctx = device().ctx;
  const X normalized = random_matrix(n, c, 1), dy = random_matrix(n, c, 2), gamma = random_matrix(1, c, 3), inverse = random_matrix(n, 1, 4);
  X dr(ctx, {n, c}), d_branch(ctx, {n, c});
  measure(state, 0, 16.0 * static_cast<double>(n * c),
          [&] { ops::layer_norm_backward<Cuda, float>(ctx, dy.view(), normalized.view(), inverse.view(), gamma.view(), {}, dr.view(), d_branch.view()); });
}
void gelu(benchmark::State& state) {
  const Index n = state.range(0), f = 4 * state.range(1);
  const X u = random_matrix(n, f, 1);
  X y(device().ctx, {n, f});
  measure(state, 0, 8.0 * static_cast<double>(n * f), [&] { ops::activation_forward<Cuda, float>(device().ctx, ops::Activation::gelu, u.view(), y.view()); });
}
void bias_gradient(benchmark::State& state) {
  const Index n = state.range(0), f = 4 * state.range(1);
  const X dy = random_matrix(n, f, 1);
  X sum(device().ctx, {f});
  measure(state, 0, 4.0 * static_cast<double>(n * f), [&] { ops::column_sum<Cuda, float>(device().ctx, dy.view(), sum.view()); });
}

// Sequences of `length`, about 4,096 rows of them, 12 heads of `width`.
void attention(benchmark::State& state, bool backward) {
  const Index length = state.range(0), width = state.range(1), heads = 12, count = std::max<Index>(1, 4096 / length), n = count * length;
  Cuda::Context& ctx = device().ctx;
  DeviceBatch<X> batch(ctx);
  PackedBatch host;
  for (Index b = 0; b < count; ++b) host.add(std::vector<std::int32_t>(static_cast<std::size_t>(length), 1));
  batch.upload(host, false);
  AttentionPlan plan;
  plan.queries = plan.keys = batch.sequences();
  plan.heads = plan.kv_heads = heads;
  plan.head_width = width;
  plan.scale = 0.125;
  const X qkv = random_matrix(n, 3 * heads * width, 1), d_o = random_matrix(n, heads * width, 2);
  X o(ctx, {n, heads * width}), lse(ctx, {n, heads}), d_qkv(ctx, {n, 3 * heads * width});
  Workspace<Cuda> scratch(ctx);
  const auto part = [&](const auto& view, Index i) { return view.column_range(i * heads * width, heads * width); };
  const auto forward = [&] {
    ops::attention_forward<Cuda, float>(
        ctx, {.plan = plan, .q = part(qkv.view(), 0), .k = part(qkv.view(), 1), .v = part(qkv.view(), 2), .o = o.view(), .lse = lse.view()}, scratch);
  };
  const double product = product_flops(n, length, heads * width);
  if (!backward) return measure(state, 2 * product, 0, forward);
  forward();
  measure(state, 5 * product, 0, [&] {  // five products; what is computed again is not counted
    ops::attention_backward<Cuda, float>(ctx,
                                         {.plan = plan,
                                          .q = part(qkv.view(), 0),
                                          .k = part(qkv.view(), 1),
                                          .v = part(qkv.view(), 2),
                                          .lse = lse.view(),
                                          .d_o = d_o.view(),
                                          .dq = part(d_qkv.view(), 0),
                                          .dk = part(d_qkv.view(), 1),
                                          .dv = part(d_qkv.view(), 2)},
                                         scratch);
  });
}
void attention_forward(benchmark::State& state) { attention(state, false); }
void attention_backward(benchmark::State& state) { attention(state, true); }

// A LoRA step (rank 8, query and value) from the batch on the host to the loss on the host; range: layers, width, sequences, length, graph, bfloat16.
void lora_step(benchmark::State& state) {
  Cuda::Context& ctx = device().ctx;
  const Index width = state.range(1);
  Bert<X> model(ctx, bench::bert_shape(width, state.range(0), width == 384 ? 12 : width / 64), Head::classifier(3));
  model.initialise(ctx, 1);
  LoraPlan plan;
  plan.lora = {8, 16, 0, false};
  attach(ctx, model, plan);
  if (state.range(5) != 0) model.cast_base_to_bf16(ctx);
  TrainerConfig trainer_config;
  trainer_config.graph = state.range(4) != 0;
  Trainer<Bert<X>> trainer(ctx, model, trainer_config);
  PackedBatch batch;
  for (Index b = 0; b < state.range(2); ++b) {
    batch.add(std::vector<std::int32_t>(static_cast<std::size_t>(state.range(3)), static_cast<std::int32_t>(1000 + b)));
    batch.labels.push_back(static_cast<std::int32_t>(b % 3));
  }
  trainer.plan(batch);
  for (int i = 0; i < 3; ++i) trainer.step(batch);
  ctx.reset_counters();
  trainer.step(batch);
  const double flops = static_cast<double>(ctx.gemm_flops());
  for (auto unused : state) {
    static_cast<void>(unused);
    state.SetIterationTime(trainer.step(batch).seconds);
  }
  using benchmark::Counter;
  state.counters["tokens/s"] = Counter(static_cast<double>(batch.rows()), Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s in products"] = Counter(flops * 1e-9, Counter::kIsIterationInvariantRate);
  state.counters["device MB"] = static_cast<double>(ctx.live_bytes()) * 1e-6;
}

void shapes(benchmark::internal::Benchmark* benchmark) { benchmark->Args({640, 384})->Args({1024, 768})->Args({8192, 768})->UseManualTime(); }
void attention_shapes(benchmark::internal::Benchmark* benchmark) {
  for (const Index length : {20, 128, 512})
    for (const Index width : {32, 64, 128}) benchmark->Args({length, width});
  benchmark->UseManualTime();
}
void step_shapes(benchmark::internal::Benchmark* benchmark) {
  for (const int graph : {0, 1})
    for (const int rounded : {0, 1}) {
      benchmark->Args({6, 384, 32, 20, graph, rounded});   // MiniLM on tweets
      benchmark->Args({12, 768, 8, 128, graph, rounded});  // BERT-base
      benchmark->Args({12, 768, 64, 128, graph, rounded});
    }
  benchmark->UseManualTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK(gemm)->Apply(shapes);
BENCHMARK(gemm_bfloat16)->Apply(shapes);
BENCHMARK(layer_norm)->Apply(shapes);
BENCHMARK(layer_norm_backward)->Apply(shapes);
BENCHMARK(gelu)->Apply(shapes);
BENCHMARK(bias_gradient)->Apply(shapes);
BENCHMARK(attention_forward)->Apply(attention_shapes);
BENCHMARK(attention_backward)->Apply(attention_shapes);
BENCHMARK(lora_step)->Apply(step_shapes);

}  // namespace

BENCHMARK_MAIN();
