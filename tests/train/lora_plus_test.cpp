// LoRA+: which parameters get which learning rate, and that an update goes by it. The numbers of a run are compared with PEFT's among the
// conformance cases.
#include "deltatune/train/lora_plus.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/attach/norm_tuning_plan.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/train/trainer.hpp"
#include "support/tiny_bert.hpp"

using namespace deltatune;
using X = test::DeviceTensor;

namespace {

// LoRA on a linear layer and on a table; another one with a bias.
void attach_both(test::DeviceContext& ctx, Bert<X>& model, BiasTraining bias) {
  LoraPlan plan;
  plan.lora.rank = 2;
  plan.targets = Targets::named({"query", "word_embeddings"});
  plan.bias = bias;
  attach(ctx, model, plan, 1);
  plan.name = "biased";
  plan.lora.bias = true;
  plan.targets = Targets::named({"key"});
  attach_beside(ctx, model, plan, 2);
}

}  // namespace

TEST_CASE("LoRA+: an update moves each group at its rate", "[train][lora_plus]") {
  test::DeviceContext ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  attach_both(ctx, model, BiasTraining::all);
  constexpr double kRate = 1e-3;
  lora_plus(model, kRate, {.ratio = 4, .embedding_rate = 2e-5});
  // What starts at 0 as if it had been trained, so that the other factor has a gradient.
  std::map<std::string, std::vector<float>> before;
  model.visit([&](Parameter<X>& p) {
    if (p.path().ends_with("lora_B.weight") || p.path().ends_with("lora_embedding_A")) backend_of<X>::fill(ctx, p.value(), 0.1F);
    before[p.path()] = download_floats<X>(ctx, p.value());
  });
  Trainer<Bert<X>> trainer(ctx, model, {.optimizer = {.learning_rate = kRate, .epsilon = 1e-30, .weight_decay = 0}});
  PackedBatch batch;
  batch.add(std::vector<std::int32_t>{1, 2, 3, 4});
  batch.add(std::vector<std::int32_t>{5, 2});
  batch.labels = {0, 2};
  trainer.step(batch);
  // The first update of Adam is the learning rate, whatever the gradient.
  const auto largest_move = [&](const std::string& path) {
    double largest = -1;
    model.visit([&](Parameter<X>& p) {
      if (p.path() != path) return;
      const std::vector<float> now = download_floats<X>(ctx, p.value());
      for (std::size_t i = 0; i < now.size(); ++i) largest = std::max(largest, std::fabs(static_cast<double>(now[i]) - before[path][i]));
    });
    return largest;
  };
  const std::string query = "bert.encoder.layer.1.attention.self.query";
  CHECK(largest_move(query + ".lora_A.weight") == Approx(1e-3).epsilon(1e-2));
  CHECK(largest_move(query + ".lora_B.weight") == Approx(4e-3).epsilon(1e-2));
  CHECK(largest_move("bert.encoder.layer.1.attention.self.key.lora_B.weight") == Approx(4e-3).epsilon(1e-2));
  CHECK(largest_move("bert.pooler.dense.bias") == Approx(4e-3).epsilon(1e-2));
  CHECK(largest_move("bert.embeddings.LayerNorm.bias") == Approx(4e-3).epsilon(1e-2));
  CHECK(largest_move("classifier.weight") == Approx(1e-3).epsilon(1e-2));
  CHECK(largest_move("bert.embeddings.word_embeddings.lora_embedding_A") == Approx(2e-5).epsilon(1e-2));
  CHECK(largest_move("bert.embeddings.word_embeddings.lora_embedding_B") == Approx(2e-5).epsilon(1e-2));
  CHECK(largest_move(query + ".weight") == 0);
}

TEST_CASE("weight decay leaves out biases and norms, those of deltas too", "[train]") {
  test::DeviceContext ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  attach_both(ctx, model, BiasTraining::none);
  NormTuningPlan norms;
  norms.name = "norms";
  attach_beside(ctx, model, norms);
  model.visit([](Parameter<X>& p) {
    INFO(p.path());
    CHECK(p.decays() ==
          (p.path().ends_with("_A") || p.path().ends_with("_B") || (p.path().ends_with(".weight") && p.path().find("LayerNorm") == std::string::npos)));
    CHECK(p.rate_factor() == 1);
  });
}

TEST_CASE("LoRA+: mistakes", "[train][lora_plus]") {
  test::DeviceContext ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  CHECK_THROWS_WITH(lora_plus(model, 1e-3, {.ratio = 0}), Catch::Contains("LoRA+: ratio") && Catch::Contains("got 0"));
  CHECK_THROWS_WITH(lora_plus(model, 1e-3, {.embedding_rate = std::numeric_limits<double>::infinity()}), Catch::Contains("embedding rate"));
  CHECK_THROWS_WITH(lora_plus(model, 0), Catch::Contains("learning rate"));
}
