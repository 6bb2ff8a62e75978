// attach(): what trains afterwards, and mistakes in a plan.
#include "deltatune/attach/lora_plan.hpp"

#include <catch2/catch.hpp>

#include "support/tiny_bert.hpp"

namespace {

using namespace deltatune;
using X = test::DeviceTensor;
using Context = test::DeviceContext;

std::vector<std::string> trainable(Bert<X>& model) {
  std::vector<std::string> paths;
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.trains()) paths.push_back(parameter.path());
  });
  return paths;
}

}  // namespace

TEST_CASE("attach freezes the rest; counts follow the formula", "[attach]") {
  Context ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  const Index before = parameter_count(model);
  unfreeze(model, {"**"});
  LoraPlan plan;
  plan.lora.rank = 2;
  auto lora = attach(ctx, model, plan);
  CHECK(lora.paths().size() == 4);
  CHECK(parameter_count(model) - before == 4 * 2 * (12 + 12));
  CHECK(trainable_count(model) == 4 * 2 * (12 + 12) + 3 * 13);
  lora.detach();
  CHECK(parameter_count(model) == before);
}

TEST_CASE("biases and modules to save", "[attach]") {
  Context ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  LoraPlan plan;
  plan.targets = Targets::named({"query"});
  plan.targets.layers = {1};
  plan.modules_to_save = {};
  plan.bias = BiasTraining::targets;
  attach(ctx, model, plan);
  const std::string query = "bert.encoder.layer.1.attention.self.query.";
  CHECK(trainable(model) == std::vector<std::string>{query + "bias", query + "lora_A.weight", query + "lora_B.weight"});

  Bert<X> other = test::tiny_bert(ctx);
  plan.bias = BiasTraining::all;
  plan.modules_to_save = {"pooler"};
  attach(ctx, other, plan);
  for (const std::string& path : trainable(other)) CHECK((path.ends_with(".bias") || path.starts_with("bert.pooler.") || path.starts_with(query)));
  CHECK(trainable(other).size() == 2 * 8 + 1 + 1 + 1 + 1 + 2);  // blocks; embeddings' norm, pooler, classifier; pooler's weight; A and B
}

TEST_CASE("all-linear leaves out the output layer and what is trained as a whole", "[attach]") {
  Context ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  LoraPlan plan;
  plan.targets = Targets::every_linear();
  CHECK(attach(ctx, model, plan).paths().size() == 2 * 6 + 1);
  Bert<X> other = test::tiny_bert(ctx);
  plan.modules_to_save = {"classifier", "pooler"};
  CHECK(attach(ctx, other, plan).paths().size() == 2 * 6);
}

TEST_CASE("mistakes in a plan", "[attach]") {
  Context ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  LoraPlan plan;
  plan.lora.rank = 0;
  CHECK_THROWS_WITH(attach(ctx, model, plan), Catch::Contains("plan: rank") && Catch::Contains("at least 1") && Catch::Contains("got 0"));
  plan.lora.rank = 2;
  plan.targets = Targets::named({"query", "nonsense"});
  CHECK_THROWS_WITH(attach(ctx, model, plan), Catch::Contains("nonsense"));
  plan.targets = Targets::named({"query"});
  plan.modules_to_save = {"qa_outputs"};
  CHECK_THROWS_WITH(attach(ctx, model, plan), Catch::Contains("modules_to_save") && Catch::Contains("qa_outputs"));
  plan.modules_to_save = {"classifier"};
  attach(ctx, model, plan);
  CHECK_THROWS_WITH(attach(ctx, model, plan), Catch::Contains("already attached"));
}
