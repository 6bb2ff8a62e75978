// Features computed once: the same training as from tokens, without the encoder.
#include "deltatune/train/features.hpp"

#include <catch2/catch.hpp>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/train/evaluation.hpp"
#include "deltatune/train/trainer.hpp"
#include "support/tiny_bert.hpp"
#include "support/tiny_gpt2.hpp"

namespace {

using namespace deltatune;

Dataset three_examples() {
  Dataset data;
  data.add({.ids = {1, 2, 3, 4}, .label = 0});
  data.add({.ids = {5, 2}, .label = 2});
  data.add({.ids = {9}, .label = 1});
  return data;
}

template <class Model>
void check_features(test::DeviceContext& ctx, const Model& make) {
  const std::vector<Index> all{0, 1, 2};
  std::vector<double> losses[2];
  std::vector<float> logits[2];
  Index flops[2];
  for (const bool cached : {false, true}) {
    auto model = make();
    apply(model, head_only(family_of(model)));
    Dataset data = three_examples();
    if (cached) compute_features(ctx, model, data, 2);
    Trainer trainer(ctx, model, {.optimizer = {.learning_rate = 0.05}, .dropout = false});
    ctx.reset_counters();
    for (int i = 0; i < 3; ++i) losses[cached].push_back(trainer.step(data.batch(all)).loss);
    flops[cached] = ctx.gemm_flops();
    logits[cached] = trainer.logits(data.batch(all));
  }
  for (std::size_t i = 0; i < 3; ++i) CHECK(losses[1][i] == Approx(losses[0][i]).epsilon(1e-5));
  for (std::size_t i = 0; i < logits[0].size(); ++i) CHECK(logits[1][i] == Approx(logits[0][i]).margin(1e-5));
  CHECK(losses[0][2] < losses[0][0]);
  CHECK(flops[1] * 5 < flops[0]);
}

}  // namespace

TEST_CASE("features computed once train the output layer as tokens do", "[train][features]") {
  test::DeviceContext ctx(1);
  check_features(ctx, [&] { return test::tiny_bert(ctx); });
  check_features(ctx, [&] { return test::tiny_gpt2(ctx, Head::classifier(3)); });
}

TEST_CASE("features are refused where what computes them trains", "[train][features]") {
  test::DeviceContext ctx(1);
  Bert<test::DeviceTensor> model = test::tiny_bert(ctx);
  Dataset data = three_examples();
  compute_features(ctx, model, data, 2);
  attach(ctx, model, LoraPlan{});
  Trainer trainer(ctx, model, {});
  const std::vector<Index> all{0, 1, 2};
  CHECK_THROWS_WITH(trainer.step(data.batch(all)), Catch::Contains("features") && Catch::Contains("trains"));
}
