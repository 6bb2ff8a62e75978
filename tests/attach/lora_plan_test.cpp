// attach(): what trains afterwards, and mistakes in a plan.
#include "deltatune/attach/lora_plan.hpp"

#include <catch2/catch.hpp>

#include "deltatune/delta/lora_start.hpp"
#include "support/tiny_bert.hpp"
#include "support/tiny_gpt2.hpp"

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

TEST_CASE("attach freezes the rest, counts follow the formula", "[attach]") {
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

namespace {

template <class Model>
std::vector<std::vector<float>> base_values(Context& ctx, Model& model) {
  std::vector<std::vector<float>> values;
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.role() != Role::delta) values.push_back(test::on_host<X>(ctx, parameter.value()));
  });
  return values;
}

}  // namespace

TEST_CASE("where nothing is chosen the family's targets are", "[attach]") {
  Context ctx(1);
  Bert<X> bert = test::tiny_bert(ctx);
  const auto of_bert = attach(ctx, bert, LoraPlan{});
  for (const std::string& path : of_bert.paths()) CHECK((path.ends_with(".query") || path.ends_with(".value")));
  Gpt2<X> gpt2 = test::tiny_gpt2(ctx);
  const auto of_gpt2 = attach(ctx, gpt2, LoraPlan{});
  for (const std::string& path : of_gpt2.paths()) CHECK(path.ends_with(".attn.c_attn"));
  Architecture unknown = bert.architecture();
  unknown.default_targets.clear();
  CHECK_THROWS_WITH(default_targets("IA3", unknown, "plan"), Catch::Contains("plan: target_modules") && Catch::Contains("must be given"));
}

TEST_CASE("tables of embeddings are targets by name, never of all-linear, and a tied one parts from the head while it is merged", "[attach]") {
  Context ctx(1);
  LoraPlan plan;
  plan.dora = GENERATE(false, true);
  plan.lora.rank = 2;
  plan.targets = Targets::named({"word_embeddings", "query"});
  Bert<X> bert = test::tiny_bert(ctx);
  auto both = attach(ctx, bert, plan);
  CHECK(both.paths().size() == 3);
  CHECK(both.paths().front() == "bert.embeddings.word_embeddings");
  CHECK(trainable(bert).front() == "bert.embeddings.word_embeddings.lora_embedding_A");
  both.merge(ctx);

  plan.targets = Targets::named({"wte", "wpe"});
  Gpt2<X> gpt2 = test::tiny_gpt2(ctx);
  auto of_tables = attach(ctx, gpt2, plan);
  CHECK(gpt2.tied());
  of_tables.merge(ctx);
  CHECK_FALSE(gpt2.tied());
  of_tables.unmerge(ctx);
  CHECK(gpt2.tied());
  of_tables.detach();
  plan.targets = Targets::named({"lm_head"});
  plan.modules_to_save = {"nothing"};
  CHECK_THROWS_WITH(attach(ctx, gpt2, plan), Catch::Contains("matches nothing"));
  plan.modules_to_save = {"wte"};
  CHECK(attach(ctx, gpt2, plan).paths() == std::vector<std::string>{"lm_head"});
  CHECK_FALSE(gpt2.tied());
  plan.modules_to_save = {};
  plan.targets = Targets::named({"wte", "wpe"});
  Gpt2<X> classifier = test::tiny_gpt2(ctx, Head::classifier(3));
  attach(ctx, classifier, plan).merge(ctx);

  Bert<X> other = test::tiny_bert(ctx);
  plan.targets = Targets::named({"word_embeddings"});
  plan.dora = false;
  plan.lora.bias = true;
  CHECK_THROWS_WITH(attach(ctx, other, plan), Catch::Contains("table of embeddings"));
  plan.lora.bias = false;
  plan.start = pissa();
  CHECK_THROWS_WITH(attach(ctx, other, plan), Catch::Contains("init_lora_weights"));
}

TEST_CASE("PiSSA and OLoRA take their part of the weights, and give the bits back", "[attach]") {
  Context ctx(1);
  LoraPlan plan;
  plan.lora.rank = 3;
  plan.lora.alpha = 5;
  plan.start = GENERATE(0, 1) == 0 ? pissa() : olora();
  Bert<X> bert = test::tiny_bert(ctx);
  const auto before = base_values(ctx, bert);
  auto adapter = attach(ctx, bert, plan);
  CHECK(base_values(ctx, bert) != before);
  // With PiSSA what is left has no component along the largest singular vectors.
  bert.visit_sites([&](LinearSite<X>& site) {
    if (!site.path.ends_with(".query") || plan.start.name != "pissa") return;
    Parameter<X>* a = nullptr;
    Parameter<X>* b = nullptr;
    site.deltas.visit([&](Parameter<X>& p) { (p.path().ends_with("A.weight") ? a : b) = &p; });
    const std::vector<float> rows = test::on_host<X>(ctx, a->value()), columns = test::on_host<X>(ctx, b->value()),
                             rest = test::on_host<X>(ctx, site.weight.value());
    double along = 0, size = 0;
    for (std::size_t j = 0; j < 12; ++j) {
      double sum = 0;
      for (std::size_t i = 0; i < 12; ++i) sum += static_cast<double>(columns[i * 3] * rest[i * 12 + j]);
      along += sum * sum;
      size += static_cast<double>(rest[j] * rest[j]);
    }
    CHECK(size > 0);
    CHECK(along < 1e-10);
    CHECK(rows.size() == 36);
  });
  adapter.set_enabled(false);
  CHECK(base_values(ctx, bert) == before);
  adapter.set_enabled(true);
  adapter.merge(ctx);
  const auto merged = base_values(ctx, bert);
  for (std::size_t i = 0; i < before.size(); ++i)
    for (std::size_t j = 0; j < before[i].size(); ++j) CHECK(merged[i][j] == Approx(before[i][j]).margin(1e-5));
  adapter.unmerge(ctx);
  adapter.detach();
  CHECK(base_values(ctx, bert) == before);

  plan.lora.rank = 13;
  CHECK_THROWS_WITH(attach(ctx, bert, plan), Catch::Contains("at most 12") && Catch::Contains("got 13"));
}

TEST_CASE("what a LoRA cannot have", "[attach]") {
  Context ctx(1);
  Bert<X> bert = test::tiny_bert(ctx);
  LoraPlan plan;
  plan.dora = true;
  plan.lora.bias = true;
  CHECK_THROWS_WITH(attach(ctx, bert, plan), Catch::Contains("lora_bias") && Catch::Contains("not for DoRA"));
  Gpt2<X> gpt2 = test::tiny_gpt2(ctx, Head::classifier(3));
  plan.dora = false;
  plan.modules_to_save = {};
  plan.targets = Targets::named({"score"});
  CHECK_THROWS_WITH(attach(ctx, gpt2, plan), Catch::Contains("score has no bias"));
}
