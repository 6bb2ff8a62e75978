// What is particular to the CUDA backend: loops, copies, products as cuBLAS sees them, what a step queues, graphs.
#include "deltatune/backend/cuda.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/attach/peft_format.hpp"
#include "deltatune/train/fit.hpp"
#include "support/gradient_checks.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bert.hpp"

// On a real device nothing counts what is asked of the runtime.
#ifdef DELTATUNE_TEST_EMULATED
#define ON_EMULATED_DEVICE(...) __VA_ARGS__
#else
#define ON_EMULATED_DEVICE(...)
#endif

namespace {

using namespace deltatune;
using X = Tensor<float, Cuda>;
using Model = Bert<X>;

template <class E>
Tensor<E, Cuda> on_device(Cuda::Context& ctx, const std::vector<E>& host, Index rows) {
  Tensor<E, Cuda> tensor(ctx, {rows, static_cast<Index>(host.size()) / std::max<Index>(1, rows)});
  Cuda::copy_in(ctx, host.data(), tensor.view().data, tensor.bytes());
  return tensor;
}

struct Count {
  int* hits;
  DELTATUNE_HD void operator()(Index i) const { hits[i] += 1; }
};

struct RowNumbers {
  View<const float> x;
  View<float> result;  // (rows, 2): sum, max
  View<int> hits;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const float* row = x.row(i);
    int* hit = hits.row(i);
    team.each(x.cols, [=](Index j) { hit[j] += 1; });
    const float sum = team.sum(x.cols, [=](Index j) { return row[j]; });
    const float largest = team.max(x.cols, [=](Index j) { return row[j]; });
    const View<float> to = result;
    team.each(1, [=](Index) {
      to(i, 0) = sum;
      to(i, 1) = largest;
    });
  }
};

struct ElementOf {
  View<const float> x;
  DELTATUNE_HD float operator()(Index i, Index j) const { return x(i, j); }
};

std::vector<float> numbers(Index count, std::uint64_t seed = 1) {
  std::vector<float> values;
  for (Index i = 0; i < count; ++i) values.push_back(static_cast<float>(normal(derive(seed), static_cast<std::uint64_t>(i))));
  return values;
}

Dataset toy_data(Index count, std::uint64_t seed, std::uint32_t longest = 11) {
  Dataset data;
  const RandomKey key = derive(seed);
  for (Index i = 0; i < count; ++i) {
    Example example;
    const std::uint32_t length = 3 + random_bits(key, static_cast<std::uint64_t>(i)) % (longest - 2);
    for (std::uint32_t t = 0; t < length; ++t)
      example.ids.push_back(static_cast<std::int32_t>(1 + random_bits(key, static_cast<std::uint64_t>(1000 + i * 20 + t)) % 29));
    example.label = example.ids[1] % 3;
    data.add(std::move(example));
  }
  return data;
}

LoraPlan plan_with(double dropout) {
  LoraPlan plan;
  plan.lora = {2, 4, dropout, false};
  return plan;
}

TrainerConfig config_with(bool dropout, bool graph) {
  TrainerConfig config;
  config.optimizer.learning_rate = 1e-2;
  config.dropout = dropout;
  config.graph = graph;
  return config;
}

}  // namespace

TEST_CASE("cuda: every element and every row once, sums in blocks and warps", "[cuda]") {
  Cuda::Context ctx;
  for (const Index n : {0, 1, 255, 256, 257, 70001}) {
    Tensor<int, Cuda> hits(ctx, {n});
    Cuda::for_each(ctx, n, Count{hits.view().data});
    CHECK(test::on_host<Tensor<int, Cuda>>(ctx, hits.view()) == std::vector<int>(static_cast<std::size_t>(n), 1));
  }
  for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {67, 131}, {9, 1024}, {5, 1025}, {3, 8192}, {2, 16385}, {1001, 1}}) {
    INFO(rows << " x " << cols);
    std::vector<float> host;
    for (Index i = 0; i < rows * cols; ++i) host.push_back(static_cast<float>((i * 7919) % 101) - 200.0F);  // all negative: the maximum is not 0
    const Tensor<float, Cuda> x = on_device(ctx, host, rows);
    Tensor<float, Cuda> result(ctx, {rows, 2}), columns(ctx, {cols});
    Tensor<int, Cuda> hits(ctx, {rows, cols});
    Cuda::fill(ctx, columns.view(), 3.0F);
    Cuda::for_each_row(ctx, rows, cols, RowNumbers{x.view(), result.view(), hits.view()});
    Cuda::sum_rows(ctx, rows, cols, ElementOf{x.view()}, columns.view().data);
    CHECK(test::on_host<Tensor<int, Cuda>>(ctx, hits.view()) == std::vector<int>(host.size(), 1));
    const std::vector<float> found = test::on_host<X>(ctx, result.view()), sums = test::on_host<X>(ctx, columns.view());
    std::vector<double> of_columns(static_cast<std::size_t>(cols), 3.0);
    for (Index i = 0; i < rows; ++i) {
      const auto begin = host.begin() + i * cols, end = begin + cols;
      REQUIRE(static_cast<double>(found[static_cast<std::size_t>(2 * i)]) == Approx(std::accumulate(begin, end, 0.0)).epsilon(1e-5));
      REQUIRE(found[static_cast<std::size_t>(2 * i + 1)] == *std::max_element(begin, end));
      for (Index j = 0; j < cols; ++j) of_columns[static_cast<std::size_t>(j)] += static_cast<double>(begin[j]);
    }
    for (std::size_t j = 0; j < sums.size(); ++j) REQUIRE(static_cast<double>(sums[j]) == Approx(of_columns[j]).epsilon(1e-5));
  }
}

TEST_CASE("cuda: copies of all sizes, in without waiting, out at synchronize()", "[cuda]") {
  Cuda::Context ctx;
  for (const Index n : {1, 1000, 524288, 524289, 3000017}) {  // past both halves of the pinned buffers
    std::vector<float> host = numbers(n);
    const std::vector<float> expected = host;
    Tensor<float, Cuda> a(ctx, {n}), b(ctx, {n});
    Cuda::copy_in(ctx, host.data(), a.view().data, a.bytes());
    std::fill(host.begin(), host.end(), -1.0F);  // the caller's memory is free at once
    Cuda::copy_in(ctx, host.data(), b.view().data, b.bytes());
    CHECK(test::on_host<X>(ctx, a.view()) == expected);
    CHECK(test::on_host<X>(ctx, b.view()) == host);
  }
#ifdef DELTATUNE_TEST_EMULATED
  cuda_emulation::reset_counters();
  Tensor<float, Cuda> small(ctx, {64});
  const std::vector<float> host(64, 2.0F);
  for (int i = 0; i < 100; ++i) Cuda::copy_in(ctx, host.data(), small.view().data, small.bytes());
  std::vector<float> back(64);
  Cuda::copy_out(ctx, small.view().data, back.data(), small.bytes());
  CHECK(cuda_emulation::counters().synchronisations == 0);
  CHECK(back == std::vector<float>(64));  // nothing yet
  Cuda::synchronize(ctx);
  CHECK(cuda_emulation::counters().synchronisations == 1);
  CHECK(back == host);
#endif
}

TEST_CASE("cuda: fill with zero and with other values, of parts of a matrix", "[cuda]") {
  Cuda::Context ctx;
  const Tensor<float, Cuda> x = on_device(ctx, std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}, 2);
  const View<float> view(const_cast<float*>(x.view().data), 2, 4);
  Cuda::fill(ctx, view.column_range(1, 2), 0.0F);
  CHECK(test::on_host<X>(ctx, view) == std::vector<float>{1, 0, 0, 4, 5, 0, 0, 8});
  Cuda::fill(ctx, view.column_range(3, 1), 9.0F);
  CHECK(test::on_host<X>(ctx, view) == std::vector<float>{1, 0, 0, 9, 5, 0, 0, 9});
  Cuda::fill(ctx, view.row_range(1, 1), -0.0F);
  for (const float value : test::on_host<X>(ctx, view.row_range(1, 1))) CHECK(std::signbit(value));
}

TEST_CASE("cuda: products, transposed, padded, added to what is there", "[cuda][gemm]") {
  Cuda::Context ctx;
  struct Size {
    Index m, n, k;
  };
  for (const Size& size : {Size{1, 1, 1}, {5, 7, 3}, {1, 33, 17}, {64, 1, 9}, {67, 45, 131}})
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true})
        for (const Index padding : {0, 3})
          for (const float beta : {0.0F, 1.0F, 0.5F}) {
            const Index a_rows = transpose_a ? size.k : size.m, a_cols = transpose_a ? size.m : size.k;
            const Index b_rows = transpose_b ? size.n : size.k, b_cols = transpose_b ? size.k : size.n;
            const std::vector<float> a = numbers(a_rows * (a_cols + padding), 1), b = numbers(b_rows * (b_cols + padding), 2);
            std::vector<float> c = numbers(size.m * (size.n + padding), 3);
            if (beta == 0.0F) std::fill(c.begin(), c.end(), std::numeric_limits<float>::quiet_NaN());
            const auto device_a = on_device(ctx, a, a_rows), device_b = on_device(ctx, b, b_rows);
            auto device_c = on_device(ctx, c, size.m);
            Cuda::gemm(ctx, Gemm<float>{.a = device_a.view().column_range(0, a_cols),
                                        .b = device_b.view().column_range(0, b_cols),
                                        .c = device_c.view().column_range(0, size.n),
                                        .transpose_a = transpose_a,
                                        .transpose_b = transpose_b,
                                        .alpha = 0.75F,
                                        .beta = beta});
            const std::vector<float> result = test::on_host<X>(ctx, device_c.view());
            const auto at = [&](const std::vector<float>& matrix, Index cols, Index i, Index j) {
              return static_cast<double>(matrix[static_cast<std::size_t>(i * (cols + padding) + j)]);
            };
            double worst = 0;
            for (Index i = 0; i < size.m; ++i)
              for (Index j = 0; j < size.n; ++j) {
                double sum = 0;
                for (Index l = 0; l < size.k; ++l)
                  sum += (transpose_a ? at(a, a_cols, l, i) : at(a, a_cols, i, l)) * (transpose_b ? at(b, b_cols, j, l) : at(b, b_cols, l, j));
                const double expected = 0.75 * sum + (beta == 0.0F ? 0.0 : static_cast<double>(beta) * at(c, size.n, i, j));
                const double error = std::fabs(at(result, size.n, i, j) - expected);
                if (!(error <= worst)) worst = error;
              }
            REQUIRE(worst < 1e-4);
            for (Index i = 0; i < size.m; ++i)  // what lies between the rows keeps its bits
              for (Index j = size.n; j < size.n + padding; ++j) {
                const double before = at(c, size.n, i, j), after = at(result, size.n, i, j);
                REQUIRE((before == after || (std::isnan(before) && std::isnan(after))));
              }
          }
}

TEST_CASE("cuda: attention of heads wider than the kernels take runs the body for all backends", "[cuda][attention]") {
  AttentionPlan plan;
  plan.head_width = 128;
  CHECK(Cuda::attention_fits(plan));
  plan.head_width = 129;
  CHECK_FALSE(Cuda::attention_fits(plan));
}

TEST_CASE("cuda: a step as one graph has the bits of the same step queued", "[cuda][graph]") {
  Cuda::Context ctx;
  const Dataset data = toy_data(24, 5);
  const auto run = [&](bool graph) {
    Model model = test::tiny_bert(ctx);
    attach(ctx, model, plan_with(0.2), 7);
    Trainer<Model> trainer(ctx, model, config_with(true, graph));
    std::vector<double> losses;
    FitCallbacks callbacks;
    callbacks.after_step = [&](const StepReport& report) { losses.push_back(report.loss); };
    fit(trainer, data, nullptr, {.steps = 5, .batch_size = 5, .accumulation = 2}, {}, callbacks);  // batches of different shapes
    std::vector<std::vector<float>> values;
    model.visit([&](Parameter<X>& p) { values.push_back(test::on_host<X>(ctx, p.value())); });
    return std::pair(losses, values);
  };
  ON_EMULATED_DEVICE(cuda_emulation::reset_counters();)
  const auto queued = run(false);
  ON_EMULATED_DEVICE(CHECK(cuda_emulation::counters().graph_launches == 0);)
  const auto recorded = run(true);
  ON_EMULATED_DEVICE(CHECK(cuda_emulation::counters().graph_launches == 10);)
  CHECK(queued.first == recorded.first);
  CHECK(queued.second == recorded.second);

  Model model = test::tiny_bert(ctx);
  attach(ctx, model, plan_with(0));
  Trainer<Model> unplanned(ctx, model, config_with(false, true));
  CHECK_THROWS_WITH(unplanned.step(data.largest_batch(5)), Catch::Contains("plan()"));
  unplanned.plan(data.largest_batch(5));
  CHECK(std::isfinite(unplanned.step(data.largest_batch(5)).loss));  // the failed recording has left nothing behind
}

#ifdef DELTATUNE_TEST_EMULATED
TEST_CASE("cuda: what a LoRA step asks of cuBLAS", "[cuda][gemm][frozen]") {
  Cuda::Context ctx;
  Model model = test::tiny_bert(ctx);  // width 12, inner width 20, two layers
  attach(ctx, model, plan_with(0));    // rank 2 at query and value
  Trainer<Model> trainer(ctx, model, config_with(true, false));
  const PackedBatch batch = toy_data(5, 1).largest_batch(5);
  trainer.plan(batch);
  trainer.step(batch);
  cuda_emulation::clear_gemm_calls();
  cuda_emulation::reset_counters();
  trainer.step(batch);
  const int n = static_cast<int>(batch.rows()), b = static_cast<int>(batch.count());
  REQUIRE(n != b);
  // cuBLAS's own order: result (m, n) by columns, which is our (n, m) by rows.
  const auto count = [](int m, int rows, int k) {
    return std::count_if(cuda_emulation::gemm_calls().begin(), cuda_emulation::gemm_calls().end(),
                         [&](const cuda_emulation::GemmCall& c) { return c.m == m && c.n == rows && c.k == k; });
  };
  CHECK(count(3 * 12 + 2 * 2, n, 12) == 2);  // [q k v | u u] = x·[W; A]ᵀ, once a layer
  CHECK(count(3 * 12, n, 12) == 0);          // and never without A
  CHECK(count(2, n, 12) == 4);               // du = s·dy·B
  CHECK(count(12, n, 2) == 4);               // y += s·u·Bᵀ
  CHECK(count(12, n, 3 * 12 + 2 * 2) == 1);  // dx = [dy | du]·[W; A], in the upper layer alone: below the lower one nothing trains
  CHECK(count(12, n, 3 * 12) == 0);
  CHECK(count(12, 2, n) == 4);  // dA
  CHECK(count(2, 12, n) == 4);  // dB
  CHECK(count(12, 3, b) == 1);  // the classifier's gradient, which trains
  // Whatever else sums over rows would be the gradient of a frozen weight.
  const auto over_rows = std::count_if(cuda_emulation::gemm_calls().begin(), cuda_emulation::gemm_calls().end(),
                                       [&](const cuda_emulation::GemmCall& c) { return c.k == n || c.k == b; });
  CHECK(over_rows == 4 + 4 + 1);
  for (const cuda_emulation::GemmCall& call : cuda_emulation::gemm_calls()) {
    CHECK(call.compute == CUBLAS_COMPUTE_32F);
    CHECK((call.type_a == CUDA_R_32F && call.type_b == CUDA_R_32F && call.type_c == CUDA_R_32F));
  }
  CHECK(cuda_emulation::counters().synchronisations == 1);  // for the loss
  CHECK(cuda_emulation::counters().allocations == 0);
  CHECK(cuda_emulation::counters().copies_to_host == 1);
}

TEST_CASE("cuda: TF32 is asked for, and only then", "[cuda][gemm]") {
  for (const bool tf32 : {false, true}) {
    Cuda::Context ctx({.tf32 = tf32});
    const auto a = on_device(ctx, numbers(6), 2);
    Tensor<float, Cuda> c(ctx, {2, 2});
    cuda_emulation::clear_gemm_calls();
    Cuda::gemm(ctx, Gemm<float>{.a = a.view(), .b = a.view(), .c = c.view(), .transpose_b = true});
    CHECK(cuda_emulation::gemm_calls().at(0).compute == (tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F));
  }
}

TEST_CASE("cuda: clipping and AdamW are three launches, however many parameters train", "[cuda][adamw]") {
  Cuda::Context ctx;
  const PackedBatch batch = toy_data(5, 1).largest_batch(5);
  const auto updates = [&](const std::vector<std::string>& trainable) {
    Model model = test::tiny_bert(ctx);
    unfreeze(model, trainable);
    Trainer<Model> trainer(ctx, model, config_with(false, false));
    trainer.step(batch);
    cuda_emulation::record_launches(true);
    trainer.step(batch);
    const std::vector<cuda_emulation::KernelLaunch> all = cuda_emulation::launches();
    cuda_emulation::record_launches(false);
    return std::count_if(all.begin(), all.end(), [](const auto& launch) {
      return launch.name().find("SquareSumChunk") != std::string::npos || launch.name().find("ClipFactor") != std::string::npos ||
             launch.name().find("AdamWChunk") != std::string::npos;
    });
  };
  CHECK(updates({"classifier.bias"}) == 3);
  CHECK(updates({"**"}) == 3);
}

TEST_CASE("cuda: nothing is left allocated", "[cuda]") {
  const std::size_t before = cuda_emulation::live_bytes();
  {
    Cuda::Context ctx;
    Model model = test::tiny_bert(ctx);
    attach(ctx, model, plan_with(0));
    Trainer<Model> trainer(ctx, model, config_with(true, false));
    trainer.step(toy_data(5, 1).largest_batch(5));
    CHECK(ctx.live_bytes() > 0);
  }
  CHECK(cuda_emulation::live_bytes() == before);
}

TEST_CASE("cuda: a missing driver, device or memory is said in words", "[cuda]") {
  CHECK_THROWS_WITH(Cuda::Context({.device = 7}), Catch::Contains("expected 0 to 0") && Catch::Contains("got 7"));
  Cuda::Context ctx;
  cuda_emulation::set_device_memory(cuda_emulation::live_bytes() + (std::size_t{1} << 20));
  CHECK_THROWS_WITH(X(ctx, {1 << 20}), Catch::Contains("4194304 bytes") && Catch::Contains("smaller batch"));
  cuda_emulation::set_device_memory(std::size_t{80} << 30);
}
#endif

TEST_CASE("cuda: an adapter trained there is read elsewhere", "[cuda][files]") {
  Cuda::Context ctx;
  Reference::Context reference_ctx;
  const PackedBatch batch = toy_data(5, 1).largest_batch(5);
  const test::TemporaryFolder folder;
  Model model = test::tiny_bert(ctx);
  const LoraPlan plan = plan_with(0);
  auto lora = attach(ctx, model, plan);
  Trainer<Model> trainer(ctx, model, config_with(false, false));
  for (int i = 0; i < 3; ++i) trainer.step(batch);
  save_adapter(ctx, folder.path(), model, plan, lora, "base");
  const std::vector<float> expected = trainer.logits(batch);

  using Y = Tensor<double, Reference>;
  Bert<Y> other(reference_ctx, model.architecture(), Head::classifier(3));
  std::vector<std::vector<float>> values;
  model.visit([&](Parameter<X>& p) {
    if (p.role() != Role::delta) values.push_back(test::on_host<X>(ctx, p.value()));
  });
  std::size_t next = 0;
  other.visit([&](Parameter<Y>& p) { upload_values(reference_ctx, std::span<const float>(values.at(next++)), p); });
  load_peft(reference_ctx, other, folder.path());
  Trainer<Bert<Y>> reader(reference_ctx, other, {});
  const std::vector<double> got = reader.logits(batch);
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(static_cast<double>(expected[i])).margin(1e-5));
}
