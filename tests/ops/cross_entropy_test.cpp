#include "deltatune/ops/cross_entropy.hpp"

#include <cmath>
#include <vector>

#include "deltatune/ops/elementwise.hpp"
#include "deltatune/ops/reduce.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

auto cross_entropy_body(const std::vector<std::int32_t>& labels, Index classes, double smoothing, bool weighted) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const Index rows = static_cast<Index>(labels.size());
    const auto logits = trial.input("logits", rows, classes);
    const View<const T> weights = weighted ? trial.constant(1, classes) : View<const T>();
    const auto loss = trial.loss("loss");
    const View<T> losses = trial.pass().take(1, rows);
    const View<T> dlogits = trial.pass().take(rows, classes);
    ops::cross_entropy<B, T>(trial.ctx(), logits.value, trial.array(labels), weights, smoothing, 0.37, losses, dlogits);
    B::fill(trial.ctx(), loss.value, T(0));
    ops::total<B, T>(trial.ctx(), losses, loss.value);
    if (trial.backward_wanted()) ops::copy<B, T>(trial.ctx(), dlogits, logits.gradient);
  };
}

auto squared_error_body(Index rows) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    std::vector<float> targets;
    for (Index i = 0; i < rows; ++i) targets.push_back(0.25F * static_cast<float>(i % 7) - 1.0F);
    const auto logits = trial.input("logits", rows, 1);
    const auto loss = trial.loss("loss");
    const View<T> losses = trial.pass().take(1, rows);
    const View<T> dlogits = trial.pass().take(rows, 1);
    ops::squared_error<B, T>(trial.ctx(), logits.value, trial.array(targets), 1.0 / static_cast<double>(rows), losses, dlogits);
    B::fill(trial.ctx(), loss.value, T(0));
    ops::total<B, T>(trial.ctx(), losses, loss.value);
    if (trial.backward_wanted()) ops::copy<B, T>(trial.ctx(), dlogits, logits.gradient);
  };
}

}  // namespace

TEST_CASE("cross_entropy: adjoint, and float on the CPU", "[ops][cross_entropy]") {
  const double smoothing = GENERATE(0.0, 0.15);
  const bool weighted = GENERATE(false, true);
  const std::vector<std::int32_t> labels{2, 0, ops::kIgnoredLabel, 1, 2};
  test::check_adjoint(cross_entropy_body(labels, 3, smoothing, weighted));
  test::check_device(cross_entropy_body(labels, 3, smoothing, weighted));
  std::vector<std::int32_t> many;
  for (std::int32_t i = 0; i < 101; ++i) many.push_back(i % 5 == 0 ? ops::kIgnoredLabel : i % 97);
  test::check_device(cross_entropy_body(many, 97, smoothing, weighted), 5e-5);  // the loss sums a hundred terms of both signs
}

TEST_CASE("cross_entropy: PyTorch's definition of smoothing and weights", "[ops][cross_entropy]") {
  // F.cross_entropy([[1, 2, 0.5], [0, 0, 3]], [1, 0], weight=[0.5, 2, 1], label_smoothing=0.1), by its formula.
  const std::vector<double> logits{1, 2, 0.5, 0, 0, 3}, weights{0.5, 2, 1};
  const std::vector<std::int32_t> labels{1, 0};
  double expected = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    double sum = 0, smooth = 0;
    for (std::size_t c = 0; c < 3; ++c) sum += std::exp(logits[3 * i + c]);
    for (std::size_t c = 0; c < 3; ++c) smooth += weights[c] * (std::log(sum) - logits[3 * i + c]);
    const std::size_t label = static_cast<std::size_t>(labels[i]);
    expected += 0.9 * weights[label] * (std::log(sum) - logits[3 * i + label]) + 0.1 / 3 * smooth;
  }
  expected /= 2.5;
  Reference::Context ctx;
  std::vector<double> losses(2), dlogits(6);
  ops::cross_entropy<Reference, double>(ctx, {logits.data(), 2, 3}, labels.data(), {weights.data(), 1, 3}, 0.1, 1 / 2.5, {losses.data(), 1, 2},
                                        {dlogits.data(), 2, 3});
  CHECK(losses[0] + losses[1] == Approx(expected));
}

#ifndef DELTATUNE_TEST_CUDA  // host memory

TEST_CASE("cross_entropy: an ignored row has loss and gradient 0, and large scores do not overflow", "[ops][cross_entropy]") {
  const std::vector<float> logits{1, 2, 3, 1000, 0, -1000};
  const std::vector<std::int32_t> labels{ops::kIgnoredLabel, 1};
  std::vector<float> losses(2, -1.0F), dlogits(6, -1.0F);
  DefaultCpu::Context ctx(1);
  ops::cross_entropy<DefaultCpu, float>(ctx, {logits.data(), 2, 3}, labels.data(), {}, 0.0, 1.0, {losses.data(), 1, 2}, {dlogits.data(), 2, 3});
  CHECK(losses == std::vector<float>{0, 1000});
  CHECK(dlogits == std::vector<float>{0, 0, 0, 1, -1, 0});
}

#endif

TEST_CASE("squared_error: adjoint, and float on the CPU", "[ops][cross_entropy]") {
  test::check_adjoint(squared_error_body(5));
  test::check_device(squared_error_body(5));
  test::check_device(squared_error_body(9001));
}
