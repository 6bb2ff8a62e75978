// The checks themselves: they must name what is wrong.
#include "deltatune/check/gradcheck.hpp"

#include <string>

#include "deltatune/ops/elementwise.hpp"
#include "deltatune/ops/reduce.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

enum class Mistake { none, wrong_gradient, forgotten_input, overwritten_parameter, wrong_forward, unwritten_output };

// y = x + bias
auto body_with(Mistake mistake) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto x = trial.input("x", 3, 5);
    const auto bias = trial.parameter("bias", 1, 5);
    const auto y = trial.output("y", 3, 5);
    if (mistake == Mistake::unwritten_output) return;
    ops::copy<B, T>(trial.ctx(), x.value, y.value);
    ops::add_bias<B, T>(trial.ctx(), bias.value, y.value);
    if (mistake == Mistake::wrong_forward && std::is_same_v<T, float>) y.value(1, 2) = y.value(1, 2) + T(0.01);
    if (!trial.backward_wanted()) return;
    if (mistake == Mistake::overwritten_parameter) B::fill(trial.ctx(), bias.gradient, T(0));
    ops::column_sum<B, T>(trial.ctx(), y.gradient, bias.gradient);
    if (mistake == Mistake::forgotten_input) return;
    ops::copy<B, T>(trial.ctx(), y.gradient, x.gradient);
    if (mistake == Mistake::wrong_gradient) x.gradient(2, 4) = T(1.01) * x.gradient(2, 4);
  };
}

double error_of(const check::Report& report, const std::string& name) {
  for (const check::Finding& finding : report.findings)
    if (finding.name == name) return finding.error;
  FAIL("no finding of the name " << name);
  return 0;
}

}  // namespace

TEST_CASE("gradient checks: right is right", "[check]") {
  DefaultCpu::Context ctx(1);
  CHECK(check::adjoint_test(body_with(Mistake::none)).worst() < 1e-14);
  CHECK(check::finite_difference_test<test::DeviceTensor>(ctx, body_with(Mistake::none)).worst() < 1e-3);
  CHECK(check::against_reference<test::DeviceTensor>(ctx, body_with(Mistake::none)).worst() < 1e-6);
}

TEST_CASE("gradient checks: the adjoint test names the gradient that is wrong", "[check]") {
  const auto wrong = check::adjoint_test(body_with(Mistake::wrong_gradient));
  CHECK(error_of(wrong, "x") > 1e-5);
  CHECK(error_of(wrong, "bias") < 1e-14);
  CHECK(wrong.text().find("x: expected ") == 0);

  const auto forgotten = check::adjoint_test(body_with(Mistake::forgotten_input));
  CHECK(std::isinf(error_of(forgotten, "x")));  // NaN is still there
  CHECK(error_of(forgotten, "bias") < 1e-14);

  const auto overwritten = check::adjoint_test(body_with(Mistake::overwritten_parameter));
  CHECK(error_of(overwritten, "bias") > 1e-3);
  CHECK(error_of(overwritten, "x") < 1e-14);

  CHECK(std::isinf(check::adjoint_test(body_with(Mistake::unwritten_output)).worst()));
}

TEST_CASE("gradient checks: finite differences and comparison see mistakes too", "[check]") {
  DefaultCpu::Context ctx(1);
  CHECK(check::finite_difference_test<test::DeviceTensor>(ctx, body_with(Mistake::overwritten_parameter)).worst() > 0.02);
  CHECK(std::isinf(check::finite_difference_test<test::DeviceTensor>(ctx, body_with(Mistake::forgotten_input)).worst()));
  const auto compared = check::against_reference<test::DeviceTensor>(ctx, body_with(Mistake::wrong_forward));
  CHECK(error_of(compared, "y") > 1e-3);
  CHECK(error_of(compared, "gradient of x") < 1e-6);
  CHECK(std::isinf(error_of(check::against_reference<test::DeviceTensor>(ctx, body_with(Mistake::unwritten_output)), "y")));
}

TEST_CASE("gradient checks: a body that checks nothing is an error", "[check]") {
  const auto no_output = [](auto& trial) { trial.input("x", 1, 1); };
  CHECK(test::error_text([&] { check::adjoint_test(no_output); }).find("no variable or no output") != std::string::npos);
  const auto constant = []<class X>(check::Trial<X>& trial) {
    const auto x = trial.input("x", 1, 1);
    const auto y = trial.output("y", 1, 1);
    backend_of<X>::fill(trial.ctx(), y.value, scalar_of<X>(1));
    if (trial.backward_wanted()) backend_of<X>::fill(trial.ctx(), x.gradient, scalar_of<X>(0));
  };
  CHECK(test::error_text([&] { check::adjoint_test(constant); }).find("all derivatives are 0") != std::string::npos);
}
