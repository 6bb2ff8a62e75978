// The choice of cases that stands for all of them (support/conformance_cases.hpp) has every method.
#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "deltatune/attach/any_plan.hpp"
#include "support/conformance_cases.hpp"

namespace {

using namespace deltatune;

// A new plan is in AnyPlan, so its cases cannot be forgotten. By name: those that several methods share a plan for.
template <class... Plans>
std::set<std::string> methods_of(std::type_identity<std::variant<Plans...>>) {
  std::set<std::string> methods{"dora", "full", "bitfit", "head", "houlsby", "pfeiffer", "parallel", "compacter", "mam", "unipelt"};
  const auto add = [&]<class Plan>(std::type_identity<Plan>) {
    if constexpr (std::is_same_v<Plan, DiffPruningPlan>) return;  // no library has it: tests/contract, tests/delta
    if constexpr (requires { Plan::kMethod; } && !std::is_same_v<Plan, SelectionPlan>) methods.insert(Plan::kMethod);  // of the others, the names above
  };
  (add(std::type_identity<Plans>{}), ...);
  return methods;
}

}  // namespace

TEST_CASE("the covering choice has every method of every family and library", "[conformance]") {
  const std::vector<test::ConformanceCase> all = test::conformance_cases(), chosen = test::covering_choice(all);
  CHECK(all.size() >= 150);
  CHECK(chosen.size() < 2 * all.size() / 3);
  const auto has = [&](const auto& same) { return std::any_of(chosen.begin(), chosen.end(), same); };
  for (const std::string& method : methods_of(std::type_identity<AnyPlan>{})) {
    for (const std::string family : {"bert", "gpt2"}) {
      if (method == MissPlan::kMethod && family == "gpt2") continue;  // whose layers PEFT's MiSS does not take
      INFO(method << " on " << family);
      CHECK(has([&](const auto& c) { return c.family == family && c.method == method; }));
    }
  }
  for (const test::ConformanceCase& given : all) {
    INFO(given.name);
    CHECK(has([&](const auto& c) { return c.family == given.family && c.library == given.library && c.method == given.method; }));
  }
}
