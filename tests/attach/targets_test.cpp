#include "deltatune/attach/targets.hpp"

#include <catch2/catch.hpp>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/io/regex.hpp"

using namespace deltatune;

namespace {

const std::vector<std::string> kPaths = {"bert.encoder.layer.0.attention.self.query",
                                         "bert.encoder.layer.0.attention.self.value",
                                         "bert.encoder.layer.0.attention.output.dense",
                                         "bert.encoder.layer.0.output.dense",
                                         "bert.encoder.layer.1.attention.self.query",
                                         "bert.encoder.layer.1.attention.self.value",
                                         "bert.encoder.layer.1.attention.output.dense",
                                         "bert.encoder.layer.1.output.dense",
                                         "bert.pooler.dense",
                                         "classifier"};

std::vector<std::string> chosen(const Targets& targets, const std::vector<std::string>& reserved = {}) {
  return choose_targets(targets, kPaths, reserved, "config");
}

Targets pattern(const std::string& text) {
  Targets targets;
  targets.include.pattern = regex(text, "config");
  return targets;
}

}  // namespace

TEST_CASE("targets by the ends of names", "[attach]") {
  CHECK(chosen(Targets::named({"query"})) == std::vector<std::string>{kPaths[0], kPaths[4]});
  CHECK(chosen(Targets::named({"output.dense"})).size() == 4);  // the attention's too, as in PEFT
  CHECK(chosen(Targets::named({"classifier"})) == std::vector<std::string>{"classifier"});
  CHECK(chosen(Targets::named({"dense"})).size() == 5);
}

TEST_CASE("targets by a regular expression for the whole path", "[attach]") {
  CHECK(chosen(pattern(R"(.*\.1\..*(query|value))")) == std::vector<std::string>{kPaths[4], kPaths[5]});
  CHECK_THROWS_WITH(chosen(pattern("query")), Catch::Contains("match no layer"));
  CHECK_THROWS_WITH(chosen(pattern("(")), Catch::Contains("regular expression"));
}

TEST_CASE("all-linear, exclusion, reserved modules, layers", "[attach]") {
  CHECK(chosen(Targets::every_linear()).size() == kPaths.size());
  CHECK(chosen(Targets::every_linear(), {"classifier"}).size() == kPaths.size() - 1);
  Targets targets = Targets::every_linear();
  targets.exclude.names = {"query", "pooler.dense"};
  CHECK(chosen(targets).size() == kPaths.size() - 3);
  targets.exclude = {{}, regex(R"(bert\.encoder.*)")};
  CHECK(chosen(targets) == std::vector<std::string>{"bert.pooler.dense", "classifier"});

  targets = Targets::named({"query", "value"});
  targets.layers = {1};
  CHECK(chosen(targets) == std::vector<std::string>{kPaths[4], kPaths[5]});
  targets.layers_patterns = {"layer"};
  CHECK(chosen(targets) == std::vector<std::string>{kPaths[4], kPaths[5]});
  targets.layers_patterns = {"block"};
  CHECK_THROWS_WITH(chosen(targets), Catch::Contains("layers_to_transform"));
  targets.layers_patterns = {};
  targets.layers = {1, 7};
  CHECK_THROWS_WITH(chosen(targets), Catch::Contains("layer 7"));
  targets = Targets::every_linear();
  targets.layers = {0};
  CHECK_THROWS_WITH(chosen(targets), Catch::Contains("layers_to_transform"));
}

TEST_CASE("a name that matches nothing is an error, even among others that match", "[attach]") {
  CHECK_THROWS_WITH(chosen(Targets::named({"query", "vlaue"})),
                    Catch::Contains("config: target_modules") && Catch::Contains("\"vlaue\"") && Catch::Contains("bert.encoder.layer.0.attention.self.value"));
  Targets targets = Targets::named({"query"});
  targets.exclude.names = {"typo"};
  CHECK_THROWS_WITH(chosen(targets), Catch::Contains("exclude_modules"));
  targets.exclude.names = {"query"};
  CHECK_THROWS_WITH(chosen(targets), Catch::Contains("match no layer"));
}

TEST_CASE("ranks and alphas of single sites", "[attach]") {
  LoraPlan plan;
  plan.lora = {8, 16, 0, false};
  plan.rank_pattern = {{"value", 4}, {regex(R"(layer\.1\..*)"), 2}};
  plan.alpha_pattern = {{"attention.output.dense", 5}};
  CHECK(plan.at(kPaths[0], "x").rank == 8);
  CHECK(plan.at(kPaths[1], "x").rank == 4);
  CHECK(plan.at(kPaths[4], "x").rank == 2);
  CHECK(plan.at(kPaths[5], "x").rank == 4);  // the first that matches
  CHECK(plan.at(kPaths[2], "x").alpha == 5);
  CHECK(plan.at(kPaths[3], "x").alpha == 16);
  CHECK(plan.at(kPaths[0], "x").scale() == 2.0);
  CHECK(LoraConfig{4, 8, 0, true}.scale() == 4.0);
  plan.rank_pattern = {{"value", 0}};
  CHECK_THROWS_WITH(plan.at(kPaths[1], "x"), Catch::Contains("rank") && Catch::Contains("at least 1"));
  CHECK(plan.saves("classifier.weight"));
  CHECK(!plan.saves("bert.pooler.dense.weight"));
  plan.modules_to_save = {"pooler"};
  CHECK(plan.saves("bert.pooler.dense.weight"));
}
