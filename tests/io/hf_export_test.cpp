#include "deltatune/io/hf_export.hpp"

#include <catch2/catch.hpp>

namespace deltatune {
namespace {

TEST_CASE("a checkpoint is spread over files in the order of its tensors", "[hf_export]") {
  detail::ShardPlan plan(100);
  plan.add("a", 60);
  plan.add("b", 40);
  plan.add("c", 1);
  plan.add("large", 250);
  plan.add("d", 100);
  REQUIRE(plan.shards().size() == 4);
  CHECK(plan.shards()[0] == std::set<std::string>{"a", "b"});
  CHECK(plan.shards()[1] == std::set<std::string>{"c"});
  CHECK(plan.shards()[2] == std::set<std::string>{"large"});
  CHECK(plan.shards()[3] == std::set<std::string>{"d"});
  CHECK(plan.file(1) == "model-00002-of-00004.safetensors");
  const nlohmann::json index = nlohmann::json::parse(plan.index(7));
  CHECK(index.at("metadata") == nlohmann::json{{"total_parameters", 7}, {"total_size", 451}});
  CHECK(index.at("weight_map").size() == 5);
  CHECK(index.at("weight_map").at("large") == "model-00003-of-00004.safetensors");

  detail::ShardPlan one(1000);
  one.add("a", 60);
  one.add("large", 940);
  CHECK(one.shards().size() == 1);
  CHECK(one.file(0) == "model.safetensors");
}

}  // namespace
}  // namespace deltatune
