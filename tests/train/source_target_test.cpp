// Encoder-decoders in training: examples of a source and a target, batches, plans; and how likely targets are.
#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/train/features.hpp"
#include "deltatune/train/fit.hpp"
#include "deltatune/train/likelihood.hpp"
#include "deltatune/train/teacher_forcing.hpp"
#include "support/error_text.hpp"
#include "support/instances.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_gpt2.hpp"
#include "support/tiny_t5.hpp"

namespace {

using namespace deltatune;
using Catch::Contains;
using T5 = Transformer<test::DeviceTensor>;
using Ids = std::vector<std::int32_t>;

T5 random_t5(test::DeviceContext& ctx) {
  Architecture architecture = test::tiny_t5();
  architecture.initializer_range = 0.4;
  T5 model(ctx, architecture, Head::language_model());
  model.initialise(ctx, 1);
  return model;
}

// The longest source has not the longest target.
Dataset four_pairs() {
  Dataset data;
  const Architecture architecture = test::tiny_t5();
  data.add(teacher_forced(Ids{4, 8, 15, 16, 3, 9, 1}, Ids{5, 1}, architecture));
  data.add(teacher_forced(Ids{3, 1}, Ids{9, 14, 6, 7, 1}, architecture));
  data.add(teacher_forced(Ids{7, 12, 11, 1}, Ids{1}, architecture));
  data.add(teacher_forced(Ids{2, 1}, Ids{5, 5, 1}, architecture));
  return data;
}

// Σ log p by the logits of a forward pass.
std::vector<double> by_logits(test::DeviceContext& ctx, T5& model, const PackedBatch& batch) {
  using X = test::DeviceTensor;
  DeviceBatch<X> device(ctx);
  device.upload(batch, false, model.layout());
  Workspace<test::Device> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch};
  T5::Activations kept;
  const Index words = model.architecture().vocab_size;
  const View<float> logits = pass.keep(batch.rows(), words);
  model.forward(pass, device, logits, kept);
  const std::vector<float> host = test::on_host<X>(ctx, logits);
  std::vector<double> sums;
  for (std::size_t b = 0; b + 1 < batch.offsets.size(); ++b) {
    double sum = 0;
    for (Index row = batch.offsets[b]; row < batch.offsets[b + 1]; ++row) {
      const std::int32_t label = batch.token_labels[static_cast<std::size_t>(row)];
      if (label == ops::kIgnoredLabel) continue;
      double total = 0;
      for (Index w = 0; w < words; ++w) total += std::exp(static_cast<double>(host[static_cast<std::size_t>(row * words + w)]));
      sum += static_cast<double>(host[static_cast<std::size_t>(row * words + label)]) - std::log(total);
    }
    sums.push_back(sum);
  }
  return sums;
}

}  // namespace

TEST_CASE("teacher forcing: the decoder reads the start token and the target without its last", "[train][seq2seq]") {
  const Example example = teacher_forced(Ids{4, 8, 1}, Ids{5, 9, 1}, test::tiny_t5());
  CHECK(example.source == Ids{4, 8, 1});
  CHECK(example.ids == Ids{0, 5, 9});
  CHECK(example.token_labels == Ids{5, 9, 1});
  CHECK(teacher_forced(Ids{4}, Ids{1}, test::tiny_t5()).ids == Ids{0});

  CHECK_THAT(test::error_text([] { teacher_forced(Ids{}, Ids{1}, test::tiny_t5()); }), Contains("source: has no tokens"));
  CHECK_THAT(test::error_text([] { teacher_forced(Ids{4}, Ids{}, test::tiny_t5()); }), Contains("target: has no tokens") && Contains("end-of-text"));
  Architecture without = test::tiny_t5();
  without.start_id = -1;
  CHECK_THAT(test::error_text([&] { teacher_forced(Ids{4}, Ids{1}, without); }), Contains("T5") && Contains("decoder_start_token_id"));
}

TEST_CASE("data sets of sources and targets: batches, the largest one, the hash, mistakes", "[train][seq2seq]") {
  const Dataset data = four_pairs();
  const PackedBatch batch = data.batch(std::vector<Index>{1, 0});
  CHECK(batch.ids == Ids{0, 9, 14, 6, 7, 0, 5});
  CHECK(batch.token_labels == Ids{9, 14, 6, 7, 1, 5, 1});
  CHECK(batch.labels.empty());
  REQUIRE(batch.source.size() == 1);
  CHECK(batch.source.front().ids == Ids{3, 1, 4, 8, 15, 16, 3, 9, 1});
  CHECK(batch.source.front().offsets == std::vector<Index>{0, 2, 9});

  const PackedBatch largest = data.largest_batch(2);
  CHECK(largest.rows() == 5 + 3);
  REQUIRE(largest.source.size() == 1);
  CHECK(largest.source.front().rows() == 7 + 4);
  CHECK(largest.source.front().count() == largest.count());
  CHECK(label_weight(largest, {}) == 8);

  const std::string hash = content_hash(data);
  Dataset other = four_pairs();
  CHECK(content_hash(other) == hash);
  other[2].source[1] = 13;
  CHECK(content_hash(other) != hash);

  other[2].source.clear();
  CHECK_NOTHROW(other.batch(std::vector<Index>{0, 1}));
  const std::string missing = "example 3: has no source";
  CHECK_THAT(test::error_text([&] { other.batch(std::vector<Index>{0, 2}); }), Contains(missing));
  CHECK_THAT(test::error_text([&] { other.batch(std::vector<Index>{2, 0}); }), Contains(missing));
  CHECK_THAT(test::error_text([&] { other.largest_batch(4); }), Contains(missing));

  test::DeviceContext ctx(1);
  T5 model = random_t5(ctx);
  Dataset pairs = four_pairs();
  CHECK_THAT(test::error_text([&] { compute_features(ctx, model, pairs, 2); }), Contains("features") && Contains("classifier"));
}

TEST_CASE("an encoder-decoder is fitted to pairs: nothing is allocated after the plan, resuming gives the same", "[train][seq2seq]") {
  const bool recompute = GENERATE(false, true);
  const Dataset data = four_pairs();
  const test::TemporaryFolder folder;
  TrainerConfig config;
  config.optimizer.learning_rate = 2e-2;
  const FitConfig fit_config{.steps = 30, .batch_size = 2, .evaluate_every = 10};
  double last_losses[2];
  for (const bool resumes : {false, true}) {
    test::DeviceContext ctx(1);
    T5 model = random_t5(ctx);
    model.recompute_feed_forward(recompute);
    LoraPlan plan;
    plan.targets = Targets::every_linear();
    const auto lora = attach(ctx, model, plan);
    Trainer<T5> trainer(ctx, model, config);
    std::vector<Evaluation> evaluations;
    Index rows = 0;
    FitCallbacks callbacks;
    callbacks.after_step = [&](const StepReport& report) {
      if (report.step == 1) ctx.reset_counters();
      rows += report.rows;
      last_losses[resumes] = report.loss;
    };
    callbacks.after_evaluation = [&](const Evaluation& result, const Progress&, bool) { evaluations.push_back(result); };
    callbacks.at_rest = [&](const Progress& now) {
      if (!resumes && now.step == 20) save_checkpoint(folder / "checkpoint", trainer, now, nlohmann::json::object());
    };
    const Progress begin = resumes ? load_checkpoint(folder / "checkpoint", trainer, nlohmann::json::object()) : Progress();
    if (!resumes) {
      const double before = evaluate(trainer, data, 2).loss;
      fit(trainer, data, &data, fit_config, begin, callbacks);
      CHECK(ctx.allocations() == 0);
      CHECK(rows == 15 * (11 + 15));  // of targets and of sources
      REQUIRE(evaluations.size() == 3);
      CHECK(evaluations.back().loss < 0.85 * before);
      CHECK(evaluations.back().loss == Approx(evaluate(trainer, data, 4).loss).epsilon(1e-5));
    } else {
      CHECK(fit(trainer, data, &data, fit_config, begin, callbacks).step == 30);
    }
  }
  CHECK(last_losses[0] == last_losses[1]);
}

TEST_CASE("log-likelihoods are those of the logits", "[train][seq2seq]") {
  test::DeviceContext ctx(1);
  T5 model = random_t5(ctx);
  const Dataset data = four_pairs();
  PackedBatch batch = data.batch(std::vector<Index>{0, 1, 2, 3});
  batch.token_labels[1] = ops::kIgnoredLabel;
  const std::vector<double> expected = by_logits(ctx, model, batch), got = log_likelihoods(ctx, model, batch);
  REQUIRE(got.size() == 4);
  for (std::size_t b = 0; b < 4; ++b) CHECK(got[b] == Approx(expected[b]).epsilon(1e-4));

  // Of a decoder alone a label is predicted by the token before it; the first one by nothing.
  auto gpt2 = test::tiny_gpt2(ctx);
  PackedBatch text;
  text.add(Ids{3, 4, 5});
  text.add(Ids{7});
  text.token_labels = {3, 4, 5, 7};
  unfreeze(gpt2, {"**"});
  Trainer trainer(ctx, gpt2, {});
  const std::vector<double> of_text = log_likelihoods(ctx, gpt2, text);
  CHECK(of_text[0] == Approx(-trainer.loss(text)).epsilon(1e-5));
  CHECK(of_text[1] == 0);

  batch.token_labels[0] = 20;
  CHECK_THAT(test::error_text([&] { log_likelihoods(ctx, model, batch); }), Contains("outside the vocabulary"));
  auto classifier = test::tiny_gpt2(ctx, Head::classifier(3));
  CHECK_THAT(test::error_text([&] { log_likelihoods(ctx, classifier, text); }), Contains("log-likelihoods") && Contains("logits"));
}

TEST_CASE("choices of targets are scored with one run of the encoder", "[train][seq2seq]") {
  test::DeviceContext ctx(1);
  T5 model = random_t5(ctx);
  const std::vector<Ids> choices{{5, 1}, {9, 14, 6, 1}, {1}};
  PackedBatch sources;
  for (const Ids& ids : {Ids{4, 8, 15, 16, 3, 9, 1}, Ids{3, 1}}) sources.add(ids);
  const std::vector<double> scores = choice_log_likelihoods(ctx, model, sources, choices);
  REQUIRE(scores.size() == 6);
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t k = 0; k < 3; ++k) {
      Dataset one;
      const auto first = sources.ids.begin() + sources.offsets[b], last = sources.ids.begin() + sources.offsets[b + 1];
      one.add(teacher_forced(Ids(first, last), choices[k], model.architecture()));
      CHECK(scores[b * 3 + k] == Approx(by_logits(ctx, model, one.batch(std::vector<Index>{0}))[0]).epsilon(1e-4));
    }

  // Products: those of the encoder once, those of the decoder for each choice.
  const auto products = [&](std::size_t count) {
    ctx.reset_counters();
    choice_log_likelihoods(ctx, model, sources, std::span(choices).first(count));
    return ctx.gemm_calls();
  };
  const Index one = products(1), two = products(2), three = products(3);
  CHECK(three - two == two - one);
  CHECK(two - one < one);
  CHECK(choice_log_likelihoods(ctx, model, PackedBatch(), choices).empty());
  CHECK_THAT(test::error_text([&] { choice_log_likelihoods(ctx, model, sources, std::vector<Ids>{{}}); }), Contains("target: has no tokens"));
  auto gpt2 = test::tiny_gpt2(ctx);
  CHECK_THAT(test::error_text([&] { choice_log_likelihoods(ctx, gpt2, sources, choices); }), Contains("GPT-2") && Contains("decoder_start_token_id"));
}
