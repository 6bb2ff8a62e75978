#include "deltatune/ops/rms_norm.hpp"

#include <cmath>
#include <vector>

#include "deltatune/ops/elementwise.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

// accumulate: dx is added to what stands there.
auto rms_norm_body(Index rows, Index groups, Index width, double offset, bool accumulate = false) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto x = trial.input("x", rows, groups * width);
    const auto gamma = trial.parameter("gamma", 1, width);
    const auto y = trial.output("y", rows, groups * width);
    const View<T> normalized = trial.pass().keep(rows, groups * width), inverse = trial.pass().keep(rows, groups);
    const ops::RmsWeight<T> weight{gamma.value, offset, groups};
    ops::rms_norm_forward<B, T>(trial.ctx(), x.value, weight, 1e-5, y.value, normalized, inverse);
    const View<T> again = trial.pass().keep(rows, groups * width);
    ops::rms_scale<B, T>(trial.ctx(), normalized, weight, again);
    CHECK(test::on_host<X>(trial.ctx(), again) == test::on_host<X>(trial.ctx(), y.value));
    if (!trial.backward_wanted()) return;
    ops::rms_norm_parameter_backward<B, T>(trial.ctx(), y.gradient, normalized, groups, gamma.gradient);
    if (accumulate) {
      B::fill(trial.ctx(), x.gradient, T(0));
      ops::rms_norm_backward<B, T>(trial.ctx(), y.gradient, normalized, inverse, weight, x.gradient, true);
    } else {
      ops::rms_norm_backward<B, T>(trial.ctx(), y.gradient, normalized, inverse, weight, y.gradient);
      ops::copy<B, T>(trial.ctx(), y.gradient, x.gradient);
    }
  };
}

}  // namespace

TEST_CASE("rms_norm: adjoint, and float on the CPU", "[ops][rms_norm]") {
  const double offset = GENERATE(0.0, 1.0);
  const bool accumulate = GENERATE(false, true);
  test::check_adjoint(rms_norm_body(5, 1, 7, offset, accumulate));
  test::check_adjoint(rms_norm_body(3, 4, 2, offset, accumulate));
  test::check_device(rms_norm_body(5, 1, 7, offset, accumulate));
  test::check_device(rms_norm_body(67, 1, 131, offset, accumulate));
  test::check_device(rms_norm_body(67, 3, 32, offset, accumulate));
}

TEST_CASE("rms_norm: each group by its own root mean square", "[ops][rms_norm]") {
  Reference::Context ctx;
  const std::vector<double> x{3, 4, 0, 5}, gamma{1, -1};
  std::vector<double> y(4), normalized(4), inverse(2);
  ops::rms_norm_forward<Reference, double>(ctx, {x.data(), 1, 4}, {{gamma.data(), 1, 2}, 1.0, 2}, 0.5, {y.data(), 1, 4}, {normalized.data(), 1, 4},
                                           {inverse.data(), 1, 2});
  CHECK(inverse[0] == Approx(1 / std::sqrt(12.5 + 0.5)));
  CHECK(inverse[1] == Approx(1 / std::sqrt(12.5 + 0.5)));
  CHECK(y[0] == Approx(2 * 3 / std::sqrt(13.0)));
  CHECK(y[1] == 0.0);  // 1 + γ
  CHECK(y[2] == 0.0);
  CHECK(normalized[3] == Approx(5 / std::sqrt(13.0)));
}
