#include "deltatune/ops/elementwise.hpp"

#include <vector>

#include "deltatune/ops/reduce.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

auto add_bias_body(Index rows, Index cols) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto x = trial.input("x", rows, cols);
    const auto bias = trial.parameter("bias", 1, cols);
    const auto y = trial.output("y", rows, cols);
    ops::copy<B, T>(trial.ctx(), x.value, y.value);
    ops::add_bias<B, T>(trial.ctx(), bias.value, y.value);
    if (!trial.backward_wanted()) return;
    ops::column_sum<B, T>(trial.ctx(), y.gradient, bias.gradient);
    ops::copy<B, T>(trial.ctx(), y.gradient, x.gradient);
  };
}

auto axpy_body(Index rows, Index cols) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto x = trial.input("x", rows, cols);
    const auto z = trial.input("z", rows, cols);
    const auto y = trial.output("y", rows, cols);
    ops::copy<B, T>(trial.ctx(), z.value, y.value);
    ops::axpy<B, T>(trial.ctx(), T(-1.75), x.value, y.value);
    if (!trial.backward_wanted()) return;
    B::fill(trial.ctx(), x.gradient, T(0));
    ops::axpy<B, T>(trial.ctx(), T(-1.75), y.gradient, x.gradient);
    ops::copy<B, T>(trial.ctx(), y.gradient, z.gradient);
  };
}

// y = z + m1 ∘ (m2 ∘ x): overwriting, in place, accumulating.
auto dropout_body(Index rows, Index cols) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    trial.pass().mode = Mode::train;
    const DropoutMask first = trial.pass().dropout(0.3);
    const DropoutMask second = trial.pass().dropout(0.2);
    const auto x = trial.input("x", rows, cols);
    const auto z = trial.parameter("z", rows, cols);
    const auto y = trial.output("y", rows, cols);
    const View<T> between = trial.pass().take(rows, cols);
    ops::dropout<B, T>(trial.ctx(), first, x.value, between);
    ops::copy<B, T>(trial.ctx(), z.value, y.value);
    ops::dropout<B, T>(trial.ctx(), second, between, y.value, true);
    if (!trial.backward_wanted()) return;
    ops::axpy<B, T>(trial.ctx(), T(1), y.gradient, z.gradient);
    ops::dropout<B, T>(trial.ctx(), second, y.gradient, x.gradient);
    ops::dropout<B, T>(trial.ctx(), first, x.gradient, x.gradient);
  };
}

auto gather_body(const std::vector<Index>& rows, Index from, Index cols) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto x = trial.input("x", from, cols);
    const auto y = trial.output("y", static_cast<Index>(rows.size()), cols);
    const Index* device_rows = trial.array(rows);
    ops::gather_rows<B, T>(trial.ctx(), x.value, device_rows, y.value);
    if (trial.backward_wanted()) ops::scatter_rows<B, T>(trial.ctx(), y.gradient, device_rows, x.gradient);
  };
}

}  // namespace

TEST_CASE("elementwise ops: adjoint, and float on the CPU", "[ops][elementwise]") {
  test::check_adjoint(add_bias_body(5, 7));
  test::check_adjoint(axpy_body(5, 7));
  test::check_adjoint(dropout_body(5, 7));
  test::check_adjoint(gather_body({0, 3, 4}, 6, 7));
  test::check_device(add_bias_body(67, 131));
  test::check_device(axpy_body(67, 131));
  test::check_device(dropout_body(67, 131));
  std::vector<Index> rows;
  for (Index i = 0; i < 90; ++i) rows.push_back(2 * i);
  test::check_device(gather_body(rows, 181, 131));
}

#ifndef DELTATUNE_TEST_CUDA  // host memory

TEST_CASE("dropout drops about its share and keeps the mean", "[ops][elementwise]") {
  DefaultCpu::Context ctx(2);
  std::vector<float> x(100000, 1.0F), y(100000);
  ops::dropout<DefaultCpu, float>(ctx, DropoutMask(derive(7, 1), 0.25), {x.data(), 100, 1000}, {y.data(), 100, 1000});
  double dropped = 0, sum = 0;
  for (const float value : y) {
    dropped += value == 0.0F ? 1 : 0;
    sum += static_cast<double>(value);
  }
  CHECK(dropped / 100000 == Approx(0.25).margin(0.01));
  CHECK(sum / 100000 == Approx(1.0).margin(0.01));
}

#endif
