// Metrics of classes and scores against scikit-learn and scipy (tests/data/metrics.json), and which of them decide.
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <limits>

#include "deltatune/io/json_config.hpp"
#include "deltatune/train/fit.hpp"
#include "support/error_text.hpp"

namespace {

using namespace deltatune;
using Catch::Contains;

nlohmann::json metric_goldens(const char* kind) { return JsonConfig::open(std::filesystem::path(DELTATUNE_TEST_DIR) / "data/metrics.json").raw().at(kind); }

constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("metrics of classes are those of scikit-learn", "[train][metrics]") {
  const nlohmann::json cases = metric_goldens("classes");
  REQUIRE(cases.size() == 36);
  for (const nlohmann::json& one : cases) {
    CAPTURE(one.dump());
    ClassCounts counts(one.at("classes").get<std::size_t>());
    for (std::size_t i = 0; i < one.at("truth").size(); ++i) counts.add(one.at("truth").at(i).get<std::int32_t>(), one.at("answers").at(i).get<std::int32_t>());
    const auto same = [&](const char* name, double value) {
      CAPTURE(name);
      CHECK(value == Approx(one.at(name).get<double>()).margin(1e-12).epsilon(1e-12));
    };
    same("accuracy", counts.accuracy());
    same("micro_f1", counts.accuracy());
    same("macro_precision", counts.macro_precision());
    same("macro_recall", counts.macro_recall());
    same("macro_f1", counts.macro_f1());
    same("weighted_f1", counts.weighted_f1());
    same("matthews", counts.matthews());
    CHECK(counts.counts() == one.at("confusion").get<std::vector<std::vector<Index>>>());
    for (std::size_t c = 0; c < counts.classes(); ++c) {
      CHECK(counts.precision(c) == Approx(one.at("precision").at(c).get<double>()).margin(1e-12));
      CHECK(counts.recall(c) == Approx(one.at("recall").at(c).get<double>()).margin(1e-12));
      CHECK(counts.f1(c) == Approx(one.at("f1").at(c).get<double>()).margin(1e-12));
    }
  }
}

TEST_CASE("correlations are those of scipy", "[train][metrics]") {
  const nlohmann::json cases = metric_goldens("scores");
  REQUIRE(cases.size() == 28);
  for (const nlohmann::json& one : cases) {
    CAPTURE(one.dump());
    const std::vector<double> x = one.at("x").get<std::vector<double>>(), y = one.at("y").get<std::vector<double>>();
    // What does not vary has no correlation: NaN for scipy, 0 here.
    const auto expected = [&](const char* name) { return one.at(name).is_null() ? 0.0 : one.at(name).get<double>(); };
    CHECK(pearson_correlation(x, y) == Approx(expected("pearson")).margin(1e-9));
    CHECK(spearman_correlation(x, y) == Approx(expected("spearman")).margin(1e-12));
  }
  const std::vector<double> x{1, 2, kNotANumber}, y{1, 2, 3};
  CHECK(std::isnan(pearson_correlation(x, y)));
  CHECK(std::isnan(spearman_correlation(y, x)));
  CHECK(pearson_correlation({}, {}) == 0);
  CHECK_THROWS_WITH(pearson_correlation(x, std::vector<double>{1}), Contains("needs two numbers per example"));
}

TEST_CASE("a metric fits the model or is refused", "[train][metrics]") {
  CHECK(metric_of("matthews", MetricKind::classes) == Metric::matthews);
  CHECK(metric_of("loss", MetricKind::language) == Metric::loss);
  CHECK(name_of(Metric::weighted_f1) == "weighted_f1");
  CHECK(default_metric(metric_kind(3)) == Metric::accuracy);
  CHECK(default_metric(metric_kind(1)) == Metric::loss);
  CHECK(default_metric(metric_kind(0)) == Metric::loss);
  CHECK(test::error_text([] { metric_of("f1", MetricKind::classes, "--metric"); }) ==
        "--metric: is not known; expected accuracy, macro_f1, weighted_f1, matthews, loss, got f1");
  CHECK(test::error_text([] { metric_of("accuracy", MetricKind::scores); }) ==
        "metric: does not fit a model of scores; expected pearson, spearman, loss, got accuracy");
  CHECK_THROWS_WITH(Evaluation().value(Metric::pearson, MetricKind::language), Contains("does not fit a language model; expected loss, got pearson"));
}

TEST_CASE("the better result: by the metric, then by the loss, and never one that is NaN", "[train][metrics]") {
  const auto better = [](double value, double loss, double best_value, double best_loss) {
    return detail::is_better(value, loss, {.best_step = 1, .best_loss = best_loss, .best_value = best_value});
  };
  CHECK(detail::is_better(kNotANumber, 1, {}));
  CHECK(better(0.6, 9, 0.5, 1));
  CHECK_FALSE(better(0.4, 0, 0.5, 1));
  CHECK(better(0.5, 0.9, 0.5, 1));
  CHECK_FALSE(better(0.5, 1, 0.5, 1));
  CHECK_FALSE(better(kNotANumber, 0, 0.5, 1));
  CHECK_FALSE(better(kNotANumber, 0, kNotANumber, 1));
  CHECK(better(-5, 5, kNotANumber, 1));
}

TEST_CASE("an evaluation has the metrics of its kind", "[train][metrics]") {
  Dataset data;
  for (const std::int32_t label : {0, 1, 2, 1}) data.add({.ids = {1, label}, .label = label});
  const auto answer_one = [](const PackedBatch& batch) {
    std::vector<float> logits;
    for (Index i = 0; i < batch.count(); ++i) logits.insert(logits.end(), {0.0F, 1.0F, 0.5F});
    return logits;
  };
  const Evaluation classes = evaluate(data, 3, 3, answer_one);
  CHECK(classes.accuracy == 0.5);
  CHECK(classes.value(Metric::macro_f1, MetricKind::classes) == Approx(2.0 / 9));
  CHECK(classes.value(Metric::matthews, MetricKind::classes) == 0);
  CHECK(classes.value(Metric::loss, MetricKind::classes) == -classes.loss);
  data.add({.ids = {1}, .label = 3});
  CHECK_THROWS_WITH(evaluate(data, 3, 3, answer_one), Contains("example 4: label outside the classes; expected 0 to 2, got 3"));

  Dataset scores(true);
  for (const float target : {1.0F, 2.0F, 4.0F}) scores.add({.ids = {1}, .target = target});
  float next = 0;
  const Evaluation numbers = evaluate(scores, 2, 1, [&](const PackedBatch& batch) {
    std::vector<float> outputs;
    for (Index i = 0; i < batch.count(); ++i) outputs.push_back(next += 1);
    return outputs;
  });
  CHECK(numbers.value(Metric::spearman, MetricKind::scores) == 1);
  CHECK(numbers.value(Metric::pearson, MetricKind::scores) == Approx(0.9819805060619657));
  CHECK(numbers.loss == Approx(1.0 / 3));
}
