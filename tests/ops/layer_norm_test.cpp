#include "deltatune/ops/layer_norm.hpp"

#include "deltatune/ops/elementwise.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

auto layer_norm_body(Index rows, Index cols, bool with_branch, double dropout) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    trial.pass().mode = Mode::train;
    const auto residual = trial.input("residual", rows, cols);
    const auto branch = with_branch ? trial.input("branch", rows, cols) : typename check::Trial<X>::Variable{};
    const auto gamma = trial.parameter("gamma", 1, cols);
    const auto beta = trial.parameter("beta", 1, cols);
    const auto y = trial.output("y", rows, cols);
    const DropoutMask mask = trial.pass().dropout(dropout);
    const View<T> normalized = trial.pass().keep(rows, cols);
    const View<T> inverse_std = trial.pass().keep(rows, 1);
    ops::layer_norm_forward<B, T>(trial.ctx(), residual.value, branch.value, mask, gamma.value, beta.value, 1e-5, y.value, normalized, inverse_std);
    if (!trial.backward_wanted()) return;
    ops::layer_norm_parameter_backward<B, T>(trial.ctx(), y.gradient, normalized, gamma.gradient, beta.gradient);
    ops::layer_norm_backward<B, T>(trial.ctx(), y.gradient, normalized, inverse_std, gamma.value, mask, residual.gradient, branch.gradient);
  };
}

// y again from what forward kept, with a dropout mask behind it.
auto rebuild_body(Index rows, Index cols, double dropout) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    trial.pass().mode = Mode::train;
    const auto normalized = trial.constant(rows, cols);
    const auto gamma = trial.parameter("gamma", 1, cols);
    const auto beta = trial.parameter("beta", 1, cols);
    const auto y = trial.output("y", rows, cols);
    const DropoutMask mask = trial.pass().dropout(dropout);
    ops::scale_shift<B, T>(trial.ctx(), normalized, gamma.value, beta.value, mask, y.value);
    if (!trial.backward_wanted()) return;
    ops::dropout<B, T>(trial.ctx(), mask, y.gradient, y.gradient);
    ops::layer_norm_parameter_backward<B, T>(trial.ctx(), y.gradient, normalized, gamma.gradient, beta.gradient);
  };
}

}  // namespace

TEST_CASE("layer_norm: adjoint, and float on the CPU", "[ops][layer_norm]") {
  const bool with_branch = GENERATE(false, true);
  const double dropout = GENERATE(0.0, 0.3);
  test::check_adjoint(layer_norm_body(5, 7, with_branch, dropout));
  test::check_adjoint(layer_norm_body(1, 2, with_branch, 0.0));
  test::check_device(layer_norm_body(5, 7, with_branch, dropout));
  test::check_device(layer_norm_body(67, 131, with_branch, dropout));
}

TEST_CASE("layer_norm: rows of its output before gamma and beta have mean 0 and variance 1", "[ops][layer_norm]") {
  Reference::Context ctx;
  std::vector<double> x{1, 2, 4, 8, -3, 5}, gamma{1, 1, 1}, beta{0, 0, 0}, y(6), normalized(6), inverse_std(2);
  ops::layer_norm_forward<Reference, double>(ctx, {x.data(), 2, 3}, {}, {}, {gamma.data(), 1, 3}, {beta.data(), 1, 3}, 0.0, {y.data(), 2, 3},
                                             {normalized.data(), 2, 3}, {inverse_std.data(), 2, 1});
  for (std::size_t row : {0u, 3u}) {
    CHECK(y[row] + y[row + 1] + y[row + 2] == Approx(0).margin(1e-12));
    CHECK(y[row] * y[row] + y[row + 1] * y[row + 1] + y[row + 2] * y[row + 2] == Approx(3));
  }
}

TEST_CASE("layer_norm: backward in place, and gamma alone or beta alone", "[ops][layer_norm]") {
  const auto in_place = []<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto x = trial.input("x", 4, 9);
    const auto gamma = trial.constant(1, 9);
    const auto beta = trial.parameter("beta", 1, 9);
    const auto y = trial.output("y", 4, 9);
    const View<T> normalized = trial.pass().keep(4, 9);
    const View<T> inverse_std = trial.pass().keep(4, 1);
    ops::copy<B, T>(trial.ctx(), x.value, y.value);
    ops::layer_norm_forward<B, T>(trial.ctx(), y.value, {}, {}, gamma, beta.value, 1e-5, y.value, normalized, inverse_std);
    if (!trial.backward_wanted()) return;
    ops::layer_norm_parameter_backward<B, T>(trial.ctx(), y.gradient, normalized, {}, beta.gradient);
    ops::layer_norm_backward<B, T>(trial.ctx(), y.gradient, normalized, inverse_std, gamma, {}, y.gradient, {});
    ops::copy<B, T>(trial.ctx(), y.gradient, x.gradient);
  };
  test::check_adjoint(in_place);
  test::check_device(in_place);
}

TEST_CASE("layer_norm: backward adds to what the residual's gradient holds", "[ops][layer_norm]") {
  const auto adding = []<class X>(check::Trial<X>& trial) {  // y = x + LN(x), as of a block with its norm before the branch
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto x = trial.input("x", 5, 19);
    const auto gamma = trial.parameter("gamma", 1, 19);
    const auto beta = trial.constant(1, 19);
    const auto y = trial.output("y", 5, 19);
    const View<T> normalized = trial.pass().keep(5, 19);
    const View<T> inverse_std = trial.pass().keep(5, 1);
    ops::layer_norm_forward<B, T>(trial.ctx(), x.value, {}, {}, gamma.value, beta, 1e-5, y.value, normalized, inverse_std);
    ops::axpy<B, T>(trial.ctx(), T(1), x.value, y.value);
    if (!trial.backward_wanted()) return;
    ops::layer_norm_parameter_backward<B, T>(trial.ctx(), y.gradient, normalized, gamma.gradient, {});
    ops::copy<B, T>(trial.ctx(), y.gradient, x.gradient);
    ops::layer_norm_backward<B, T>(trial.ctx(), y.gradient, normalized, inverse_std, gamma.value, {}, x.gradient, {}, true);
  };
  test::check_adjoint(adding);
  test::check_device(adding);
}

TEST_CASE("scale_shift: adjoint, and float on the CPU", "[ops][layer_norm]") {
  const double dropout = GENERATE(0.0, 0.3);
  test::check_adjoint(rebuild_body(5, 7, dropout));
  test::check_device(rebuild_body(67, 131, dropout));
}
