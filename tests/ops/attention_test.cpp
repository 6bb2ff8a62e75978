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

namespace {

struct Options {
  const char* name;
  Index window = 0;
  double soft_cap = 0;
  RelativeBuckets relative = {};
  bool causal = false;
};

Case with(const Options& options, Case c) {
  c.window = options.window;
  c.soft_cap = options.soft_cap;
  c.relative = options.relative;
  c.causal = options.causal;
  return c;
}

}  // namespace

TEST_CASE("attention: window, soft cap and relative bias", "[ops][attention]") {
  const Options options = GENERATE(Options{"window", 2}, Options{"causal window", 2, 0, {}, true}, Options{"soft cap", 0, 1.5},
                                   Options{"causal soft cap", 0, 1.5, {}, true}, Options{"bias", 0, 0, {8, 6, true}},
                                   Options{"causal bias", 0, 0, {6, 8, false}, true}, Options{"bias of one direction, not causal", 0, 0, {6, 5, false}},
                                   Options{"all", 3, 2.0, {8, 6, true}}, Options{"all, causal", 3, 2.0, {6, 8, false}, true});
  INFO(options.name);
  const double dropout = GENERATE(0.0, 0.3);
  for (Case c : {Case{{3, 1, 7}, {3, 1, 7}}, Case{{1, 2, 2}, {5, 2, 6}},        // one's own keys; the last rows
                 Case{{4, 2}, {4, 2}, 4, 2, 3}, Case{{2, 5}, {9, 5}, 4, 1}}) {  // grouped key/value heads
    c = with(options, c);
    c.dropout = dropout;
    test::check_adjoint(test::attention_body(c));
    test::check_device(test::attention_body(c));
  }
}

TEST_CASE("attention: queries that do not stand at the end of their keys", "[ops][attention]") {
  const Options options = GENERATE(Options{"causal", 0, 0, {}, true}, Options{"window", 2}, Options{"bias", 0, 0, {8, 6, true}});
  INFO(options.name);
  const Index first_place = GENERATE(0, 1);
  for (Case c : {Case{{1, 1, 1}, {5, 2, 20}}, Case{{3, 2}, {5, 4}, 4, 2, 3}}) {  // what a classifier reads of each sequence; a part of it
    c = with(options, c);
    c.first_place = first_place;
    test::check_adjoint(test::attention_body(c));
    test::check_device(test::attention_body(c));
  }
}

TEST_CASE("attention: keys in front of the tokens, with a bias by other distances or none", "[ops][attention]") {
  const Options options = GENERATE(Options{"bias", 0, 0, {8, 6, true}}, Options{"causal bias", 0, 0, {6, 8, false}, true},
                                   Options{"soft cap and bias", 0, 1.5, {8, 6, true}}, Options{"causal window and bias", 9, 0, {6, 8, false}, true});
  INFO(options.name);
  for (Case c : {Case{{3, 1, 7}, {6, 4, 10}}, Case{{1, 2}, {5, 6}}, Case{{4, 2}, {7, 5}, 4, 2, 3}}) {
    c = with(options, c);
    c.dropout = 0.2;
    c.unbiased_keys = 3;
    test::check_adjoint(test::attention_body(c));
    test::check_device(test::attention_body(c));
    c.unbiased_keys = 0;
    c.distance_shift = 3;
    test::check_adjoint(test::attention_body(c));
    test::check_device(test::attention_body(c));
  }
  Case c = with(options, {{1, 31, 65, 130}, {21, 51, 85, 150}, 2, 2, options.soft_cap > 0 ? 64 : 5});
  c.unbiased_keys = 20;
  test::check_device(test::attention_body(c));
  c.unbiased_keys = 0;
  c.distance_shift = options.window > 0 ? 4 : 20;  // a window whose keys are all behind the query has a single bucket
  test::check_device(test::attention_body(c));
}

TEST_CASE("attention: a bias of another shape is refused", "[ops][attention]") {
  Reference::Context ctx;
  Workspace<Reference> scratch(ctx);
  AttentionPlan plan;
  plan.heads = plan.kv_heads = 3;
  plan.relative.buckets = 8;
  const double bias = 0;
  AttentionForward<double> forward{.plan = plan, .q = {}, .k = {}, .v = {}, .o = {}, .lse = {}, .scratch = {}, .bias = {&bias, 8, 2}};
  CHECK_THROWS_AS((ops::attention_forward<Reference, double>(ctx, forward, scratch)), Error);
  forward.bias = {&bias, 8, 3};
  CHECK_NOTHROW(ops::attention_forward<Reference, double>(ctx, forward, scratch));
}

TEST_CASE("attention: which keys a query sees", "[ops][attention]") {
  const std::vector<Index> offsets{0, 3}, key_offsets{0, 10};
  AttentionPlan plan;
  plan.queries = {offsets.data(), nullptr, 1, 3, 3};
  plan.keys = {key_offsets.data(), nullptr, 1, 10, 10};
  const auto seen = [&](Index t) { return std::vector<Index>{plan.visible_keys(0, t).begin, plan.visible_keys(0, t).end}; };
  CHECK(seen(0) == std::vector<Index>{0, 10});
  plan.causal = true;
  CHECK(seen(0) == std::vector<Index>{0, 8});
  CHECK(seen(2) == std::vector<Index>{0, 10});
  plan.window = 4;  // five keys with the query's own
  CHECK(seen(0) == std::vector<Index>{3, 8});
  CHECK(seen(2) == std::vector<Index>{5, 10});
  plan.causal = false;
  CHECK(seen(0) == std::vector<Index>{3, 10});
  plan.window = 1;
  CHECK(seen(0) == std::vector<Index>{6, 9});
  plan.first_place = 0;
  CHECK(seen(0) == std::vector<Index>{0, 2});
  CHECK(seen(2) == std::vector<Index>{1, 4});
  plan.window = 0;
  plan.causal = true;
  CHECK(seen(2) == std::vector<Index>{0, 3});
  plan.first_place = -1;  // queries are the last three of ten keys
  CHECK(plan.distance(0, 2, 9) == 0);
  CHECK(plan.distance(0, 0, 4) == -3);
  plan.distance_shift = 5;
  CHECK(plan.distance(0, 0, 4) == 2);
  CHECK(seen(0) == std::vector<Index>{0, 8});  // what is seen stays
}

TEST_CASE("attention: keys without a bias are those with one of 0", "[ops][attention]") {
  constexpr Index kKeys = 5, kPrefix = 2;
  const std::vector<Index> offsets{0, kKeys - kPrefix}, key_offsets{0, kKeys};
  const std::vector<std::int32_t> row_sequence(kKeys, 0);
  const std::vector<double> q{0.3, -1, 0.7}, k{1, -0.4, 0.5, 2, -1}, v{1, 2, 3, 4, 5}, bias{0.5, -0.25, 0.75, 1.5};
  AttentionPlan plan;
  plan.queries = {offsets.data(), row_sequence.data(), 1, kKeys - kPrefix, kKeys - kPrefix};
  plan.keys = {key_offsets.data(), row_sequence.data(), 1, kKeys, kKeys};
  plan.heads = plan.kv_heads = plan.head_width = 1;
  plan.relative = {.buckets = 4, .max_distance = 2};  // distances 0 and before: 0, 1; after: 2, 3
  const auto outputs = [&](Index unbiased, Index shift) {
    std::vector<double> o(3), lse(3);
    Reference::Context ctx;
    Workspace<Reference> scratch(ctx);
    AttentionPlan with = plan;
    with.unbiased_keys = unbiased;
    with.distance_shift = shift;
    ops::attention_forward<Reference, double>(ctx,
                                              {.plan = with,
                                               .q = {q.data(), 3, 1},
                                               .k = {k.data(), 5, 1},
                                               .v = {v.data(), 5, 1},
                                               .o = {o.data(), 3, 1},
                                               .lse = {lse.data(), 3, 1},
                                               .bias = {bias.data(), 4, 1}},
                                              scratch);
    return o;
  };
  const auto expected = [&](Index unbiased, Index shift) {
    std::vector<double> o;
    for (Index i = 0; i < 3; ++i) {
      double sum = 0, weighted = 0;
      for (Index j = 0; j < kKeys; ++j) {
        const Index distance = j - (kPrefix + i) + shift;
        const double b = j < unbiased ? 0.0 : bias[static_cast<std::size_t>(plan.relative.bucket(distance))];
        const double weight = std::exp(q[static_cast<std::size_t>(i)] * k[static_cast<std::size_t>(j)] + b);
        sum += weight;
        weighted += weight * v[static_cast<std::size_t>(j)];
      }
      o.push_back(weighted / sum);
    }
    return o;
  };
  for (const Index unbiased : {Index{0}, kPrefix})
    for (const Index shift : {Index{0}, kPrefix}) {
      const std::vector<double> got = outputs(unbiased, shift), wanted = expected(unbiased, shift);
      for (std::size_t i = 0; i < 3; ++i) CHECK(got[i] == Approx(wanted[i]).epsilon(1e-12));
    }
}

#ifndef DELTATUNE_TEST_CUDA  // blocks of the CPU, and host memory

TEST_CASE("attention: windows and biases around the block sizes", "[ops][attention]") {
  const Options options =
      GENERATE(Options{"window 1", 1}, Options{"window 16", 16}, Options{"causal window 40", 40, 0, {}, true}, Options{"window 500", 500},
               Options{"bias", 0, 0, {32, 128, true}}, Options{"causal bias", 0, 0, {32, 128, false}, true}, Options{"all", 33, 3.0, {32, 50, true}});
  INFO(options.name);
  const Index width = options.soft_cap > 0 ? 64 : 5;
  const std::vector<Index> lengths{1, 31, 65, 130};
  Case c = with(options, {lengths, lengths, 2, 2, width});
  c.dropout = 0.1;
  test::check_device(test::attention_body(c));
  c = with(options, {{34, 3, 1}, {200, 64, 65}, 4, 2, width});
  c.bias_is_frozen = true;
  test::check_device(test::attention_body(c));
}

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

TEST_CASE("attention: soft cap, window and bias by their formula", "[ops][attention]") {
  constexpr Index kRows = 9;
  const std::vector<Index> offsets{0, kRows};
  const std::vector<std::int32_t> row_sequence(kRows, 0);
  std::vector<double> q, k, v, bias;
  for (Index i = 0; i < kRows; ++i) {
    q.push_back(std::sin(1.0 + static_cast<double>(i)));
    k.push_back(2.0 * std::cos(0.7 * static_cast<double>(i)));
    v.push_back(std::sin(3.0 * static_cast<double>(i)));
  }
  for (Index i = 0; i < 8; ++i) bias.push_back(0.3 * static_cast<double>(i * i % 5));
  std::vector<double> o(kRows), lse(kRows);
  AttentionPlan plan;
  plan.queries = plan.keys = {offsets.data(), row_sequence.data(), 1, kRows, kRows};
  plan.heads = plan.kv_heads = plan.head_width = 1;
  plan.scale = 1.5;
  plan.window = 3;
  plan.soft_cap = 2;
  plan.relative = {.buckets = 8, .max_distance = 3};  // n = 0, 1, 2 and more: 0, 1, 2 or 3
  Reference::Context ctx;
  Workspace<Reference> scratch(ctx);
  ops::attention_forward<Reference, double>(ctx,
                                            {.plan = plan,
                                             .q = {q.data(), kRows, 1},
                                             .k = {k.data(), kRows, 1},
                                             .v = {v.data(), kRows, 1},
                                             .o = {o.data(), kRows, 1},
                                             .lse = {lse.data(), kRows, 1},
                                             .bias = {bias.data(), 8, 1}},
                                            scratch);
  for (int i = 0; i < kRows; ++i) {
    double sum = 0, weighted = 0;
    for (int j = 0; j < kRows; ++j) {
      const int n = std::abs(j - i);
      if (n > 3) continue;
      const std::size_t bucket = static_cast<std::size_t>(n + (j > i ? 4 : 0));
      const double weight = std::exp(2.0 * std::tanh(1.5 * q[static_cast<std::size_t>(i)] * k[static_cast<std::size_t>(j)] / 2.0) + bias[bucket]);
      sum += weight;
      weighted += weight * v[static_cast<std::size_t>(j)];
    }
    CHECK(o[static_cast<std::size_t>(i)] == Approx(weighted / sum));
    CHECK(lse[static_cast<std::size_t>(i)] == Approx(std::log(sum)));
  }
}

TEST_CASE("attention: the gradient of a bias is the same with any number of threads", "[ops][attention]") {
  std::vector<std::vector<std::vector<double>>> runs;
  for (const int threads : {1, 2, 3}) {
    DefaultCpu::Context ctx(threads);
    check::Trial<test::DeviceTensor> trial(ctx, {.seed = 1, .backward = true});
    Case c{{70, 9, 33, 50}, {70, 9, 33, 50}, 3, 3, 8};
    c.relative = {.buckets = 32};
    test::attention_body(c)(trial);
    runs.emplace_back();
    for (const auto& variable : trial.varied()) runs.back().push_back(trial.gradient(variable));
  }
  CHECK(runs[1] == runs[0]);
  CHECK(runs[2] == runs[0]);
}

#endif
