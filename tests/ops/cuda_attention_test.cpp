// The CUDA backend's own attention kernels: what tests/ops/attention_test.cpp, which runs on them too, does not reach. For tests/cuda.
#ifdef DELTATUNE_TEST_CUDA

#include <string>
#include <vector>

#include "deltatune/backend/cuda.hpp"
#include "deltatune/ops/attention.hpp"
#include "support/attention_body.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

// Otherwise these tests would be about the generic body.
static_assert(requires(Cuda::Context & ctx, const AttentionForward<float>& op) { Cuda::attention_forward(ctx, op); });
static_assert(requires(Cuda::Context & ctx, const AttentionBackward<float>& op) { Cuda::attention_backward(ctx, op); });

using Case = test::AttentionCase;

auto attend(Case c) {
  c.compares_lse = true;
  return test::attention_body(c);
}

void check_case(const Case& c) {
  INFO("head width " << c.width << (c.causal ? ", causal" : "") << ", dropout " << c.dropout << ", margin " << c.margin);
  test::check_device(attend(c));
}

// All numbers that forward and backward write.
std::vector<std::vector<double>> results(const Case& c) {
  Cuda::Context ctx;
  check::Trial<Tensor<float, Cuda>> trial(ctx, {.seed = 1, .backward = true});
  attend(c)(trial);
  std::vector<std::vector<double>> all;
  for (const auto& variable : trial.varied()) all.push_back(trial.gradient(variable));
  for (const auto& output : trial.outputs()) {
    const std::vector<float> values = trial.values(output);
    all.emplace_back(values.begin(), values.end());
  }
  return all;
}

}  // namespace

TEST_CASE("CUDA attention: tiles for short and for long sequences, widths around the compiled ones", "[ops][attention][cuda]") {
  const Index width = GENERATE(1, 31, 32, 33, 64, 65, 127, 128);
  const bool causal = GENERATE(false, true);
  const double dropout = causal ? 0.0 : 0.4;
  const std::vector<Index> shorts{1, 2, 15, 16, 17, 20, 33, 65, 7, 1};
  const std::vector<Index> longs{31, 33, 63, 64, 65, 129};
  check_case({shorts, shorts, 2, 2, width, causal, dropout});
  check_case({longs, longs, 1, 1, width, causal, 0.4 - dropout});
  check_case({{64, 65, 3, 1}, {131, 66, 64, 65}, 4, 2, width, causal, 0.1});  // more keys than queries, shared by two heads
  check_case({{1, 1, 1}, {70, 3, 40}, 2, 1, width, causal, dropout});         // one query a sequence
}

TEST_CASE("CUDA attention: matrices that can and cannot be read 16 bytes at a time", "[ops][attention][cuda]") {
  const Index margin = GENERATE(1, 2, 4);
  check_case({{20, 5}, {20, 5}, 2, 2, 32, false, 0.4, margin});
  check_case({{70, 9, 33}, {70, 9, 33}, 3, 3, 8, false, 0.4, margin});
  check_case({{70, 9, 33}, {70, 9, 33}, 1, 1, 6, true, 0.0, margin});  // 6: rows are, heads are not
}

// A GPU refuses what a CPU may let pass.
TEST_CASE("CUDA attention: 16 bytes at a time only where every address is a multiple of 16", "[ops][attention][cuda]") {
  alignas(16) const float x[32] = {};
  AttentionPlan plan;
  plan.head_width = 8;
  CHECK(detail::attention_by_four(plan, {{x, 2, 8}, {x + 4, 2, 8, 12}}));
  CHECK_FALSE(detail::attention_by_four(plan, {{x, 2, 8}, {x + 2, 2, 8, 12}}));  // the first row
  CHECK_FALSE(detail::attention_by_four(plan, {{x, 2, 8, 10}, {x, 2, 8}}));      // the second
  plan.head_width = 6;
  CHECK_FALSE(detail::attention_by_four(plan, {{x, 2, 12}}));  // the second head
}

TEST_CASE("CUDA attention: the same bits in every run", "[ops][attention][cuda]") {
  const Case c = GENERATE(Case{{70, 9, 129}, {70, 9, 129}, 2, 1, 64, false, 0.1}, Case{{20, 35, 7}, {20, 35, 7}, 2, 2, 32, true, 0.1});
  std::vector<std::vector<std::vector<double>>> runs;
  for (const std::string order : {"forward", "reverse", "random:1", "random:2"}) {
#ifndef __CUDACC__
    const cuda_emulation::Schedule before = cuda_emulation::schedule();
    cuda_emulation::set_order(order);
#endif
    runs.push_back(results(c));
#ifndef __CUDACC__
    cuda_emulation::schedule() = before;
#endif
    INFO(order);
    CHECK(runs.back() == runs.front());
  }
}

TEST_CASE("CUDA attention: a query that sees one key takes its value, and large scores do not overflow", "[ops][attention][cuda]") {
  Cuda::Context ctx;
  Workspace<Cuda> memory(ctx);
  const auto upload = [&]<class E>(const std::vector<E>& host) {
    E* data = memory.take<E>(1, static_cast<Index>(host.size())).data;
    Cuda::copy_in(ctx, host.data(), data, static_cast<Index>(host.size() * sizeof(E)));
    return data;
  };
  const auto download = [&](const View<float>& view) {
    std::vector<float> host(static_cast<std::size_t>(view.size()));
    Cuda::copy_out(ctx, view.data, host.data(), view.size() * static_cast<Index>(sizeof(float)));
    Cuda::synchronize(ctx);
    return host;
  };
  AttentionPlan plan;
  plan.queries = plan.keys = {upload(std::vector<Index>{0, 2}), upload(std::vector<std::int32_t>{0, 0}), 1, 2, 2};
  plan.heads = plan.kv_heads = plan.head_width = 1;
  plan.causal = true;
  const float* q = upload(std::vector<float>{1, 100});
  const float* v = upload(std::vector<float>{3, 5});
  const View<float> o = memory.take<float>(2, 1);
  const View<float> lse = memory.take<float>(2, 1);
  Workspace<Cuda> scratch(ctx);
  ops::attention_forward<Cuda, float>(ctx, {.plan = plan, .q = {q, 2, 1}, .k = {q, 2, 1}, .v = {v, 2, 1}, .o = o, .lse = lse}, scratch);
  CHECK(download(o) == std::vector<float>{3, 5});  // a score of 10000 against one of 100
  CHECK(download(lse)[0] == Approx(1.0));
  CHECK(download(lse)[1] == Approx(10000.0));
}

TEST_CASE("CUDA attention: what is left to the generic body", "[ops][attention][cuda]") {
  AttentionPlan plan;
  plan.heads = plan.kv_heads = 12;
  plan.head_width = 128;
  plan.queries.count = plan.keys.count = 1000;
  plan.queries.max_length = plan.keys.max_length = 1000;
  CHECK(detail::cuda_attention_fits(plan));
  plan.head_width = 129;
  CHECK_FALSE(detail::cuda_attention_fits(plan));
  plan.head_width = 128;
  plan.keys.max_length = Index{1} << 31;  // more blocks than a grid has
  CHECK_FALSE(detail::cuda_attention_fits(plan));
  plan.keys.max_length = 1000;
  CHECK(detail::cuda_attention_fits(plan));
  const auto declined = [&plan](auto change) {
    AttentionPlan changed = plan;
    change(changed);
    return !detail::cuda_attention_fits(changed);
  };
  CHECK(declined([](AttentionPlan& p) { p.window = 64; }));
  CHECK(declined([](AttentionPlan& p) { p.soft_cap = 50; }));
  CHECK(declined([](AttentionPlan& p) { p.relative.buckets = 32; }));
  CHECK(declined([](AttentionPlan& p) { p.first_place = 0; }));
}

#endif
