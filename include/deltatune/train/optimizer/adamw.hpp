// AdamW over the trainable parameters of a model (formula: ops/adamw.hpp). State exists only for what trains.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/ops/adamw.hpp"
#include "deltatune/param/parameter.hpp"

namespace deltatune {

struct AdamWConfig {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  // not on biases and norms

  void validate() const {
    if (!(learning_rate >= 0 && std::isfinite(learning_rate)))
      throw Error("AdamW: learning rate", "is not usable", {.expected = "a finite number >= 0", .got = std::to_string(learning_rate)});
    if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1)) throw Error("AdamW: betas", "are not usable", {.expected = "0 <= beta < 1"});
    if (!(epsilon > 0)) throw Error("AdamW: epsilon", "is not usable", {.expected = "a number > 0"});
    if (!(weight_decay >= 0)) throw Error("AdamW: weight decay", "is not usable", {.expected = "a number >= 0"});
  }
};

template <class X>
class AdamW {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  // One trainable parameter with its moments.
  struct State {
    Parameter<X>* parameter;
    X first;   // shape of the parameter
    X second;  // shape of the parameter
  };

  // The model and its parameters stay where they are while this lives.
  template <class Model>
  AdamW(Context& ctx, Model& model, AdamWConfig config) : config_(config) {
    config_.validate();
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.trains()) states_.push_back({&parameter, X(ctx, parameter.shape()), X(ctx, parameter.shape())});
    });
    if (states_.empty()) throw Error("AdamW", "nothing trains", {.remedy = "attach a delta or unfreeze parameters first"});
  }

  const AdamWConfig& config() const { return config_; }
  std::vector<State>& states() { return states_; }
  Index step_count() const { return steps_; }
  void set_step_count(Index steps) { steps_ = steps; }

  Index bytes() const {
    Index total = 0;
    for (const State& state : states_) total += state.first.bytes() + state.second.bytes();
    return total;
  }

  // One update from the gradients, each times gradient_scale (1); rate_factor comes from a schedule.
  void step(Context& ctx, double rate_factor, View<const T> gradient_scale) {
    ++steps_;
    const double t = static_cast<double>(steps_);
    ops::AdamWStep numbers{.learning_rate = config_.learning_rate * rate_factor,
                           .beta1 = config_.beta1,
                           .beta2 = config_.beta2,
                           .epsilon = config_.epsilon,
                           .weight_decay = 0,
                           .correction1 = 1.0 - std::pow(config_.beta1, t),
                           .correction2_root = std::sqrt(1.0 - std::pow(config_.beta2, t))};
    for (State& state : states_) {
      Parameter<X>& p = *state.parameter;
      const bool decays = p.role() != Role::bias && p.role() != Role::norm_scale && p.role() != Role::norm_shift;
      numbers.weight_decay = decays ? config_.weight_decay : 0.0;
      ops::adamw<B, T>(ctx, numbers, p.gradient(), gradient_scale, p.mask_values(), p.mask_span(), p.value(), state.first.view(), state.second.view());
    }
  }

 private:
  AdamWConfig config_;
  std::vector<State> states_;
  Index steps_ = 0;
};

}  // namespace deltatune
