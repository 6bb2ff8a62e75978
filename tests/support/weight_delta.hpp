// Weight deltas of any method in a linear layer: every path through it, and what a merge does.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deltatune/nn/linear.hpp"
#include "support/gradient_checks.hpp"

namespace deltatune::test {

// How a layer of two sites is run.
struct LayerPlan {
  bool arranged = true;  // the layer may multiply with what low-rank deltas give it
  bool wide = true;      // and has columns for that in its output
  bool base_trains = false;
  bool below = true;    // something below wants dx
  bool frozen = false;  // the deltas do not train
};

inline std::vector<LayerPlan> layer_plans() {
  return {{},
          {.wide = false},
          {.arranged = false},
          {.arranged = false, .wide = false},
          {.base_trains = true},
          {.below = false},
          {.wide = false, .below = false},
          {.frozen = true}};
}

// prepare(trial) gives add(site), which puts deltas into the slot of "first", with `out` outputs, and of "second", with out + 1.
template <class Prepare>
auto layer_body(const Prepare& prepare, const LayerPlan& plan, Index rows, Index in, Index out) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    Linear<X> fresh(ctx, in, {{"first", out}, {"second", out + 1}});
    fresh.visit_sites(prepare(trial));
    if (plan.frozen) freeze(fresh, {"**"});
    if (plan.base_trains) unfreeze(fresh, {"first.weight", "first.bias", "second.bias"});
    if (plan.arranged) fresh.arrange(ctx);
    Linear<X>& layer = trial.own(std::move(fresh));
    View<const T> x;
    View<T> dx;
    if (plan.below) {
      const auto input = trial.input("x", rows, in);
      x = input.value;
      dx = input.gradient;
    } else {
      x = trial.constant(rows, in);
    }
    const auto y = trial.output("y", rows, layer.out());
    const View<T> output = plan.wide ? layer.keep_output(trial.pass(), rows) : y.value;
    typename Linear<X>::Saved saved;
    layer.forward(trial.pass(), x, output, saved);
    if (plan.wide) ops::copy<B, T>(ctx, output.column_range(0, layer.out()), y.value);
    if (!trial.backward_wanted()) return;
    View<T> dy = y.gradient;
    if (plan.wide) {
      dy = layer.take_output(trial.pass(), rows);
      ops::copy<B, T>(ctx, y.gradient, dy.column_range(0, layer.out()));
    }
    layer.backward(trial.pass(), saved, layer.needs_input() ? x : View<const T>(), dy, plan.below ? GradientSink<T>::fresh(dx) : GradientSink<T>::none());
  };
}

template <class Prepare>
void check_layers(const Prepare& prepare) {
  for (const LayerPlan& plan : layer_plans()) {
    INFO("arranged " << plan.arranged << ", wide " << plan.wide << ", base trains " << plan.base_trains << ", below " << plan.below << ", frozen "
                     << plan.frozen);
    check_adjoint(layer_body(prepare, plan, 4, 6, 5));
    check_device(layer_body(prepare, plan, 4, 6, 5));
    check_device(layer_body(prepare, plan, 67, 45, 33));
  }
}

// The largest difference between what a layer computes with its deltas and with what they merge into.
template <class X, class Prepare>
double merged_difference(context_of<X>& ctx, const Prepare& prepare, Index rows, Index in, Index out) {
  using T = scalar_of<X>;
  check::Trial<X> trial(ctx, {.seed = 3});
  trial.pass().mode = Mode::evaluate;
  Linear<X> fresh(ctx, in, {{"first", out}, {"second", out + 1}});
  fresh.visit_sites(prepare(trial));
  Linear<X>& layer = trial.own(std::move(fresh));
  const View<const T> x = trial.constant(rows, in);
  const auto run = [&] {
    const auto y = trial.output("y", rows, layer.out());
    typename Linear<X>::Saved saved;
    layer.forward(trial.pass(), x, y.value, saved);
    return on_host<X>(ctx, y.value);
  };
  const std::vector<T> attached = run();
  layer.visit_sites([&](LinearSite<X>& site) {
    if (!site.deltas.has("delta")) return;
    site.deltas.merge("delta", ctx, site.weight.value(), site.bias.value());
    site.deltas.remove("delta");
  });
  const std::vector<T> merged = run();
  double largest = 0;
  for (std::size_t i = 0; i < merged.size(); ++i) largest = std::max(largest, std::fabs(static_cast<double>(merged[i] - attached[i])));
  return largest;
}

}  // namespace deltatune::test
