// (IA)3 in a layer: at the output, where the bias is scaled as well, and at the input.
#include "deltatune/delta/ia3.hpp"

#include "support/weight_delta.hpp"

using namespace deltatune;

namespace {

// "first" is scaled at its output, or at its input; "second" at both.
auto ia3_sites(bool first_at_input) {
  return [=](auto& trial) {
    return [&trial, first_at_input]<class X>(LinearSite<X>& site) {
      const Index in = site.weight.shape()[1], out = site.width;
      site.deltas.add("delta", Ia3<X>(trial.ctx(), site.path, in, out, first_at_input || site.path == "second"));
      if (site.path == "second") site.deltas.add("another", Ia3<X>(trial.ctx(), site.path + ".another", in, out, false));
    };
  };
}

}  // namespace

TEST_CASE("ia3: gradients, on every path through the layer", "[delta][ia3]") {
  test::check_layers(ia3_sites(false));
  test::check_layers(ia3_sites(true));
}

TEST_CASE("ia3: merged equals attached", "[delta][ia3]") {
  test::DeviceContext ctx(1);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, ia3_sites(false), 9, 33, 17) < 1e-5);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, ia3_sites(true), 9, 33, 17) < 1e-5);
}

TEST_CASE("ia3: starts as ones, out or in parameters", "[delta][ia3]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  Ia3<X> at_output(ctx, "site", 4, 3, false), at_input(ctx, "site", 4, 3, true);
  CHECK(at_output.factors().path() == "site.ia3_l");
  CHECK(at_output.factors().shape() == Shape{3, 1});
  CHECK(at_input.factors().shape() == Shape{1, 4});
  CHECK(test::on_host<X>(ctx, at_output.factors().value()) == std::vector<float>(3, 1.0F));
  CHECK(test::on_host<X>(ctx, at_input.factors().value()) == std::vector<float>(4, 1.0F));
}
