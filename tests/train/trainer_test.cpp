// The training loop on a tiny model: what a step costs and leaves alone, accumulation, failure, resuming, choosing the best.
#include "deltatune/train/trainer.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/train/fit.hpp"
#include "support/shapes.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bert.hpp"
#include "support/tiny_gpt2.hpp"

namespace {

using namespace deltatune;
using X = test::DeviceTensor;
using Model = Bert<X>;
using Context = test::DeviceContext;

// The class is the id of the second token modulo 3.
Dataset toy_data(Index count, std::uint64_t seed) {
  Dataset data;
  const RandomKey key = derive(seed);
  for (Index i = 0; i < count; ++i) {
    Example example;
    const std::uint32_t length = 3 + random_bits(key, static_cast<std::uint64_t>(i)) % 9;
    for (std::uint32_t t = 0; t < length; ++t)
      example.ids.push_back(static_cast<std::int32_t>(1 + random_bits(key, static_cast<std::uint64_t>(1000 + i * 20 + t)) % 29));
    example.label = example.ids[1] % 3;
    data.add(std::move(example));
  }
  return data;
}

LoraPlan small_plan() {
  LoraPlan plan;
  plan.lora = {2, 4, 0.1, false};
  return plan;
}

std::map<std::string, std::vector<float>> values_of(Context& ctx, Model& model) {
  std::map<std::string, std::vector<float>> values;
  model.visit([&](Parameter<X>& parameter) { values[parameter.path()] = download_floats<X>(ctx, parameter.value()); });
  return values;
}

TrainerConfig config_with(double learning_rate) {
  TrainerConfig config;
  config.optimizer.learning_rate = learning_rate;
  config.seed = 3;
  return config;
}

}  // namespace

TEST_CASE("a LoRA step runs no weight gradient of a frozen weight, allocates nothing from the second step, keeps no bytes for frozen parameters", "[train]") {
  Context ctx(2);
  Model model = test::tiny_bert(ctx);
  attach(ctx, model, small_plan());
  const auto before = values_of(ctx, model);
  Trainer<Model> trainer(ctx, model, config_with(1e-2));
  const Dataset data = toy_data(40, 1);
  trainer.plan(data.largest_batch(8));
  BatchOrder order(data.size(), 8, 0);
  trainer.step(data.batch(order.members(0)));

  std::vector<GemmRecord> trace;
  ctx.reset_counters();
  ctx.trace_gemms(&trace);
  const PackedBatch batch = data.batch(order.members(1));
  trainer.step(batch);
  ctx.trace_gemms(nullptr);
  CHECK(ctx.allocations() == 0);
  // A weight gradient has k = N rows and the shape of the weight, (out, in). Of those only LoRA's A and B and the classifier's are there.
  const Index n = batch.rows(), count = batch.count();
  REQUIRE(n != 12);
  Index weight_gradients = 0;
  for (const GemmRecord& gemm : trace) {
    if (gemm.k != n && gemm.k != count) continue;
    ++weight_gradients;
    const bool is_a = gemm.m == 2 && gemm.n == 12, is_b = gemm.m == 12 && gemm.n == 2, is_head = gemm.m == 3 && gemm.n == 12;
    CHECK((is_a || is_b || is_head));
  }
  CHECK(weight_gradients == 2 * 2 * 2 + 1);  // layers · (query, value) · (A, B), and the head

  for (Index b = 2; b < 12; ++b) trainer.step(data.batch(order.members(b)));
  CHECK(ctx.allocations() == 0);
  CHECK(trainer.memory().gradients == trainable_count(model) * 4);
  CHECK(trainer.memory().optimizer == trainable_count(model) * 8);
  CHECK(trainable_count(model) == 2 * 2 * 2 * (12 + 12) + 3 * 12 + 3);
  const auto after = values_of(ctx, model);
  model.visit([&](Parameter<X>& parameter) {
    INFO(parameter.path());
    CHECK((before.at(parameter.path()) == after.at(parameter.path())) == !parameter.trains());
    CHECK(parameter.has_gradient() == parameter.trains());
  });
}

TEST_CASE("a partial mask trains its elements alone, and only they count in the gradient's norm", "[train]") {
  Context ctx(1);
  const PackedBatch batch = toy_data(6, 2).largest_batch(6);
  double whole_norm = 0;
  for (const bool partial : {false, true}) {
    Model model = test::tiny_bert(ctx);
    apply(model, head_only(family_of(model)));
    if (partial) {
      freeze(model, {"**"});
      set_mask(model, {"classifier.weight"}, FreezeMask::elements({1, 20}));
    }
    const std::vector<float> before = values_of(ctx, model).at("classifier.weight");
    TrainerConfig config = config_with(1e-2);
    config.dropout = false;
    Trainer<Model> trainer(ctx, model, config);
    const StepReport report = trainer.step(batch);
    if (!partial) {
      whole_norm = report.gradient_norm;
      continue;
    }
    CHECK(report.gradient_norm > 0);
    CHECK(report.gradient_norm < 0.9 * whole_norm);
    const std::vector<float> after = values_of(ctx, model).at("classifier.weight");
    for (std::size_t i = 0; i < after.size(); ++i) CHECK((before[i] == after[i]) == (i != 1 && i != 20));
  }
}

TEST_CASE("several batches add up to the gradient of the one large batch they make", "[train]") {
  Context ctx(1);
  const Dataset data = toy_data(9, 2);
  const std::vector<Index> all{0, 1, 2, 3, 4, 5, 6, 7, 8}, first{0, 1, 2, 3, 4, 5}, second{6, 7, 8};
  TrainerConfig config = config_with(1e-2);
  config.dropout = false;
  config.loss = {0.1, {1.0, 2.0, 0.5}};
  std::vector<std::map<std::string, std::vector<float>>> results;
  std::vector<StepReport> reports;
  for (const bool whole : {true, false}) {
    Model model = test::tiny_bert(ctx);
    apply(model, bitfit(family_of(model)));
    Trainer<Model> trainer(ctx, model, config);
    const std::vector<PackedBatch> batches =
        whole ? std::vector<PackedBatch>{data.batch(all)} : std::vector<PackedBatch>{data.batch(first), data.batch(second)};
    reports.push_back(trainer.step(batches));
    results.push_back(values_of(ctx, model));
  }
  CHECK(reports[0].loss == Approx(reports[1].loss).epsilon(1e-5));
  CHECK(reports[0].gradient_norm == Approx(reports[1].gradient_norm).epsilon(1e-4));
}

TEST_CASE("a loss that is not finite stops the step and leaves the parameters as they were", "[train]") {
  Context ctx(1);
  Model model = test::tiny_bert(ctx);
  apply(model, head_only(family_of(model)));
  Trainer<Model> trainer(ctx, model, config_with(1e-2));
  model.visit([&](Parameter<X>& parameter) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    if (parameter.path() == "bert.encoder.layer.0.output.dense.bias") test::Device::copy_in(ctx, &nan, parameter.value().data, sizeof nan);
  });
  const auto before = values_of(ctx, model).at("classifier.weight");
  CHECK_THROWS_WITH(trainer.step(toy_data(4, 3).largest_batch(4)), Catch::Contains("step 1") && Catch::Contains("not finite"));
  CHECK(values_of(ctx, model).at("classifier.weight") == before);
  CHECK(trainer.step_count() == 0);
}

TEST_CASE("labels that the model does not know are refused", "[train]") {
  Context ctx(1);
  Model model = test::tiny_bert(ctx);
  apply(model, head_only(family_of(model)));
  Trainer<Model> trainer(ctx, model, config_with(1e-2));
  PackedBatch batch = toy_data(4, 3).largest_batch(4);
  batch.labels[2] = 3;
  CHECK_THROWS_WITH(trainer.step(batch), Catch::Contains("0 to 2") && Catch::Contains("3"));
  batch.labels.pop_back();
  CHECK_THROWS_AS(trainer.step(batch), Error);
  freeze(model, {"**"});
  CHECK_THROWS_WITH(Trainer<Model>(ctx, model, {}), Catch::Contains("nothing trains"));
}

TEST_CASE("a run resumed from a checkpoint has the losses of the uninterrupted run, bit for bit", "[train]") {
  Context ctx(2);
  const Dataset training = toy_data(50, 4), evaluation = toy_data(20, 5);
  const nlohmann::json settings = {{"seed", 3}};
  const FitConfig fit_config{.steps = 14, .batch_size = 8, .accumulation = 2, .evaluate_every = 4, .patience = 0};
  TrainerConfig config = config_with(2e-2);
  config.schedule = {Schedule::Kind::cosine, 2, 14};
  const test::TemporaryFolder folder;

  std::vector<double> whole;
  std::vector<double> whole_evaluations;
  std::map<std::string, std::vector<float>> whole_end;
  Progress whole_progress;
  {
    Model model = test::tiny_bert(ctx);
    attach(ctx, model, small_plan(), 7);
    Trainer<Model> trainer(ctx, model, config);
    FitCallbacks callbacks;
    callbacks.after_step = [&](const StepReport& report) { whole.push_back(report.loss); };
    callbacks.after_evaluation = [&](const Evaluation& result, const Progress&, bool) { whole_evaluations.push_back(result.loss); };
    callbacks.at_rest = [&](const Progress& now) {
      if (now.step == 6 || now.step == 8) save_checkpoint(folder / std::to_string(now.step), trainer, now, settings);
    };
    whole_progress = fit(trainer, training, &evaluation, fit_config, {}, callbacks);
    whole_end = values_of(ctx, model);
  }
  REQUIRE(whole.size() == 14);
  REQUIRE(whole_evaluations.size() == 4);

  Model model = test::tiny_bert(ctx);
  attach(ctx, model, small_plan(), 99);  // another start: the checkpoint replaces it
  Trainer<Model> trainer(ctx, model, config);
  for (const Index at : {6, 8}) {  // between two evaluations, and at one
    const Progress progress = load_checkpoint(folder / std::to_string(at), trainer, settings);
    CHECK(progress.step == at);
    std::vector<double> rest, rest_evaluations;
    FitCallbacks callbacks;
    callbacks.after_step = [&](const StepReport& report) { rest.push_back(report.loss); };
    callbacks.after_evaluation = [&](const Evaluation& result, const Progress&, bool) { rest_evaluations.push_back(result.loss); };
    const Progress end = fit(trainer, training, &evaluation, fit_config, progress, callbacks);
    CHECK(rest == std::vector<double>(whole.begin() + at, whole.end()));
    CHECK(rest_evaluations == std::vector<double>(whole_evaluations.begin() + at / 4, whole_evaluations.end()));
    CHECK(values_of(ctx, model) == whole_end);
    CHECK(end.best_step == whole_progress.best_step);
    CHECK(end.best_loss == whole_progress.best_loss);
    CHECK(end.evaluations_since_best == whole_progress.evaluations_since_best);
  }

  CHECK(checkpoint_settings(folder / "6").raw() == settings);
  CHECK(has_checkpoint(folder / "6"));
  CHECK_FALSE(has_checkpoint(folder / "7"));
  CHECK_THROWS_WITH(load_checkpoint(folder / "6", trainer, {{"seed", 4}}), Catch::Contains("seed") && Catch::Contains("expected 3, got 4"));
  Model other = test::tiny_bert(ctx);
  apply(other, head_only(family_of(other)));
  Trainer<Model> other_trainer(ctx, other, config);
  CHECK_THROWS_AS(load_checkpoint(folder / "6", other_trainer, settings), Error);
}

TEST_CASE("the same seed and threads give the same bits, another seed others", "[train]") {
  Context ctx(2);
  const Dataset training = toy_data(24, 6);
  const auto losses = [&](std::uint64_t seed) {
    Model model = test::tiny_bert(ctx);
    attach(ctx, model, small_plan(), 1);
    TrainerConfig config = config_with(1e-2);
    config.seed = seed;
    Trainer<Model> trainer(ctx, model, config);
    std::vector<double> all;
    FitCallbacks callbacks;
    callbacks.after_step = [&](const StepReport& report) { all.push_back(report.loss); };
    fit(trainer, training, nullptr, {.steps = 6, .batch_size = 8}, {}, callbacks);
    return all;
  };
  const std::vector<double> once = losses(3);
  CHECK(once == losses(3));
  CHECK(once != losses(4));
}

#ifndef DELTATUNE_TEST_CUDA  // a thousand steps: minutes on an emulated device

TEST_CASE("a toy task is learnt, and the best evaluation is kept in mind", "[train]") {
  Context ctx(2);
  const Dataset training = toy_data(300, 7), evaluation = toy_data(60, 8);
  Model model = test::tiny_bert(ctx);
  apply(model, full_fine_tuning());
  Trainer<Model> trainer(ctx, model, config_with(3e-3));
  std::vector<Evaluation> evaluations;
  std::vector<bool> best;
  FitCallbacks callbacks;
  callbacks.after_evaluation = [&](const Evaluation& result, const Progress&, bool is_best) {
    evaluations.push_back(result);
    best.push_back(is_best);
  };
  const Progress end = fit(trainer, training, &evaluation, {.steps = 1000, .batch_size = 16, .evaluate_every = 40}, {}, callbacks);
  CHECK(end.step == 1000);
  CHECK(end.best_accuracy > 0.9);
  std::size_t last_best = 0;
  for (std::size_t i = 0; i < best.size(); ++i)
    if (best[i]) last_best = i;
  CHECK(static_cast<Index>(last_best + 1) * 40 == end.best_step);
  const auto better = [](const Evaluation& a, const Evaluation& b) { return a.accuracy > b.accuracy || (a.accuracy == b.accuracy && a.loss < b.loss); };
  for (std::size_t i = 0; i < evaluations.size(); ++i) CHECK((i == last_best || !better(evaluations[i], evaluations[last_best])));
  CHECK(end.best_value == end.best_accuracy);
}

#endif

TEST_CASE("patience ends a run that gets no better", "[train]") {
  Context ctx(1);
  const Dataset training = toy_data(30, 7), evaluation = toy_data(10, 8);
  Model model = test::tiny_bert(ctx);
  apply(model, head_only(family_of(model)));
  Trainer<Model> trainer(ctx, model, config_with(0));  // nothing changes: the first evaluation stays the best
  const Progress end = fit(trainer, training, &evaluation, {.steps = 100, .batch_size = 8, .evaluate_every = 5, .patience = 3}, {}, {});
  CHECK(end.step == 20);
  CHECK(end.best_step == 5);
  CHECK(end.evaluations_since_best == 3);
}

TEST_CASE("the metric decides which result is the best", "[train]") {
  Context ctx(1);
  const Dataset training = toy_data(30, 7), evaluation = toy_data(10, 8);
  const auto run = [&](Metric metric, std::vector<double>& values, std::vector<bool>& best) {
    Model model = test::tiny_bert(ctx);
    apply(model, full_fine_tuning());
    Trainer<Model> trainer(ctx, model, config_with(1e-2));
    FitCallbacks callbacks;
    callbacks.after_evaluation = [&](const Evaluation& result, const Progress&, bool is_best) {
      values.push_back(result.value(metric, MetricKind::classes));
      best.push_back(is_best);
    };
    return fit(trainer, training, &evaluation, {.steps = 12, .batch_size = 8, .evaluate_every = 1, .metric = metric}, {}, callbacks);
  };
  for (const Metric metric : {Metric::loss, Metric::matthews}) {
    std::vector<double> values;
    std::vector<bool> best;
    const Progress end = run(metric, values, best);
    REQUIRE(values.size() == 12);
    double highest = -std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] > highest) CHECK(best[i]);
      if (values[i] < highest) CHECK_FALSE(best[i]);
      highest = std::max(highest, values[i]);
    }
    CHECK(end.best_value == highest);
  }
  std::vector<double> values;
  std::vector<bool> best;
  CHECK_THROWS_WITH(run(Metric::pearson, values, best), Catch::Contains("does not fit a classifier"));
}

TEST_CASE("a run ends where its caller says so", "[train]") {
  Context ctx(2);
  Model model = test::tiny_bert(ctx);
  attach(ctx, model, small_plan(), 7);
  Trainer<Model> trainer(ctx, model, config_with(1e-3));
  std::vector<Index> at_rest;
  FitCallbacks callbacks;
  callbacks.at_rest = [&](const Progress& now) { at_rest.push_back(now.step); };
  callbacks.should_stop = [&] { return at_rest.size() == 3; };
  CHECK(fit(trainer, toy_data(20, 4), nullptr, {.steps = 10, .batch_size = 8}, {}, callbacks).step == 3);
  CHECK(at_rest == std::vector<Index>{1, 2, 3});
}

TEST_CASE("the hash of a data set", "[train]") {
  const auto hash_of = [](const std::function<void(Example&)>& change) {
    Dataset data;
    for (std::int32_t i = 0; i < 3; ++i) data.add({.ids = {1, i, 4}, .label = i});
    change(data[1]);
    return content_hash(data);
  };
  const std::string hash = hash_of([](Example&) {});
  CHECK(hash_of([](Example& example) { example.features = {1.0F}; }) == hash);
  CHECK(hash_of([](Example& example) { example.label = 2; }) != hash);
  CHECK(hash_of([](Example& example) { example.ids = {1, 1}; }) != hash);
  CHECK(hash_of([](Example& example) { example.token_labels = {4}; }) != hash);
  CHECK(hash_of([](Example& example) { example.target = 0.5F; }) != hash);
}

TEST_CASE("schedules", "[train]") {
  const Schedule linear{Schedule::Kind::linear, 2, 10}, cosine{Schedule::Kind::cosine, 2, 10}, constant{Schedule::Kind::constant, 4, 0};
  CHECK(linear.factor(0) == Approx(1.0 / 3.0));  // the first update trains
  CHECK(linear.factor(1) == Approx(2.0 / 3.0));
  CHECK(linear.factor(2) == 1.0);
  CHECK(linear.factor(6) == 0.5);
  CHECK(linear.factor(10) == 0.0);
  CHECK(linear.factor(12) == 0.0);
  CHECK(cosine.factor(6) == Approx(0.5));
  CHECK(cosine.factor(4) == Approx(0.5 * (1 + std::sqrt(0.5))));
  CHECK(constant.factor(3) == 0.8);
  CHECK(constant.factor(1000) == 1.0);
  CHECK(Schedule{}.factor(0) == 1.0);
  CHECK(Schedule{Schedule::Kind::linear, 1, 1}.factor(0) == 0.5);
  CHECK(linear.factor(9) == 0.125);

  // transformers.get_linear_schedule_with_warmup(optimizer, 2, 10) and get_constant_schedule_with_warmup(optimizer, 4)
  const Schedule theirs{Schedule::Kind::linear, 2, 10, true};
  const std::vector<double> factors{0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0};
  for (Index step = 0; step <= 10; ++step) CHECK(theirs.factor(step) == factors[static_cast<std::size_t>(step)]);
  CHECK(Schedule{Schedule::Kind::constant, 4, 0, true}.factor(3) == 0.75);
}

TEST_CASE("batches: every example once an epoch, in another order each", "[train]") {
  BatchOrder order(10, 4, 1);
  CHECK(order.per_epoch() == 3);
  std::vector<std::vector<Index>> epochs;
  for (Index epoch = 0; epoch < 2; ++epoch) {
    std::vector<Index> seen;
    for (Index b = 0; b < 3; ++b) {
      const auto members = order.members(epoch * 3 + b);
      CHECK(members.size() == (b < 2 ? 4U : 2U));
      seen.insert(seen.end(), members.begin(), members.end());
    }
    epochs.push_back(seen);
    std::sort(seen.begin(), seen.end());
    for (Index i = 0; i < 10; ++i) CHECK(seen[static_cast<std::size_t>(i)] == i);
  }
  CHECK(epochs[0] != epochs[1]);
  CHECK_THROWS_AS(BatchOrder(0, 4, 1), Error);
  CHECK_THROWS_AS(BatchOrder(4, 0, 1), Error);
}

// Each token but the first is the one before it plus 3, modulo 29; the first three are not to be learnt.
Dataset toy_text(Index count, std::uint64_t seed) {
  Dataset data;
  const RandomKey key = derive(seed);
  for (Index i = 0; i < count; ++i) {
    Example example;
    const std::uint32_t length = 5 + random_bits(key, static_cast<std::uint64_t>(i)) % 9;
    std::int32_t token = static_cast<std::int32_t>(random_bits(key, static_cast<std::uint64_t>(1000 + i)) % 29);
    for (std::uint32_t t = 0; t < length; ++t) {
      example.ids.push_back(token);
      example.token_labels.push_back(t < 3 ? ops::kIgnoredLabel : token);
      token = (token + 3) % 29;
    }
    data.add(std::move(example));
  }
  return data;
}

TEST_CASE("a language model learns to go on, plans its memory and evaluates by tokens", "[train][gpt2]") {
  Context ctx(2);
  Gpt2<X> model = test::tiny_gpt2(ctx);
  unfreeze(model, {"**"});
  Trainer<Gpt2<X>> trainer(ctx, model, config_with(2e-2));
  const Dataset training = toy_text(60, 1), held_out = toy_text(11, 2);
  trainer.plan(training.largest_batch(8));
  BatchOrder order(training.size(), 8, 0);
  trainer.step(training.batch(order.members(0)));
  ctx.reset_counters();
  for (Index b = 1; b < 4; ++b) trainer.step(training.batch(order.members(b)));
  CHECK(ctx.allocations() == 0);

  // By hand: the mean over all predicted tokens, whichever batch they are in.
  const Evaluation start = evaluate(trainer, held_out, 4);
  double loss = 0, count = 0;
  for (Index i = 0; i < held_out.size(); ++i) {
    const std::vector<Index> one{i};
    loss += trainer.loss(held_out.batch(one));
    count += static_cast<double>(held_out[i].ids.size()) - 3;
  }
  CHECK(start.loss == Approx(loss / count).epsilon(1e-5));
  CHECK(start.perplexity() == Approx(std::exp(start.loss)));
  CHECK(start.accuracy == 0);

  Index evaluations = 0;
  FitCallbacks callbacks;
  callbacks.after_evaluation = [&](const Evaluation&, const Progress&, bool) { ++evaluations; };
  const Progress end = fit(trainer, training, &held_out, {.steps = 150, .batch_size = 8, .accumulation = 1, .evaluate_every = 50, .patience = 0},
                           Progress{.step = 4}, callbacks);
  CHECK(evaluations == 3);
  CHECK(end.best_loss < 0.3 * start.loss);
}

TEST_CASE("a language model's batches add up, however their labels are spread", "[train][gpt2]") {
  Context ctx(1);
  const Dataset data = toy_text(9, 2);
  const std::vector<Index> all{0, 1, 2, 3, 4, 5, 6, 7, 8}, first{0, 1, 2, 3, 4, 5}, second{6, 7, 8};
  TrainerConfig config = config_with(1e-2);
  config.dropout = false;
  config.loss.label_smoothing = 0.1;
  std::vector<StepReport> reports;
  for (const bool whole : {true, false}) {
    Gpt2<X> model = test::tiny_gpt2(ctx);
    unfreeze(model, {"**.bias", "transformer.wte.weight"});
    Trainer<Gpt2<X>> trainer(ctx, model, config);
    const std::vector<PackedBatch> batches =
        whole ? std::vector<PackedBatch>{data.batch(all)} : std::vector<PackedBatch>{data.batch(first), data.batch(second)};
    reports.push_back(trainer.step(batches));
  }
  CHECK(reports[0].loss == Approx(reports[1].loss).epsilon(1e-5));
  CHECK(reports[0].gradient_norm == Approx(reports[1].gradient_norm).epsilon(1e-4));
}

TEST_CASE("GPT-2 learns to classify", "[train][gpt2]") {
  Context ctx(2);
  Gpt2<X> model = test::tiny_gpt2(ctx, Head::classifier(3));
  unfreeze(model, {"**"});
  Trainer<Gpt2<X>> trainer(ctx, model, config_with(2e-2));
  const Dataset data = toy_data(64, 1);
  BatchOrder order(data.size(), 16, 0);
  const Evaluation start = evaluate(trainer, data, 16);
  for (Index b = 0; b < 80; ++b) trainer.step(data.batch(order.members(b)));
  CHECK(evaluate(trainer, data, 16).loss < 0.5 * start.loss);
}

namespace {

template <class M>
void check_rounded(Context& ctx, const std::function<M()>& make, const PackedBatch& batch) {
  std::vector<double> losses;
  for (const bool rounded : {false, true}) {
    M model = make();
    auto lora = attach(ctx, model, small_plan());
    if (rounded) model.cast_base_to_bf16(ctx);
    Trainer<M> trainer(ctx, model, config_with(1e-2));
    trainer.plan(batch);
    ctx.reset_counters();
    for (int i = 0; i < 5; ++i) losses.push_back(trainer.step(batch).loss);
    CHECK(ctx.allocations() == 0);
    if (rounded) CHECK_THROWS_WITH(lora.merge(ctx), Catch::Contains("bfloat16"));
    model.visit([&](Parameter<X>& p) {
      const bool large = p.role() == Role::weight || p.role() == Role::embedding;
      CHECK(p.rounded() == (rounded && large && !p.trains()));
    });
  }
  for (std::size_t i = 0; i < 5; ++i) CHECK(losses[i] == Approx(losses[5 + i]).epsilon(0.02));
  CHECK(losses[4] != losses[9]);
}

}  // namespace

TEST_CASE("a base in bfloat16: an adapter trains on it as on the exact one, nearly, and is not merged into it", "[train][bfloat16]") {
  Context ctx(2);
  PackedBatch batch = toy_data(8, 1).largest_batch(8);
  check_rounded<Model>(
      ctx, [&] { return test::tiny_bert(ctx); }, batch);
  batch.token_labels = batch.ids;
  check_rounded<Gpt2<X>>(
      ctx, [&] { return test::tiny_gpt2(ctx); }, batch);
}

namespace {

// all-linear: what feeds output projections is kept, too.
template <class M>
void check_rounded_activations(Context& ctx, const std::function<M()>& make, const PackedBatch& batch) {
  std::vector<StepReport> reports;
  std::vector<Index> bytes;
  for (const bool rounds : {false, true}) {
    M model = make();
    LoraPlan plan = small_plan();
    plan.targets.all_linear = true;
    attach(ctx, model, plan);
    TrainerConfig config = config_with(1e-2);
    config.round_kept = rounds;
    Trainer<M> trainer(ctx, model, config);
    trainer.plan(batch);
    ctx.reset_counters();
    for (int i = 0; i < 6; ++i) reports.push_back(trainer.step(batch));
    CHECK(ctx.allocations() == 0);
    bytes.push_back(trainer.memory().activations);
  }
  CHECK(reports[0].loss == reports[6].loss);  // forward reads nothing that is rounded
  CHECK(reports[0].gradient_norm != reports[6].gradient_norm);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(reports[i].loss == Approx(reports[6 + i].loss).epsilon(0.02));
    CHECK(reports[i].gradient_norm == Approx(reports[6 + i].gradient_norm).epsilon(0.05));
  }
  CHECK(static_cast<double>(bytes[1]) < 0.75 * static_cast<double>(bytes[0]));  // of a narrow model; LoRA's own columns stay
}

}  // namespace

TEST_CASE("activations kept in bfloat16 take less memory, and training goes the same way", "[train][bfloat16]") {
  Context ctx(2);
  PackedBatch batch = toy_data(8, 1).largest_batch(8);
  check_rounded_activations<Model>(
      ctx, [&] { return test::tiny_bert(ctx); }, batch);
  batch.token_labels = batch.ids;
  check_rounded_activations<Gpt2<X>>(
      ctx, [&] { return test::tiny_gpt2(ctx); }, batch);
}

TEST_CASE("what is computed again in backward has the same bits and takes less memory", "[train][frozen]") {
  Context ctx(2);
  const PackedBatch batch = toy_data(8, 1).largest_batch(8);
  std::vector<std::map<std::string, std::vector<float>>> values;
  std::vector<Index> bytes;
  for (const bool recompute : {false, true}) {
    Model model = test::tiny_bert(ctx);
    LoraPlan plan = small_plan();  // with dropout
    plan.targets.all_linear = true;
    attach(ctx, model, plan);
    model.recompute_feed_forward(recompute);
    Trainer<Model> trainer(ctx, model, config_with(1e-2));
    trainer.plan(batch);
    ctx.reset_counters();
    for (int i = 0; i < 3; ++i) trainer.step(batch);
    CHECK(ctx.allocations() == 0);
    values.push_back(values_of(ctx, model));
    bytes.push_back(trainer.memory().activations);
  }
  CHECK(values[0] == values[1]);
  CHECK(bytes[1] < bytes[0]);
}

TEST_CASE("a layer keeps what no frozen layer can do without", "[train][frozen]") {
  Context ctx(2);
  constexpr Index kWidth = 128;
  PackedBatch batch;
  for (const Index length : {20, 33, 47}) {
    batch.add(std::vector<std::int32_t>(static_cast<std::size_t>(length), 5));
    batch.labels.push_back(1);
  }
  const auto attach_lora = [&](Model& model, bool all_linear) {
    LoraPlan plan;
    plan.lora.rank = 1;
    plan.targets.all_linear = all_linear;
    attach(ctx, model, plan);
  };
  struct Method {
    const char* name;
    std::function<void(Model&)> attach;
    double
        units;  // of rows · width floats a layer: the norms' outputs 2, queries, keys and values 3, feed-forward 4, and attention's output 1 where it is read
  };
  const std::vector<Method> methods{{"LoRA of query and value", [&](Model& model) { attach_lora(model, false); }, 9},
                                    {"LoRA of all linear layers", [&](Model& model) { attach_lora(model, true); }, 10},
                                    {"biases", [](Model& model) { apply(model, bitfit(family_of(model))); }, 9}};
  for (const auto& [name, attach_method, units] : methods) {
    for (const bool recompute : {false, true}) {
      INFO(name << (recompute ? ", recomputed" : ""));
      std::vector<Index> bytes;
      for (const Index layers : {3, 4}) {
        test::BertShape config;
        config.vocab_size = 50;
        config.hidden_size = kWidth;
        config.heads = 2;
        config.intermediate_size = 4 * kWidth;
        config.layers = layers;
        Model model(ctx, config, Head::classifier(3));
        model.initialise(ctx, 1);
        freeze_base(model);
        attach_method(model);
        model.recompute_feed_forward(recompute);
        Trainer<Model> trainer(ctx, model, config_with(1e-3));
        trainer.plan(batch);
        trainer.step(batch);
        bytes.push_back(trainer.memory().activations);
      }
      const double floor = (recompute ? units - 4 : units) * static_cast<double>(batch.rows() * kWidth * 4);
      CHECK(static_cast<double>(bytes[1] - bytes[0]) >= floor);
      CHECK(static_cast<double>(bytes[1] - bytes[0]) <= 1.1 * floor);
    }
  }
}
