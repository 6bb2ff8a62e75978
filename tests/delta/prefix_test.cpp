// Prefixes in attention layers: gradients with and without encoder, gates and dropout, where they come from and where the gradient goes.
#include "deltatune/delta/prefix.hpp"

#include <string>
#include <utility>
#include <vector>

#include "deltatune/nn/attention.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

using Gates = PrefixConfig::Gates;

struct PrefixCase {
  PrefixConfig prefix = {};
  bool below = true;  // something below wants dx
  bool causal = false;
  bool base_trains = false;
  bool other = false;  // a second prefix at the same layers
  std::vector<std::string> frozen = {};
};

// Two attention layers one behind the other, with a prefix each.
template <class X>
struct Layers {
  Layers(context_of<X>& ctx, const PrefixCase& plan, Index width, Index heads) {
    std::vector<Parameter<X>*> rows, others;
    PrefixConfig other{.rows = 2};
    for (const std::string path : {"first", "second"}) {
      layers.emplace_back(path, Linear<X>(ctx, width, {{path + ".query", width}, {path + ".key", width}, {path + ".value", width}}),
                          Linear<X>(ctx, width, {{path + ".output", width}}),
                          AttentionConfig{.heads = heads, .dropout = plan.prefix.dropout, .causal = plan.causal});
    }
    for (SelfAttention<X>& layer : layers) {
      KvSite<X>& site = layer.site();
      rows.push_back(&site.deltas.add("prefix", PrefixRows<X>(ctx, site.path, site.input_width, site.width, plan.prefix, derive(1))).kv());
      if (plan.other)
        others.push_back(&site.deltas.add("other", PrefixRows<X>(ctx, site.path + ".other", site.input_width, site.width, other, derive(2))).kv());
    }
    derived.add("prefix", Prefix<X>(ctx, rows, width, plan.prefix, derive(3)));
    if (plan.other) derived.add("other", Prefix<X>(ctx, others, width, other, derive(4)));
  }

  template <class F>
  void visit(const F& f) {
    for (SelfAttention<X>& layer : layers) layer.visit(f);
    derived.visit(f);
  }

  std::vector<SelfAttention<X>> layers;
  ParameterSlot<X> derived;
};

auto layers_body(const PrefixCase& plan, const std::vector<Index>& lengths, Index width, Index heads) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    Pass<X>& pass = trial.pass();
    pass.mode = Mode::train;
    Layers<X> fresh(trial.ctx(), plan, width, heads);
    if (plan.base_trains) unfreeze(fresh, {"first.key.**", "second.query.weight"});
    if (!plan.frozen.empty()) freeze(fresh, plan.frozen);
    Layers<X>& layers = trial.own(std::move(fresh));
    const Sequences sequences = trial.sequences(lengths);
    pass.sequences = &sequences;
    View<const T> x;
    View<T> dx;
    if (plan.below) {
      const auto input = trial.input("x", sequences.rows, width);
      x = input.value;
      dx = input.gradient;
    } else {
      x = trial.constant(sequences.rows, width);
    }
    const View<T> between = pass.keep(sequences.rows, width);
    const auto y = trial.output("y", sequences.rows, width);
    typename SelfAttention<X>::Saved saved[2];
    layers.derived.forward(pass);
    layers.layers[0].forward(pass, sequences, x, between, saved[0]);
    layers.layers[1].forward(pass, sequences, between, y.value, saved[1]);
    if (!trial.backward_wanted()) return;
    const View<T> d_between = pass.take(sequences.rows, width);
    const auto input_of = [](const SelfAttention<X>& layer, View<const T> input) { return layer.needs_input() ? input : View<const T>(); };
    layers.layers[1].backward(pass, saved[1], input_of(layers.layers[1], between), y.gradient, GradientSink<T>::fresh(d_between));
    layers.layers[0].backward(pass, saved[0], input_of(layers.layers[0], x), d_between, plan.below ? GradientSink<T>::fresh(dx) : GradientSink<T>::none());
    layers.derived.backward(pass);
  };
}

}  // namespace

TEST_CASE("prefix: gradients, flat and with an encoder, gated or not", "[delta][prefix]") {
  const std::vector<PrefixCase> plans{
      {.prefix = {.rows = 3}},
      {.prefix = {.rows = 1}, .below = false},
      {.prefix = {.rows = 3, .hidden = 5}},
      {.prefix = {.rows = 3, .hidden = 5, .activation = ops::Activation::gelu}, .below = false, .causal = true},
      {.prefix = {.rows = 3, .dropout = 0.3}, .base_trains = true},
      {.prefix = {.rows = 3, .gates = Gates::shared}},
      {.prefix = {.rows = 3, .gates = Gates::separate}, .below = false},
      {.prefix = {.rows = 4, .hidden = 5, .dropout = 0.3, .gates = Gates::separate}, .causal = true},
      {.prefix = {.rows = 2, .hidden = 5, .gates = Gates::shared}, .base_trains = true, .other = true},
      {.prefix = {.rows = 3, .gates = Gates::separate}, .frozen = {"**.prefix_gate.weight"}},
      {.prefix = {.rows = 3, .gates = Gates::separate}, .frozen = {"**.prefix", "prompt_embeddings"}},
      {.prefix = {.rows = 3, .hidden = 5}, .frozen = {"prompt_encoder.transform.**"}},
      {.prefix = {.rows = 3, .hidden = 5}, .frozen = {"prompt_encoder.embedding.weight", "prompt_encoder.transform.2.weight"}},
  };
  for (std::size_t i = 0; i < plans.size(); ++i) {
    INFO("plan " << i);
    test::check_adjoint(layers_body(plans[i], {4, 1, 3}, 6, 2));
    test::check_device(layers_body(plans[i], {4, 1, 3}, 6, 2), 5e-5);
  }
  test::check_device(layers_body({.prefix = {.rows = 13, .hidden = 21, .gates = Gates::separate}}, {9, 30, 17}, 48, 4));
}

TEST_CASE("prefix: its keys and values are those of tokens that stand before all others", "[delta][prefix]") {
  using X = Tensor<double, Reference>;
  Reference::Context ctx;
  const Index width = 6, rows = 2, tokens = 3;
  check::Trial<X> trial(ctx, {.seed = 4});
  const PrefixCase plan{.prefix = {.rows = rows}, .causal = true};
  Layers<X>& layers = trial.own(Layers<X>(ctx, plan, width, 2));
  SelfAttention<X>& layer = layers.layers[1];
  // The same with tokens in front whose projections are the prefix.
  const auto x = trial.input("x", rows + tokens, width);
  Pass<X>& pass = trial.pass();
  const Sequences longer = trial.sequences({rows + tokens}), shorter = trial.sequences({tokens});
  pass.sequences = &shorter;
  typename SelfAttention<X>::Saved saved;
  const View<double> with_prefix = pass.keep(tokens, width), with_tokens = pass.keep(rows + tokens, width);
  layers.layers[1].site().deltas.set_enabled("prefix", false);
  layer.forward(pass, longer, x.value, with_tokens, saved);
  layers.layers[1].site().deltas.set_enabled("prefix", true);
  View<double> prompt;
  layers.derived.visit([&](Parameter<X>& p) { prompt = p.value(); });
  // Row p of E: key and value of the first layer, then of the second, heads one after another within.
  ops::copy<Reference, double>(ctx, saved.qkv.read(pass).column_range(width, 2 * width).row_range(0, rows), prompt.column_range(2 * width, 2 * width));
  layers.derived.forward(pass);
  layer.forward(pass, shorter, x.value.row_range(rows, tokens), with_prefix, saved);
  for (Index i = 0; i < tokens; ++i)
    for (Index j = 0; j < width; ++j) CHECK(with_prefix(i, j) == Approx(with_tokens(rows + i, j)).epsilon(1e-12));
}

TEST_CASE("prefix: closed gates let nothing through, open ones all", "[delta][prefix]") {
  using X = Tensor<double, Reference>;
  Reference::Context ctx;
  PrefixRows<X> rows(ctx, "layer", 4, 4, {.rows = 2, .gates = Gates::separate}, derive(1));
  check::Trial<X> trial(ctx, {});
  const Sequences sequences = trial.sequences({3, 1});
  trial.pass().sequences = &sequences;
  rows.visit([&](Parameter<X>& p) {
    Reference::fill(ctx, p.value(), p.path() == "layer.prefix" ? 2.0 : 0.0);
    if (p.path() == "layer.prefix_gate.bias") p.value()(0, 0) = -800, p.value()(0, 1) = 800;
  });
  const View<double> kv = trial.pass().take(4, 8);
  PrefixRows<X>::Saved saved;
  rows.forward(trial.pass(), trial.constant(4, 4), kv, saved);
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 8; ++j) CHECK(kv(i, j) == (j < 4 ? 0.0 : 2.0));
}

TEST_CASE("prefix: what counts is what the header says", "[delta][prefix]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  const auto counted = [&](const PrefixConfig& config) {
    Layers<X> layers(ctx, {.prefix = config}, 6, 2);
    CHECK(layers.derived.position_shift() == (config.shifts_positions ? config.rows : 0));
    return trainable_count(layers);
  };
  const Index c = 6, l = 2;
  CHECK(counted({.rows = 3}) == 3 * l * 2 * c);
  CHECK(counted({.rows = 3, .hidden = 5, .shifts_positions = false}) == 3 * c + 5 * (c + 1) + l * 2 * c * (5 + 1));
  CHECK(counted({.rows = 3, .gates = Gates::shared}) == 3 * l * 2 * c + l * (c + 1));
  CHECK(counted({.rows = 3, .gates = Gates::separate}) == 3 * l * 2 * c + l * 2 * (c + 1));
}

TEST_CASE("prefix: an encoder's rows can be had without a pass", "[delta][prefix]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  Layers<X> layers(ctx, {.prefix = {.rows = 3, .hidden = 5}}, 6, 2);
  Parameter<X>* prompt = nullptr;
  layers.derived.visit([&](Parameter<X>& p) {
    if (p.path() == "prompt_embeddings") prompt = &p;
  });
  REQUIRE(prompt != nullptr);
  CHECK(prompt->derived());
  for (const float value : test::on_host<X>(ctx, prompt->value())) CHECK(value == 0.0F);
  layers.derived.evaluate("prefix", ctx);
  const auto evaluated = test::on_host<X>(ctx, prompt->value());
  workspace_of<X> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch};
  layers.derived.forward(pass);
  CHECK(test::on_host<X>(ctx, prompt->value()) == evaluated);
  CHECK(evaluated[0] != 0.0F);
}

TEST_CASE("prefix: settings that make no sense", "[delta][prefix]") {
  CHECK_THAT(test::error_text([] { PrefixConfig{.rows = 0}.validate("plan"); }), Catch::Contains("plan: num_virtual_tokens") && Catch::Contains("at least 1"));
  CHECK_THAT(test::error_text([] { PrefixConfig{.hidden = -1}.validate("plan"); }), Catch::Contains("plan: encoder_hidden_size") && Catch::Contains("got -1"));
  CHECK_THAT(test::error_text([] { PrefixConfig{.dropout = 1}.validate("plan"); }), Catch::Contains("plan: dropout") && Catch::Contains("0 <= p < 1"));
}
