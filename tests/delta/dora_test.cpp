// DoRA in a layer: gradients (none through the lengths), the lengths without an (out, in) product, merge.
#include "deltatune/delta/dora.hpp"

#include <cmath>

#include "support/weight_delta.hpp"

using namespace deltatune;

namespace {

auto dora_sites(double dropout, bool beside = false) {
  return [=](auto& trial) {
    return [&trial, dropout, beside]<class X>(LinearSite<X>& site) {
      const LoraConfig config{.rank = site.path == "first" ? 2 : 3, .alpha = 3, .dropout = dropout};
      site.deltas.add("delta", Dora<X>(trial.ctx(), site.path, site.weight, config, derive(1)));
      if (beside) site.deltas.add("lora", Lora<X>(trial.ctx(), site.path + ".beside", site.weight.shape()[1], site.width, config, derive(2)));
    };
  };
}

}  // namespace

TEST_CASE("dora: gradients, on every path through the layer", "[delta][dora]") {
  test::check_layers(dora_sites(0));
  test::check_layers(dora_sites(0.3));
  test::check_layers(dora_sites(0, true));
}

TEST_CASE("dora: merged equals attached", "[delta][dora]") {
  test::DeviceContext ctx(1);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, dora_sites(0), 9, 33, 17) < 1e-5);
}

TEST_CASE("dora: starts as nothing, with the lengths of the weight's rows", "[delta][dora]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  Linear<X> layer(ctx, 2, {{"site", 3}});
  layer.visit_sites([&](LinearSite<X>& site) {
    test::from_host<X>(ctx, {3, 4, 0, 2, -5, 12}, site.weight.value());
    Dora<X>& dora = site.deltas.add("delta", Dora<X>(ctx, "site", site.weight, {.rank = 1}, derive(1)));
    CHECK(test::on_host<X>(ctx, dora.magnitude().value()) == std::vector<float>{5, 2, 13});
    CHECK(dora.magnitude().path() == "site.lora_magnitude_vector");
    Index count = 0;
    dora.visit([&](Parameter<X>& p) { count += p.size(); });
    CHECK(count == 1 * (2 + 3) + 3);
    const std::vector<float> before = test::on_host<X>(ctx, site.weight.value());
    dora.merge(ctx, site.weight.value(), {});
    CHECK(test::on_host<X>(ctx, site.weight.value()) == before);
  });
}
