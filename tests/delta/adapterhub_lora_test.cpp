// AdapterHub's LoRA, (IA)3 and DoRA in a layer: gradients with parts, gates and dropout, merges, starts.
#include "deltatune/delta/adapterhub_lora.hpp"

#include "deltatune/delta/adapterhub_dora.hpp"
#include "deltatune/delta/adapterhub_ia3.hpp"
#include "support/weight_delta.hpp"

using namespace deltatune;

namespace {

// "first" has 3 parts where the width allows; "second" is whole.
OutputParts parts_of(Index out, std::vector<Index> chosen) { return out % 3 == 0 ? OutputParts{3, std::move(chosen)} : OutputParts{}; }

auto prepare_lora(bool gated, double dropout, std::vector<Index> chosen) {
  return [=](auto& trial) {
    trial.pass().sequences = nullptr;
    return [&trial, gated, dropout, chosen]<class X>(LinearSite<X>& site) {
      const Index in = site.weight.shape()[1], out = site.width;
      site.deltas.add("delta", AdapterHubLora<X>(trial.ctx(), site.path, in, out,
                                                 {{.rank = 2, .alpha = 3, .dropout = dropout}, gated, false, parts_of(out, chosen)}, derive(5)));
    };
  };
}

// A layer of one site with sequences of these lengths.
auto gated_body(const std::vector<Index>& lengths, Index in, Index out, AdapterHubLoraConfig config, std::vector<std::string> frozen, bool below) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    Pass<X>& pass = trial.pass();
    pass.mode = Mode::train;
    Linear<X> fresh(trial.ctx(), in, {{"site", out}});
    fresh.visit_sites([&](LinearSite<X>& site) { site.deltas.add("delta", AdapterHubLora<X>(trial.ctx(), site.path, in, out, config, derive(5))); });
    if (!frozen.empty()) freeze(fresh, frozen);
    Linear<X>& layer = trial.own(std::move(fresh));
    const Sequences sequences = trial.sequences(lengths);
    pass.sequences = &sequences;
    View<const T> x;
    View<T> dx;
    if (below) {
      const auto input = trial.input("x", sequences.rows, in);
      x = input.value;
      dx = input.gradient;
    } else {
      x = trial.constant(sequences.rows, in);
    }
    const auto y = trial.output("y", sequences.rows, out);
    typename Linear<X>::Saved saved;
    layer.forward(pass, x, y.value, saved);
    if (!trial.backward_wanted()) return;
    layer.backward(pass, saved, layer.needs_input() ? x : View<const T>(), y.gradient, below ? GradientSink<T>::fresh(dx) : GradientSink<T>::none());
  };
}

auto prepare_ia3(std::vector<Index> chosen) {
  return [=](auto& trial) {
    return [&trial, chosen]<class X>(LinearSite<X>& site) {
      site.deltas.add("delta", AdapterHubIa3<X>(trial.ctx(), site.path, site.width, parts_of(site.width, chosen)));
    };
  };
}

auto prepare_dora(double dropout) {
  return [=](auto& trial) {
    return [&trial, dropout]<class X>(LinearSite<X>& site) {
      site.deltas.add("delta", AdapterHubDora<X>(trial.ctx(), site.path, site.weight, {.rank = 2, .alpha = 3, .dropout = dropout}, derive(5)));
    };
  };
}

}  // namespace

TEST_CASE("AdapterHub's LoRA: gradients of parts of a layer", "[delta][adapterhub_lora]") {
  test::check_layers(prepare_lora(false, 0.0, {0, 2}));
  test::check_layers(prepare_lora(false, 0.3, {1}));
}

TEST_CASE("AdapterHub's LoRA: gradients with gates", "[delta][adapterhub_lora]") {
  const std::vector<Index> lengths{4, 1, 3};
  const AdapterHubLoraConfig whole{{.rank = 2, .alpha = 3}, true, false, {}}, parts{{.rank = 2, .alpha = 3, .dropout = 0.3}, true, false, {3, {1, 2}}};
  for (const AdapterHubLoraConfig& config : {whole, parts}) {
    test::check_adjoint(gated_body(lengths, 5, 6, config, {}, true));
    test::check_adjoint(gated_body(lengths, 5, 6, config, {}, false));
    test::check_adjoint(gated_body(lengths, 5, 6, config, {"**.lora_gate.**"}, true));
    test::check_adjoint(gated_body(lengths, 5, 6, config, {"**.lora_A.weight", "**.lora_B.weight"}, false));
    test::check_adjoint(gated_body(lengths, 5, 6, config, {"site.weight", "**.lora_B.weight"}, true));
    test::check_device(gated_body(lengths, 5, 6, config, {}, true));
    test::check_device(gated_body({31, 2, 40}, 45, 33, config, {}, true));
  }
}

TEST_CASE("AdapterHub's LoRA: merged equals attached", "[delta][adapterhub_lora]") {
  test::DeviceContext ctx(1);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, prepare_lora(false, 0.0, {0, 2}), 9, 33, 15) < 1e-5);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, prepare_ia3({0, 2}), 9, 33, 15) < 1e-5);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, prepare_dora(0.0), 9, 33, 15) < 1e-5);
}

TEST_CASE("AdapterHub's (IA)3: gradients of parts of a layer", "[delta][adapterhub_ia3]") {
  test::check_layers(prepare_ia3({0, 2}));
  test::check_layers(prepare_ia3({1}));
}

TEST_CASE("AdapterHub's DoRA: gradients, through the lengths", "[delta][adapterhub_dora]") {
  test::check_layers(prepare_dora(0.0));
  test::check_layers(prepare_dora(0.3));
}

TEST_CASE("AdapterHub's LoRA, (IA)3 and DoRA: shapes, parameter counts, starts", "[delta][adapterhub_lora]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  AdapterHubLora<X> lora(ctx, "site", 4, 6, {{.rank = 2}, true, false, {3, {0, 2}}}, derive(1));
  CHECK(parameter_count(lora) == 2 * 2 * (4 + 2) + 2 * (4 + 1));
  lora.visit([&](Parameter<X>& p) {
    if (p.path() != "site.lora_B.weight") return;
    CHECK(p.shape() == Shape{4, 2});
    CHECK(test::on_host<X>(ctx, p.value()) == std::vector<float>(8, 0.0F));
  });
  AdapterHubIa3<X> ia3(ctx, "site", 6, {3, {1}});
  CHECK(parameter_count(ia3) == 2);
  Linear<X> layer(ctx, 4, {{"site", 3}});
  layer.visit_sites([&](LinearSite<X>& site) {
    test::from_host<X>(ctx, {3, 4, 0, 0, 0, 0, 0, 2, 1, 1, 1, 1}, site.weight.value());
    AdapterHubDora<X> dora(ctx, site.path, site.weight, {.rank = 2}, derive(1));
    CHECK(parameter_count(dora) == 2 * (4 + 3) + 3);
    dora.visit([&](Parameter<X>& p) {
      if (p.path().ends_with("magnitude_vector")) CHECK(test::on_host<X>(ctx, p.value()) == std::vector<float>{5, 2, 2});
    });
  });
}
