// P-tuning's encoders and the LSTM in one of them: gradients, and PyTorch's numbers.
#include "deltatune/delta/p_tuning.hpp"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/delta/prompt.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

using Encoder = PTuningConfig::Encoder;

auto lstm_body(Index rows, Index in, Index hidden, bool reversed, bool below, bool accumulate) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    auto& ctx = trial.ctx();
    const auto input = trial.parameter("input", 4 * hidden, in), recurrent = trial.parameter("hidden", 4 * hidden, hidden);
    const auto input_bias = trial.parameter("input_bias", 1, 4 * hidden), hidden_bias = trial.parameter("hidden_bias", 1, 4 * hidden);
    const auto x = accumulate ? trial.parameter("x", rows, in) : below ? trial.input("x", rows, in) : typename check::Trial<X>::Variable{};
    const View<const T> read = x.value ? View<const T>(x.value) : trial.constant(rows, in);
    const auto h = trial.output("h", rows, hidden);
    const View<T> gates = trial.pass().keep(rows, 4 * hidden), cells = trial.pass().keep(rows, hidden);
    const ops::LstmWeights<const T> weights{input.value, recurrent.value, input_bias.value, hidden_bias.value};
    ops::lstm_forward<B, T>(ctx, reversed, read, weights, h.value, gates, cells);
    if (!trial.backward_wanted()) return;
    const View<T> d_gates = trial.pass().take(rows, 4 * hidden), d_cell = trial.pass().take(1, hidden);
    ops::lstm_backward<B, T>(ctx, reversed, read, weights, h.value, gates, cells, h.gradient, d_gates, d_cell,
                             {input.gradient, recurrent.gradient, input_bias.gradient, hidden_bias.gradient}, x.gradient, accumulate);
  };
}

// Rows of an encoder, as a model's slots hold them.
template <class X>
struct Rows {
  Rows(context_of<X>& ctx, Index width, const PTuningConfig& config) : prompt(&input.add("p", Prompt<X>(ctx, width, PromptConfig{.rows = config.rows}))) {
    derived.add("p", PTuning<X>(ctx, prompt->prompt_embeddings(), config, derive(1)));
  }
  template <class F>
  void visit(const F& f) {
    input.visit(f);
    derived.visit(f);
  }

  InputSlot<X> input;
  ParameterSlot<X> derived;
  Prompt<X>* prompt;
};

auto rows_body(const PTuningConfig& config, Index width, const std::vector<std::string>& frozen = {}) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    Pass<X>& pass = trial.pass();
    pass.mode = Mode::train;
    Rows<X> fresh(trial.ctx(), width, config);
    if (!frozen.empty()) freeze(fresh, frozen);
    Rows<X>& rows = trial.own(std::move(fresh));
    const Index sequences = 2;
    const auto y = trial.output("y", sequences * config.rows, width);
    SlotSaved saved;
    rows.derived.forward(pass);
    rows.input.forward(pass, sequences, width, true, saved, [&](Index, Index, View<T> placed) { ops::copy<B, T>(pass.ctx, placed, y.value); });
    if (!trial.backward_wanted()) return;
    rows.input.backward(pass, sequences, width, true, saved, [&](Index, Index, View<T> d_rows) { ops::copy<B, T>(pass.ctx, y.gradient, d_rows); });
    rows.derived.backward(pass);
  };
}

}  // namespace

TEST_CASE("lstm: gradients in both directions", "[ops][lstm]") {
  for (const bool reversed : {false, true}) {
    for (const Index rows : {Index{1}, Index{2}, Index{5}}) {
      test::check_adjoint(lstm_body(rows, 3, 4, reversed, true, false));
      test::check_device(lstm_body(rows, 3, 4, reversed, true, false));
    }
    test::check_adjoint(lstm_body(4, 3, 2, reversed, false, false));
    test::check_adjoint(lstm_body(4, 3, 2, reversed, true, true));
    test::check_device(lstm_body(20, 37, 40, reversed, true, false));
  }
}

TEST_CASE("lstm: PyTorch's numbers, both directions beside each other", "[ops][lstm]") {
  using X = Tensor<double, Reference>;
  Reference::Context ctx;
  const Index rows = 4, in = 3, hidden = 2;
  detail::OwnLstmLayer<X> layer(ctx, "lstm", 0, in, hidden, derive(1));
  Index number = 0;
  std::vector<std::string> paths;
  layer.visit([&](Parameter<X>& p) {  // sin(0), sin(1), ... in PyTorch's order of parameters
    paths.push_back(p.path());
    for (Index i = 0; i < p.size(); ++i) p.value().data[i] = std::sin(static_cast<double>(number++));
  });
  CHECK(paths == std::vector<std::string>{"lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0", "lstm.weight_ih_l0_reverse",
                                          "lstm.weight_hh_l0_reverse", "lstm.bias_ih_l0_reverse", "lstm.bias_hh_l0_reverse"});
  workspace_of<X> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch};
  const View<double> x = pass.keep(rows, in), y = pass.keep(rows, 2 * hidden);
  for (Index i = 0; i < x.size(); ++i) x.data[i] = std::cos(static_cast<double>(i));
  layer.forward(pass, x, y);
  const std::vector<double> expected{0.046353233723, 0.149392342599, -0.050463506918, 0.419323474100, 0.295482529641,  0.032184832555,
                                     0.498947804683, 0.009257471124, 0.150050418173,  0.169734132449, -0.051031325190, 0.366503610673,
                                     0.218118940673, 0.079574918943, 0.480124662415,  0.008915601241};
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(y.data[i] == Approx(expected[i]).margin(1e-11));
}

TEST_CASE("p-tuning: gradients through both encoders", "[delta][p_tuning]") {
  const std::vector<std::pair<PTuningConfig, std::vector<std::string>>> plans{
      {{.rows = 3, .hidden = 5}, {}},
      {{.rows = 3}, {}},
      {{.rows = 1, .encoder = Encoder::lstm, .hidden = 3, .layers = 1}, {}},
      {{.rows = 4, .encoder = Encoder::lstm, .hidden = 3, .layers = 3, .dropout = 0.3}, {}},
      {{.rows = 4, .encoder = Encoder::lstm, .hidden = 3}, {"**.embedding.weight", "**.weight_hh_l1", "**.bias_ih_l0", "**.mlp_head.0.weight"}},
      {{.rows = 3, .hidden = 5}, {"prompt_encoder.mlp_head.*.bias"}},
  };
  for (std::size_t i = 0; i < plans.size(); ++i) {
    INFO("plan " << i);
    test::check_adjoint(rows_body(plans[i].first, 6, plans[i].second));
    test::check_device(rows_body(plans[i].first, 6, plans[i].second));
  }
  test::check_device(rows_body({.rows = 17, .encoder = Encoder::lstm, .hidden = 30}, 33));
}

TEST_CASE("p-tuning: both encoders give the numbers of PEFT's PromptEncoder", "[delta][p_tuning]") {
  using X = Tensor<double, Reference>;
  Reference::Context ctx;
  const auto check = [&](const PTuningConfig& config, const std::vector<double>& expected) {
    Rows<X> rows(ctx, 2, config);
    Index number = 0;
    rows.derived.visit([&](Parameter<X>& p) {  // cos(0), cos(0.7), ... in the order of its parameters
      for (Index i = 0; i < p.size(); ++i) p.value().data[i] = std::cos(0.7 * static_cast<double>(number++));
    });
    rows.derived.evaluate("p", ctx);
    const View<const double> values = rows.prompt->prompt_embeddings().value();
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK(values.data[i] == Approx(expected[i]).margin(1e-11));
  };
  check({.rows = 3, .hidden = 2}, {-0.952952916887, -0.924132800073, -0.767444191422, -1.057400615268, -0.952952916887, -0.924132800073});
  check({.rows = 3, .encoder = Encoder::lstm, .hidden = 2}, {-0.004671669907, 0.547874439786, 0.031320908991, 0.485442535956, 0.034215434780, 0.480421757750});
}

TEST_CASE("p-tuning: what counts is what the header says, rows can be had without a pass", "[delta][p_tuning]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  const Index p = 3, c = 6, h = 5;
  Rows<X> mlp(ctx, c, {.rows = p, .hidden = h});
  CHECK(trainable_count(mlp) == p * c + h * (c + 1) + h * (h + 1) + c * (h + 1));
  Rows<X> lstm(ctx, c, {.rows = p, .encoder = Encoder::lstm, .hidden = h, .layers = 2});
  CHECK(trainable_count(lstm) == p * c + 8 * h * (c + h + 2) + 8 * h * (2 * h + h + 2) + 2 * h * (2 * h + 1) + c * (2 * h + 1));
  CHECK(lstm.derived.position_shift() == 0);

  for (Rows<X>* const rows : {&mlp, &lstm}) {
    rows->derived.evaluate("p", ctx);
    const auto evaluated = test::on_host<X>(ctx, rows->prompt->prompt_embeddings().value());
    CHECK(evaluated[0] != 0.0F);
    workspace_of<X> saved(ctx), scratch(ctx);
    Pass<X> pass{ctx, saved, scratch};
    rows->derived.forward(pass);
    CHECK(test::on_host<X>(ctx, rows->prompt->prompt_embeddings().value()) == evaluated);
  }
}

TEST_CASE("p-tuning: settings that make no sense", "[delta][p_tuning]") {
  CHECK_THAT(test::error_text([] { PTuningConfig{.rows = 0}.validate("plan"); }), Catch::Contains("plan: num_virtual_tokens"));
  CHECK_THAT(test::error_text([] { PTuningConfig{.hidden = -2}.validate("plan"); }), Catch::Contains("plan: encoder_hidden_size"));
  CHECK_THAT(test::error_text([] { PTuningConfig{.layers = 0}.validate("plan"); }), Catch::Contains("plan: encoder_num_layers"));
  CHECK_THAT(test::error_text([] { PTuningConfig{.dropout = -0.1}.validate("plan"); }), Catch::Contains("plan: encoder_dropout"));
}
