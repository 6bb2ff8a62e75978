// MiSS in a layer: with shards that divide the inputs and shards that do not, balanced and mini, with dropout and without.
#include "deltatune/delta/miss.hpp"

#include <catch2/catch.hpp>

#include "support/error_text.hpp"
#include "support/weight_delta.hpp"

using namespace deltatune;

namespace {

auto miss_sites(const MissConfig& config) {
  return [=](auto& trial) {
    return [&trial, config]<class X>(LinearSite<X>& site) {
      site.deltas.add("delta", Miss<X>(trial.ctx(), site.path, site.weight.shape()[1], site.width, config));
    };
  };
}

}  // namespace

TEST_CASE("miss: gradients, on every path through the layer", "[delta][miss]") {
  for (const Index rank : {1, 2, 3}) test::check_layers(miss_sites({.rank = rank}));
  test::check_layers(miss_sites({.rank = 3, .mini = 1}));
  test::check_layers(miss_sites({.rank = 2, .dropout = 0.3}));
}

TEST_CASE("miss: merged equals attached", "[delta][miss]") {
  test::DeviceContext ctx(1);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, miss_sites({.rank = 5}), 9, 33, 17) < 1e-5);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, miss_sites({.rank = 11, .mini = 1}), 9, 33, 17) < 1e-5);
}

TEST_CASE("miss: sizes that do not fit a layer are refused", "[delta][miss]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  CHECK_THAT(test::error_text([&] { Miss<X>(ctx, "site", 4, 6, {.rank = 5}); }), Catch::Contains("site") && Catch::Contains("at most 4"));
  CHECK_THAT(test::error_text([&] { Miss<X>(ctx, "site", 4, 6, {.rank = 2, .mini = 4}); }), Catch::Contains("mini_r") && Catch::Contains("divisor of 6"));
  CHECK_THROWS_AS(MissConfig{.rank = 0}.validate("plan"), Error);
}
