#include "deltatune/ops/attention.hpp"

#include <cmath>
#include <vector>

#include "deltatune/ops/elementwise.hpp"
#include "support/attention_body.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

using Case = test::AttentionCase;

// q, k, v and their gradients are columns of one matrix; o has a wider row than it needs.
auto strided(const std::vector<Index>& lengths, Index heads, Index width, double dropout) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    trial.pass().mode = Mode::train;
    AttentionPlan plan;
    plan.queries = plan.keys = trial.sequences(lengths);
    plan.heads = plan.kv_heads = heads;
    plan.head_width = width;
    plan.scale = 0.4;
    plan.dropout = trial.pass().dropout(dropout);
    const Index rows = plan.queries.rows;
    const Index cols = heads * width;
    const auto qkv = trial.input("qkv", rows, 3 * cols);
    const auto o = trial.output("o", rows, cols);
    const View<T> lse = trial.pass().keep(rows, heads);
    const View<T> wide = trial.pass().keep(rows, cols + 3).column_range(2, cols);
    ops::attention_forward<B, T>(trial.ctx(),
                                 {.plan = plan,
                                  .q = qkv.value.column_range(0, cols),
                                  .k = qkv.value.column_range(cols, cols),
                                  .v = qkv.value.column_range(2 * cols, cols),
                                  .o = wide,
                                  .lse = lse},
                                 trial.pass().scratch);
    ops::copy<B, T>(trial.ctx(), wide, o.value);
    if (!trial.backward_wanted()) return;
    ops::copy<B, T>(trial.ctx(), o.gradient, wide);
    ops::attention_backward<B, T>(trial.ctx(),
                                  {.plan = plan,
                                   .q = qkv.value.column_range(0, cols),
                                   .k = qkv.value.column_range(cols, cols),
                                   .v = qkv.value.column_range(2 * cols, cols),
                                   .lse = lse,
                                   .d_o = wide,
                                   .dq = qkv.gradient.column_range(0, cols),
                                   .dk = qkv.gradient.column_range(cols, cols),
                                   .dv = qkv.gradient.column_range(2 * cols, cols)},
                                  trial.pass().scratch);
  };
}

}  // namespace

TEST_CASE("attention: adjoint, and float on the CPU", "[ops][attention]") {
  const double dropout = GENERATE(0.0, 0.4);
  const Case c = GENERATE(Case{{3, 1, 4}, {3, 1, 4}}, Case{{3, 1, 4}, {3, 1, 4}, 2, 2, 5, true},  // plain, causal
                          Case{{1, 1}, {1, 1}},                                                   // nothing to choose between
                          Case{{2, 1, 3}, {4, 2, 1}},                                             // cross-attention
                          Case{{1, 1, 1}, {5, 1, 3}},                                             // one query a sequence
                          Case{{1, 2, 2}, {5, 2, 3}, 2, 2, 5, true},                              // the last rows, as with a cache
                          Case{{3, 2}, {3, 2}, 6, 2, 3}, Case{{3, 2}, {4, 2}, 4, 1, 3, true});    // grouped key/value heads
  Case with_dropout = c;
  with_dropout.dropout = dropout;
  test::check_adjoint(test::attention_body(with_dropout));
  test::check_device(test::attention_body(with_dropout));
}

TEST_CASE("attention: views into one matrix", "[ops][attention]") {
  const double dropout = GENERATE(0.0, 0.4);
  test::check_adjoint(strided({3, 1, 4}, 2, 5, dropout));
  test::check_device(strided({3, 1, 4}, 2, 5, dropout));
  test::check_device(strided({70, 9, 33}, 3, 8, dropout));
}

TEST_CASE("attention: head widths and lengths around the block sizes", "[ops][attention]") {
  const Index width = GENERATE(5, 8, 32, 64);
  const bool causal = GENERATE(false, true);
  test::check_device(
      test::attention_body({{1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200}, {1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200}, 2, 2, width, causal, 0.1}));
  test::check_device(test::attention_body({{64, 65, 3, 1}, {200, 66, 64, 65}, 4, 2, width, causal, 0.1}));
}

TEST_CASE("attention: every length from 1 to 200", "[ops][attention]") {
  for (Index length = 1; length <= 200; length += 1 + length % 3) {
    test::DeviceContext ctx(2);
    const check::Report report =
        check::against_reference<test::DeviceTensor>(ctx, test::attention_body({{length, 201 - length}, {length, 201 - length}, 1, 1, 5}));
    INFO("length " << length << "\n" << report.text());
    REQUIRE(report.worst() <= test::kFloatTolerance);
  }
}

#ifndef DELTATUNE_TEST_CUDA  // host memory

TEST_CASE("attention: a query that sees one key takes its value, and large scores do not overflow", "[ops][attention]") {
  const std::vector<Index> offsets{0, 2};
  const std::vector<std::int32_t> row_sequence{0, 0};
  const std::vector<float> q{1, 100}, k{1, 100}, v{3, 5};
  std::vector<float> o(2), lse(2);
  AttentionPlan plan;
  plan.queries = plan.keys = {offsets.data(), row_sequence.data(), 1, 2, 2};
  plan.heads = plan.kv_heads = plan.head_width = 1;
  plan.causal = true;
  DefaultCpu::Context ctx(1);
  Workspace<DefaultCpu> scratch(ctx);
  ops::attention_forward<DefaultCpu, float>(
      ctx, {.plan = plan, .q = {q.data(), 2, 1}, .k = {k.data(), 2, 1}, .v = {v.data(), 2, 1}, .o = {o.data(), 2, 1}, .lse = {lse.data(), 2, 1}}, scratch);
  CHECK(o[0] == 3.0F);
  CHECK(lse[0] == Approx(1.0));
  CHECK(o[1] == 5.0F);  // a score of 10000 against one of 100
  CHECK(lse[1] == Approx(10000.0));
}

#endif
