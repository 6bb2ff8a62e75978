// Gradients of the whole model under every pattern of what trains, and what a step costs when most of it is frozen.
#include "deltatune/model/bert.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/backend/cpu/gemm_tiled.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "support/device.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/instances.hpp"
#include "support/shapes.hpp"

using namespace deltatune;

namespace {

using Globs = std::vector<std::string>;

test::BertShape tiny() {
  test::BertShape config;
  config.vocab_size = 30;
  config.hidden_size = 12;
  config.layers = 3;
  config.heads = 3;
  config.intermediate_size = 20;
  config.max_position_embeddings = 10;
  config.hidden_dropout = 0.1;
  config.attention_dropout = 0.2;
  config.classifier_dropout = 0.15;
  return config;
}

PackedBatch packed(const std::vector<Index>& lengths, std::int32_t first_token = 4) {
  PackedBatch batch;
  std::int32_t token = first_token;
  for (const Index length : lengths) {
    std::vector<std::int32_t> tokens;
    for (Index t = 0; t < length; ++t) tokens.push_back(1 + (token = (token * 5 + 3) % 29));  // never the padding id
    batch.add(tokens);
    batch.labels.push_back(token % 3);
  }
  for (std::size_t i = 0; i < batch.types.size(); ++i) batch.types[i] = i % 3 == 1;
  return batch;
}

const std::map<std::string, Globs> kPatterns{
    {"everything", {"**"}},
    {"biases", {"**.bias"}},
    {"head", {"classifier.**", "bert.pooler.**"}},
    {"classifier", {"classifier.**"}},
    {"LayerNorms", {"**.LayerNorm.*"}},
    {"a middle layer", {"bert.encoder.layer.1.**"}},
    {"a middle layer's output bias", {"bert.encoder.layer.1.output.dense.bias"}},
    {"queries and values", {"**.{query,value}.weight"}},
    {"embeddings", {"bert.embeddings.**"}},
    {"word embeddings", {"**.word_embeddings.weight"}},
};

auto classifier_body(const Globs& trainable, Mode mode) {
  return [=]<class X>(check::Trial<X>& trial) {
    trial.pass().mode = mode;
    Bert<X> fresh(trial.ctx(), tiny(), Head::classifier(3));
    unfreeze(fresh, trainable);
    Bert<X>& model = trial.own(std::move(fresh));
    DeviceBatch<X> batch(trial.ctx());
    batch.upload(packed({4, 1, 6}), model.embeddings_train());
    typename Bert<X>::Activations kept;
    const auto logits = trial.output("logits", 3, 3);
    model.forward(trial.pass(), batch, logits.value, kept);
    if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept, logits.gradient);
  };
}

// The encoder alone, differentiated from its hidden states.
auto encoder_body(const Globs& trainable, Mode mode) {
  return [=]<class X>(check::Trial<X>& trial) {
    trial.pass().mode = mode;
    Bert<X> fresh(trial.ctx(), tiny(), Head::none(), false);
    unfreeze(fresh, trainable);
    Bert<X>& model = trial.own(std::move(fresh));
    DeviceBatch<X> batch(trial.ctx());
    batch.upload(packed({4, 1, 6}), model.embeddings_train());
    typename Bert<X>::Activations kept;
    const auto h = trial.output("h", 11, 12);
    model.encode(trial.pass(), batch, h.value, kept);
    if (trial.backward_wanted()) model.encode_backward(trial.pass(), batch, kept, h.gradient);
  };
}

// One forward and backward pass at a time, as a trainer runs them.
template <class X>
struct Runner {
  using T = scalar_of<X>;

  explicit Runner(context_of<X>& context, const Globs& trainable, std::uint64_t seed = 3)
      : ctx(context), model(context, tiny(), Head::classifier(3)), saved(context), scratch(context), batch(context) {
    model.initialise(ctx, seed);
    unfreeze(model, trainable);
    allocate_gradients(model, ctx);
  }

  void upload(const PackedBatch& host) { batch.upload(host, model.embeddings_train()); }
  void forward(Pass<X>& pass, View<T> logits) { model.forward(pass, batch, logits, kept); }

  std::vector<T> step(Mode mode = Mode::train, std::uint64_t step_number = 0) {
    Pass<X> pass{ctx, saved, scratch, mode, 17, step_number};
    const WorkspaceScope<backend_of<X>> all(saved);
    const Index count = batch.sequences().count;
    const View<T> logits = pass.keep(count, 3);
    const View<T> dlogits = pass.keep(count, 3);
    const View<T> losses = pass.keep(count, 1);
    forward(pass, logits);
    ops::cross_entropy<backend_of<X>, T>(ctx, logits, batch.labels(), {}, 0.0, 1.0 / static_cast<double>(count), losses, dlogits);
    model.backward(pass, batch, kept, dlogits);
    if (ctx.dry_run()) return {};
    return test::on_host<X>(ctx, logits);
  }

  std::vector<GemmRecord> trace() {
    std::vector<GemmRecord> records;
    ctx.trace_gemms(&records);
    step();
    ctx.trace_gemms(nullptr);
    return records;
  }

  std::vector<T> numbers(bool gradients) {
    std::vector<T> all;
    model.visit([&](Parameter<X>& p) {
      const View<const T> view = gradients ? View<const T>(p.gradient()) : View<const T>(p.value());
      const std::vector<T> host = test::on_host<X>(ctx, view);
      all.insert(all.end(), host.begin(), host.end());
    });
    return all;
  }

  context_of<X>& ctx;
  Bert<X> model;
  workspace_of<X> saved, scratch;
  DeviceBatch<X> batch;
  typename Bert<X>::Activations kept;
};

using DeviceRunner = Runner<test::DeviceTensor>;

// Bytes of a matrix of floats in a workspace.
Index arena_bytes(Index rows, Index cols) { return (rows * cols * 4 + 63) / 64 * 64; }

}  // namespace

TEST_CASE("bert: adjoint of every trainable gradient, for each pattern of what trains", "[model][bert]") {
  for (const auto& [name, trainable] : kPatterns) {
    INFO(name);
    test::check_adjoint(classifier_body(trainable, Mode::train));
    test::check_adjoint(classifier_body(trainable, Mode::differentiate));
  }
}

TEST_CASE("bert: adjoint of the encoder alone", "[model][bert]") {
  for (const Globs& trainable : {Globs{"**"}, Globs{"**.bias"}, Globs{"encoder.layer.1.**"}, Globs{"embeddings.**"}}) {
    test::check_adjoint(encoder_body(trainable, Mode::train));
    test::check_adjoint(encoder_body(trainable, Mode::differentiate));
  }
}

#ifdef DELTATUNE_TEST_CUDA
TEMPLATE_TEST_CASE("bert: float gradients against double, and by finite differences", "[model][bert]", test::DeviceTensor) {
#else
TEMPLATE_TEST_CASE("bert: float gradients against double, and by finite differences", "[model][bert]", test::DeviceTensor, (Tensor<float, Cpu<TiledGemm>>)) {
#endif
  for (const auto& [name, trainable] : kPatterns) {
    INFO(name);
    test::check_device<TestType>(classifier_body(trainable, Mode::train), 1e-4);  // three layers deep
    test::check_differences<TestType>(classifier_body(trainable, Mode::train));
  }
  test::check_device<TestType>(encoder_body({"**"}, Mode::train), 1e-4);
}

TEST_CASE("bert: frozen means free, in matrix products", "[model][bert][frozen]") {
  test::DeviceContext ctx(2);
  constexpr Index kRows = 11, kSequences = 3, kLayers = 3;
  const auto records = [&](const Globs& trainable) {
    DeviceRunner runner(ctx, trainable);
    runner.upload(packed({4, 1, 6}));
    std::vector<GemmRecord> all = runner.trace();
    REQUIRE(all.size() >= 4 * kLayers + 2);
    all.erase(all.begin(), all.begin() + 4 * kLayers + 2);  // forward: four products a layer and two of the head, whatever trains
    return all;
  };
  // A gradient of a weight sums over rows: k is the number of rows.
  const auto weight_gradients = [&](const std::vector<GemmRecord>& all) {
    return std::count_if(all.begin(), all.end(), [](const GemmRecord& r) { return r.k == kRows || r.k == kSequences; });
  };
  using Products = std::vector<std::vector<Index>>;
  const auto products = [](const std::vector<GemmRecord>& all) {
    Products result;
    for (const GemmRecord& r : all) result.push_back({r.m, r.n, r.k});
    return result;
  };
  const Products head_inputs{{3, 12, 3}, {3, 12, 12}};                                  // through classifier and pooler
  const Products layer_inputs{{11, 20, 12}, {11, 12, 20}, {11, 12, 12}, {11, 12, 36}};  // down, up, attention's output, query-key-value
  const Products last_inputs{{3, 20, 12}, {3, 12, 20}, {3, 12, 12}, {11, 12, 36}};      // the head reads three rows

  SECTION("biases: every product goes through a frozen weight, none into it") {
    Products expected = head_inputs;
    expected.insert(expected.end(), last_inputs.begin(), last_inputs.end());
    for (int layer = 1; layer < kLayers; ++layer) expected.insert(expected.end(), layer_inputs.begin(), layer_inputs.end());
    CHECK(products(records({"**.bias"})) == expected);
    CHECK(products(records({"**.bias", "classifier.weight"})).size() == expected.size() + 1);
  }
  SECTION("classifier") { CHECK(products(records({"classifier.**"})) == Products{{3, 12, 3}}); }
  SECTION("head") { CHECK(products(records({"classifier.**", "bert.pooler.**"})) == Products{{3, 12, 3}, {3, 12, 3}, {12, 12, 3}}); }
  SECTION("last layer: nothing below it") {
    const auto all = records({"bert.encoder.layer.2.**"});
    CHECK(weight_gradients(all) == 1 + 4 + 2);  // through the classifier (3 classes, k 3), down, up, output, query, key, value
    CHECK(products(all) ==
          Products{
              {3, 12, 3}, {3, 12, 12}, {12, 20, 3}, {3, 20, 12}, {20, 12, 3}, {3, 12, 20}, {12, 12, 3}, {3, 12, 12}, {12, 12, 11}, {12, 12, 11}, {12, 12, 11}});
  }
  SECTION("last LayerNorm: no product of the layer at all") { CHECK(products(records({"bert.encoder.layer.2.output.LayerNorm.*"})) == head_inputs); }
  SECTION("a bias in the middle: as deep as that and no deeper") {
    Products expected = head_inputs;
    expected.insert(expected.end(), last_inputs.begin(), last_inputs.end());
    CHECK(products(records({"bert.encoder.layer.1.output.dense.bias"})) == expected);
    expected.push_back({11, 20, 12});
    CHECK(products(records({"bert.encoder.layer.1.intermediate.dense.bias"})) == expected);
  }
  SECTION("everything") { CHECK(weight_gradients(records({"**"})) == 1 + 2 + 6 * kLayers); }
  SECTION("a forward pass to evaluate") {
    DeviceRunner runner(ctx, {"**"});
    runner.upload(packed({4, 1, 6}));
    Pass<test::DeviceTensor> pass{ctx, runner.saved, runner.scratch};
    ctx.reset_counters();
    runner.forward(pass, pass.keep(3, 3));
    CHECK(ctx.gemm_calls() == 4 * kLayers + 2);
  }
}

TEST_CASE("bert: frozen means free, in bytes", "[model][bert][frozen]") {
  test::DeviceContext ctx(2);
  const PackedBatch host = packed({4, 1, 6});
  const auto saved_by = [&](const Globs& trainable) {
    DeviceRunner runner(ctx, trainable);
    runner.upload(host);
    Pass<test::DeviceTensor> pass{ctx, runner.saved, runner.scratch, Mode::train};
    test::DeviceTensor logits(ctx, {3, 3});
    runner.forward(pass, logits.view());
    CHECK(runner.saved.peak() == runner.saved.mark());  // nothing passes through that backward does not read
    return runner.saved.mark();
  };
  const Index head = 3 * arena_bytes(3, 12);
  const Index norm = arena_bytes(11, 12) + arena_bytes(11, 1);
  const Index layer = arena_bytes(11, 36) + arena_bytes(11, 3) + arena_bytes(11, 20) + 2 * norm;  // qkv, lse, u, norms
  const Index last = arena_bytes(11, 36) + arena_bytes(3, 12) + arena_bytes(3, 3) + arena_bytes(3, 20) +
                     2 * (arena_bytes(3, 12) + arena_bytes(3, 1));  // qkv, and q, lse, u and norms of the rows that are read
  CHECK(saved_by({"classifier.**"}) == head);
  CHECK(saved_by({"bert.encoder.layer.2.output.dense.bias"}) == head + arena_bytes(3, 20) + arena_bytes(3, 12) + arena_bytes(3, 1));  // u and its norm
  CHECK(saved_by({"bert.encoder.layer.1.attention.self.query.bias"}) == head + layer + last);
  CHECK(saved_by({"bert.encoder.layer.2.attention.self.query.weight"}) == head + last + arena_bytes(11, 12));   // and its input
  CHECK(saved_by({"bert.encoder.layer.2.attention.output.dense.weight"}) == head + last + arena_bytes(3, 12));  // and its input
  CHECK(saved_by({"bert.embeddings.LayerNorm.bias"}) == head + 2 * layer + last + norm);

  DeviceRunner runner(ctx, {"**.bias"});
  Index gradient_bytes = 0;
  runner.model.visit([&](Parameter<test::DeviceTensor>& p) {
    CHECK(p.has_gradient() == p.path().ends_with(".bias"));
    gradient_bytes += p.gradient_bytes();
  });
  CHECK(gradient_bytes == trainable_count(runner.model) * 4);
}

TEST_CASE("bert: a dry run measures what the step then takes, and touches nothing", "[model][bert][frozen]") {
  test::DeviceContext ctx(2);
  for (const auto& [name, trainable] : kPatterns) {
    INFO(name);
    DeviceRunner runner(ctx, trainable);
    runner.upload(packed({4, 1, 6}));
    const std::vector<float> values = runner.numbers(false);
    ctx.reset_counters();
    {
      const DryRun dry(ctx);
      runner.step();
    }
    CHECK(ctx.allocations() == 0);
    CHECK(ctx.gemm_calls() > 0);
    CHECK(runner.numbers(false) == values);
    const std::vector<float> gradients = runner.numbers(true);
    CHECK(std::all_of(gradients.begin(), gradients.end(), [](float g) { return g == 0.0F; }));
    const Index saved_peak = runner.saved.peak(), scratch_peak = runner.scratch.peak(), products = ctx.gemm_calls();
    runner.saved.reserve(saved_peak);
    runner.scratch.reserve(scratch_peak);
    ctx.reset_counters();
    runner.saved.reset_peak();
    runner.scratch.reset_peak();
    runner.step();
    CHECK(runner.saved.peak() == saved_peak);
    CHECK(runner.scratch.peak() == scratch_peak);
    CHECK(ctx.gemm_calls() == products);
    CHECK(ctx.allocations() == 0);
    CHECK(runner.numbers(false) == values);
  }
}

TEST_CASE("bert: the second step allocates nothing, also of a shorter batch, planned or not", "[model][bert][frozen]") {
  test::DeviceContext ctx(2);
  for (const auto& [name, trainable] : kPatterns) {
    INFO(name);
    DeviceRunner runner(ctx, trainable);
    runner.upload(packed({10, 7, 9}));
    runner.step();
    ctx.reset_counters();
    runner.step();
    runner.upload(packed({2, 8, 3}, 9));
    runner.step();
    runner.upload(packed({10}, 11));
    runner.step();
    runner.upload(packed({10, 7, 9}, 13));
    runner.step();
    CHECK(ctx.allocations() == 0);
  }
}

TEST_CASE("bert: same seed and threads give the same bits, another step gives other masks", "[model][bert]") {
  test::DeviceContext ctx(2);
  const auto run = [&](std::uint64_t step) {
    DeviceRunner runner(ctx, {"**"});
    runner.upload(packed({10, 7, 9}));
    const std::vector<float> logits = runner.step(Mode::train, step);
    std::vector<float> all = runner.numbers(true);
    all.insert(all.end(), logits.begin(), logits.end());
    return all;
  };
  CHECK(run(0) == run(0));
  CHECK(run(0) != run(1));
}

TEST_CASE("bert: logits of a sequence do not depend on its neighbours", "[model][bert]") {
  test::DeviceContext ctx(1);
  DeviceRunner runner(ctx, {"**"});
  const PackedBatch together = packed({4, 1, 6});
  runner.upload(together);
  const std::vector<float> all = runner.step(Mode::differentiate);
  for (std::size_t b = 0; b < 3; ++b) {
    const auto first = static_cast<std::ptrdiff_t>(together.offsets[b]), last = static_cast<std::ptrdiff_t>(together.offsets[b + 1]);
    PackedBatch alone;
    alone.add(std::vector<std::int32_t>(together.ids.begin() + first, together.ids.begin() + last));
    alone.types.assign(together.types.begin() + first, together.types.begin() + last);
    alone.labels = {0};
    runner.upload(alone);
    const std::vector<float> logits = runner.step(Mode::differentiate);
    for (std::size_t c = 0; c < 3; ++c) CHECK(logits[c] == Approx(all[3 * b + c]).margin(1e-6));
  }
}

TEST_CASE("bert: dropout acts in training alone", "[model][bert]") {
  test::DeviceContext ctx(2);
  DeviceRunner runner(ctx, {"classifier.**"});
  runner.upload(packed({4, 1, 6}));
  const auto logits = [&](Mode mode) {
    Pass<test::DeviceTensor> pass{ctx, runner.saved, runner.scratch, mode, 17};
    const View<float> result = pass.keep(3, 3);
    runner.forward(pass, result);
    const std::vector<float> host = test::on_host<test::DeviceTensor>(ctx, result);
    runner.saved.release(0);
    return host;
  };
  CHECK(logits(Mode::evaluate) == logits(Mode::differentiate));
  CHECK(logits(Mode::train) != logits(Mode::evaluate));
}

TEST_CASE("bert: gradients of two batches add up", "[model][bert]") {
  test::DeviceContext ctx(1);
  DeviceRunner once(ctx, {"**"}), twice(ctx, {"**"});
  once.upload(packed({4, 1, 6}));
  twice.upload(packed({4, 1, 6}));
  once.step(Mode::differentiate);
  twice.step(Mode::differentiate);
  twice.step(Mode::differentiate);
  const std::vector<float> a = once.numbers(true), b = twice.numbers(true);
  float largest = 0, difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i]));
    difference = std::max(difference, std::abs(2 * a[i] - b[i]));
  }
  CHECK(largest > 0);
  CHECK(difference <= 1e-5F * largest);
}

TEST_CASE("bert: a sequence longer than its positions is refused", "[model][bert]") {
  test::DeviceContext ctx(1);
  DeviceRunner runner(ctx, {"classifier.**"});
  runner.upload(packed({11}));
  const std::string text = test::error_text([&] { runner.step(); });
  CHECK(text.find("expected at most 10 tokens, got 11") != std::string::npos);
}

TEST_CASE("bert: paths are those of the checkpoint, frozen at first", "[model][bert]") {
  Reference::Context ctx;
  Bert<Tensor<double, Reference>> model(ctx, tiny(), Head::classifier(3));
  std::vector<std::string> paths, sites;
  model.visit([&](auto& p) { paths.push_back(p.path()); });
  model.visit_sites([&](auto& site) { sites.push_back(site.path); });
  CHECK_FALSE(trains(model));
  CHECK(paths.size() == 5 + 16 * 3 + 4);
  CHECK(paths.front() == "bert.embeddings.word_embeddings.weight");
  CHECK(paths[5] == "bert.encoder.layer.0.attention.self.query.weight");
  CHECK(paths.back() == "classifier.bias");
  CHECK(sites.size() == 6 * 3 + 2);
  CHECK(sites[3] == "bert.encoder.layer.0.attention.output.dense");
  CHECK(parameter_count(model) == (30 + 10 + 2 + 2) * 12 + 3 * (4 * (12 * 12 + 12) + 2 * 12 * 20 + 20 + 12 + 4 * 12) + 12 * 12 + 12 + 3 * 12 + 3);
}
