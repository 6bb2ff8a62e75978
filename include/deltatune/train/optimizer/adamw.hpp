// AdamW over the trainable parameters of a model (formula: ops/adamw.hpp). State exists only for what trains.
#pragma once

#include <cmath>
#include <string>

#include "deltatune/core/error.hpp"
#include "deltatune/ops/adamw.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/train/trainable.hpp"

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

  // The parameters stay where they are while this lives.
  AdamW(Context& ctx, const TrainableParameters<X>& parameters, AdamWConfig config)
      : parameters_(&parameters), config_(config), first_(ctx, {parameters.size()}), second_(ctx, {parameters.size()}) {
    config_.validate();
  }

  const AdamWConfig& config() const { return config_; }
  Index step_count() const { return steps_; }
  void set_step_count(Index steps) { steps_ = steps; }

  Index bytes() const { return first_.bytes() + second_.bytes(); }

  // f(parameter, first moment, second moment), the moments in the parameter's shape.
  template <class F>
  void visit(const F& f) {
    for (const auto& entry : parameters_->entries()) {
      const View<T> value = entry.parameter->value();
      const auto moment = [&](X& all) { return View<T>(all.view().data + entry.flat, value.rows, value.cols); };
      f(*entry.parameter, moment(first_), moment(second_));
    }
  }

  // One update from the gradients, each times gradient_scale (1); rate_factor comes from a schedule.
  void step(Context& ctx, double rate_factor, View<const T> gradient_scale) {
    ++steps_;
    const double t = static_cast<double>(steps_);
    ops::adamw<B, T>(ctx,
                     {.learning_rate = config_.learning_rate * rate_factor,
                      .beta1 = config_.beta1,
                      .beta2 = config_.beta2,
                      .epsilon = config_.epsilon,
                      .weight_decay = config_.weight_decay,
                      .correction1 = 1.0 - std::pow(config_.beta1, t),
                      .correction2_root = std::sqrt(1.0 - std::pow(config_.beta2, t))},
                     parameters_->chunks(), gradient_scale, first_.view(), second_.view());
  }

 private:
  const TrainableParameters<X>* parameters_;
  AdamWConfig config_;
  X first_;  // moments of all elements that train, one parameter after another
  X second_;
  Index steps_ = 0;
};

}  // namespace deltatune
