// VeRA in a layer: sites of different sizes that share one pair of factors.
#include "deltatune/delta/vera.hpp"

#include "support/weight_delta.hpp"

using namespace deltatune;

namespace {

// The factors are larger than either site needs.
auto vera_sites(double dropout) {
  return [=]<class Y>(check::Trial<Y>& trial) {
    VeraProjection<Y>& projection = trial.own(VeraProjection<Y>(trial.ctx(), 3, 70, 50, derive(1), derive(2)));
    return [&trial, &projection, dropout]<class X>(LinearSite<X>& site) {
      const VeraConfig config{.rank = 3, .dropout = dropout};
      site.deltas.add("delta", Vera<X>(trial.ctx(), site.path, site.weight.shape()[1], site.width, config, projection));
    };
  };
}

}  // namespace

TEST_CASE("vera: gradients, on every path through the layer", "[delta][vera]") {
  test::check_layers(vera_sites(0));
  test::check_layers(vera_sites(0.3));
}

TEST_CASE("vera: merged equals attached", "[delta][vera]") {
  test::DeviceContext ctx(1);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, vera_sites(0), 9, 33, 17) < 1e-5);
}

TEST_CASE("vera: names, counts and start, and the shared factors never train", "[delta][vera]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  VeraProjection<X> projection(ctx, 3, 8, 6, derive(1), derive(2));
  Vera<X> vera(ctx, "site", 4, 6, {.rank = 3, .d_initial = 0.5}, projection);
  Index count = 0;
  std::vector<std::string> names;
  vera.visit([&](Parameter<X>& p) {
    count += p.size();
    names.push_back(p.path());
    CHECK(test::on_host<X>(ctx, p.value()) == std::vector<float>(static_cast<std::size_t>(p.size()), p.size() == 3 ? 0.5F : 0.0F));
  });
  CHECK(count == 3 + 6);
  CHECK(names == std::vector<std::string>{"site.vera_lambda_b", "site.vera_lambda_d"});
  projection.visit([&](Parameter<X>& p) {
    p.set_mask(FreezeMask::trainable());
    CHECK_FALSE(p.trains());
    const double bound = std::sqrt(6.0 / static_cast<double>(p.shape()[1]));
    double largest = 0;
    for (const float x : test::on_host<X>(ctx, p.value())) largest = std::max(largest, std::fabs(static_cast<double>(x)));
    CHECK(largest <= bound);
    CHECK(largest > 0.7 * bound);
  });
}
