// Bottleneck adapters: gradients in every arrangement, with a norm behind (BERT) and without (GPT-2), dense and as PHM layers.
#include "deltatune/delta/bottleneck.hpp"

#include <catch2/catch.hpp>

#include "support/gradient_checks.hpp"

namespace {

using namespace deltatune;

struct Case {
  const char* name;
  BottleneckConfig config;
};

// What several layers may share, as its owner holds it.
template <class X>
struct SharedRule {
  detail::OwnParameter<X> rule;
  template <class F>
  void visit(const F& f) {
    if (rule) f(*rule);
  }
};

auto body(const Case& c, const std::vector<Index>& lengths, Index width, bool with_norm) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    using B = backend_of<X>;
    auto& ctx = trial.ctx();
    Pass<X>& pass = trial.pass();
    pass.mode = Mode::train;
    const Sequences sequences = trial.sequences(lengths);
    pass.sequences = &sequences;
    const Index rows = sequences.rows;
    SharedPhm<X> shared;
    if (c.config.phm && c.config.phm->shared_rule) {
      SharedRule<X>& owner = trial.own(SharedRule<X>{{ctx, "phm_rule", {c.config.phm->dim, c.config.phm->dim, c.config.phm->dim}}});
      shared.down.rule = shared.up.rule = &*owner.rule;
    }
    Bottleneck<X>& delta = trial.own(Bottleneck<X>(ctx, "place", width, c.config, derive(7), shared));
    const auto residual = trial.input("residual", rows, width), h = trial.input("h", rows, width), out = trial.output("out", rows, width);
    const auto scale = trial.parameter("scale", 1, width), shift = trial.parameter("shift", 1, width);
    ResidualNorm<X> norm;
    if (with_norm) norm = {scale.value, shift.value, 1e-6, scale.gradient, shift.gradient};
    typename Bottleneck<X>::Saved saved;
    ops::copy<B, T>(ctx, h.value, out.value);
    delta.forward(pass, norm, residual.value, out.value, saved);
    if (trial.backward_wanted()) {
      GradientSink<T> d_residual = GradientSink<T>::accumulating(residual.gradient);
      B::fill(ctx, residual.gradient, T(0));
      delta.backward(pass, norm, saved, delta.needs_residual() ? residual.value : View<T>(), out.gradient, d_residual);
      ops::copy<B, T>(ctx, out.gradient, h.gradient);
    }
    pass.sequences = nullptr;
  };
}

std::vector<Case> cases() {
  using C = BottleneckConfig;
  const ops::Activation swish = ops::Activation::silu;
  return {{"Houlsby", {.bottleneck = 4, .activation = swish}},
          {"Pfeiffer", {.bottleneck = 4, .activation = swish, .original_ln_before = true}},
          {"parallel", {.bottleneck = 4, .activation = swish, .parallel = true, .scale = 4}},
          {"parallel with a norm behind", {.bottleneck = 4, .activation = swish, .parallel = true, .ln_after = true}},
          {"norm before", {.bottleneck = 4, .activation = swish, .ln_before = true}},
          {"norms before and behind", {.bottleneck = 4, .activation = swish, .ln_before = true, .ln_after = true}},
          {"sum before its norm", {.bottleneck = 4, .activation = swish, .ln_after = true, .residual_before_ln_after = true}},
          {"residual behind the norm", {.bottleneck = 4, .activation = swish, .original_ln_before = true, .residual = C::Residual::after_ln}},
          {"residual after the sum", {.bottleneck = 4, .activation = swish, .original_ln_before = true, .residual = C::Residual::post_add}},
          {"a result of its own", {.bottleneck = 4, .activation = swish, .original_ln_before = true, .original_ln_after = false}},
          {"learnt scale", {.bottleneck = 4, .activation = swish, .scaling = C::Scaling::learned}},
          {"a scale for each channel", {.bottleneck = 4, .activation = swish, .scaling = C::Scaling::channel, .dropout = 0.3}},
          {"gated", {.bottleneck = 4, .activation = swish, .gated = true, .dropout = 0.3}},
          {"gated, channels, depth", {.bottleneck = 4, .activation = swish, .scaling = C::Scaling::channel, .gated = true, .stochastic_depth = 0.4}},
          {"PHM, shared rule", {.bottleneck = 4, .activation = swish, .phm = PhmConfig{.dim = 2}}},
          {"PHM, own rule, rank 2", {.bottleneck = 4, .activation = swish, .phm = PhmConfig{.dim = 2, .rank = 2, .shared_rule = false}}},
          {"PHM, factorised rule", {.bottleneck = 4, .activation = swish, .phm = PhmConfig{.dim = 2, .factorised_rule = true, .shared_rule = false}}},
          {"PHM, whole weight",
           {.bottleneck = 4, .activation = swish, .phm = PhmConfig{.dim = 2, .factorised_weight = false, .shared_rule = false, .bias = false}}}};
}

}  // namespace

TEST_CASE("bottleneck: gradients in every arrangement", "[delta][bottleneck]") {
  for (const Case& c : cases())
    for (const bool with_norm : {true, false}) {
      INFO(c.name << (with_norm ? "" : ", no norm"));
      test::check_adjoint(body(c, {3, 1, 2}, 6, with_norm));
      test::check_device(body(c, {3, 1, 2}, 6, with_norm), 5e-5);
    }
  test::check_device(body(cases()[1], {40, 7, 21}, 64, true), 5e-5);
}

TEST_CASE("bottleneck: numbers of parameters, and mistakes", "[delta][bottleneck]") {
  using X = Tensor<float, Reference>;
  Reference::Context ctx;
  const auto count = [&](BottleneckConfig config) {
    Bottleneck<X> delta(ctx, "place", 12, config, derive(1));
    return parameter_count(delta);
  };
  CHECK(count({.bottleneck = 4}) == 4 * 25 + 12);
  CHECK(count({.bottleneck = 4, .ln_before = true, .ln_after = true}) == 4 * 25 + 12 + 48);
  CHECK(count({.bottleneck = 4, .gated = true}) == 4 * 25 + 12 + 13);
  CHECK(count({.bottleneck = 4, .scaling = BottleneckConfig::Scaling::channel}) == 4 * 25 + 12 + 12);
  CHECK(count({.bottleneck = 4, .phm = PhmConfig{.dim = 4, .shared_rule = false}}) == 2 * 64 + 2 * 4 * (3 + 1) + 4 + 12);
  const BottleneckConfig odd{.bottleneck = 3, .phm = PhmConfig{.dim = 4}};
  CHECK_THROWS_WITH(odd.validate("here", 12), Catch::Contains("phm_dim") && Catch::Contains("12 and 3"));
  const BottleneckConfig nowhere{.residual = BottleneckConfig::Residual::post_add};
  CHECK_THROWS_WITH(nowhere.validate("here", 12), Catch::Contains("post_add"));
}
