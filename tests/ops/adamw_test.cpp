#include "deltatune/ops/adamw.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "deltatune/ops/elementwise.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

auto adamw_body(Index rows, Index cols, bool masked) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const View<const T> gradient = trial.constant(rows, cols);
    const View<const T> start = trial.constant(rows, cols);
    trial.parameter("none", 1, 1);
    const auto value = trial.output("value", rows, cols);
    const auto first = trial.output("first", rows, cols);
    const auto second = trial.output("second", rows, cols);
    std::vector<T> scale{T(0.5)}, mask;
    for (Index i = 0; i < rows; ++i) mask.push_back(T(i % 3 == 0 ? 0.0 : 1.0));
    ops::copy<B, T>(trial.ctx(), start, value.value);
    B::fill(trial.ctx(), first.value, T(0));
    B::fill(trial.ctx(), second.value, T(0));
    for (int t = 1; t <= 3; ++t)
      ops::adamw<B, T>(trial.ctx(), {1e-2, 0.9, 0.999, 1e-8, 0.1, 1 - std::pow(0.9, t), std::sqrt(1 - std::pow(0.999, t))}, gradient,
                       {trial.array(scale), 1, 1}, masked ? View<const T>(trial.array(mask), 1, rows) : View<const T>(), masked ? cols : 1, value.value,
                       first.value, second.value);
  };
}

}  // namespace

TEST_CASE("adamw: float on the CPU against double", "[ops][adamw]") {
  const bool masked = GENERATE(false, true);
  test::check_cpu(adamw_body(5, 7, masked));
  test::check_cpu(adamw_body(67, 131, masked));
}

TEST_CASE("adamw: the first update is the learning rate in the gradient's direction, after the decay", "[ops][adamw]") {
  Reference::Context ctx;
  std::vector<double> value{2, 2}, first{0, 0}, second{0, 0};
  const std::vector<double> gradient{3, -0.01};
  const double one = 1;
  ops::adamw<Reference, double>(ctx, {0.1, 0.9, 0.999, 0, 0.5, 0.1, std::sqrt(0.001)}, {gradient.data(), 1, 2}, {&one, 1, 1}, {}, 1, {value.data(), 1, 2},
                                {first.data(), 1, 2}, {second.data(), 1, 2});
  CHECK(value[0] == Approx(2 * 0.95 - 0.1));
  CHECK(value[1] == Approx(2 * 0.95 + 0.1));
}

TEST_CASE("adamw: a masked element keeps its bits, against decay and against a gradient that is not a number", "[ops][adamw]") {
  DefaultCpu::Context ctx(1);
  std::vector<float> value{0.1F, 0.1F}, first(2), second(2);
  const std::vector<float> gradient{std::numeric_limits<float>::quiet_NaN(), 1.0F}, mask{0, 1};
  const float one = 1;
  ops::adamw<DefaultCpu, float>(ctx, {0.1, 0.9, 0.999, 1e-8, 0.5, 0.1, std::sqrt(0.001)}, {gradient.data(), 1, 2}, {&one, 1, 1}, {mask.data(), 1, 2}, 1,
                                {value.data(), 1, 2}, {first.data(), 1, 2}, {second.data(), 1, 2});
  CHECK(value[0] == 0.1F);
  CHECK(value[1] < 0.01F);
}
