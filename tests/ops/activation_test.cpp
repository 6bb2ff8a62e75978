#include "deltatune/ops/activation.hpp"

#include <cmath>

#include "deltatune/ops/elementwise.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;
using ops::Activation;

namespace {

auto activation_body(Activation activation, Index rows, Index cols) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto u = trial.input("u", rows, cols);
    const auto y = trial.output("y", rows, cols);
    ops::activation_forward<B, T>(trial.ctx(), activation, u.value, y.value);
    if (!trial.backward_wanted()) return;
    ops::activation_backward<B, T>(trial.ctx(), activation, u.value, y.gradient);
    ops::copy<B, T>(trial.ctx(), y.gradient, u.gradient);
  };
}

double value_at(Activation activation, double u) {
  Reference::Context ctx;
  double y = 0;
  ops::activation_forward<Reference, double>(ctx, activation, {&u, 1, 1}, {&y, 1, 1});
  return y;
}

}  // namespace

TEST_CASE("activations: values of their formulas", "[ops][activation]") {
  CHECK(value_at(Activation::gelu, 1.0) == Approx(0.8413447460685429));
  CHECK(value_at(Activation::gelu, -0.5) == Approx(-0.15426876936299344));
  CHECK(value_at(Activation::gelu_new, 1.0) == Approx(0.8411919906082768));
  CHECK(value_at(Activation::relu, -2.0) == 0.0);
  CHECK(value_at(Activation::relu, 2.0) == 2.0);
  CHECK(value_at(Activation::tanh, 0.5) == Approx(std::tanh(0.5)));
  CHECK(value_at(Activation::sigmoid, 0.5) == Approx(0.6224593312018546));
  CHECK(value_at(Activation::sigmoid, -1e4) == 0.0);
  CHECK(value_at(Activation::silu, -1.0) == Approx(-0.2689414213699951));
  CHECK(value_at(Activation::quick_gelu, 1.0) == Approx(0.8457957659328212));
  CHECK(value_at(Activation::leaky_relu, -2.0) == Approx(-0.02));
  CHECK(value_at(Activation::leaky_relu, 2.0) == 2.0);
}

TEST_CASE("activations: adjoint, and float on the CPU", "[ops][activation]") {
  const auto activation = GENERATE(Activation::gelu, Activation::gelu_new, Activation::quick_gelu, Activation::silu, Activation::relu, Activation::leaky_relu,
                                   Activation::tanh, Activation::sigmoid);
  INFO("activation " << static_cast<int>(activation));
  test::check_adjoint(activation_body(activation, 5, 7));
  test::check_device(activation_body(activation, 5, 7));
  test::check_device(activation_body(activation, 67, 131));
}

TEST_CASE("relu has derivative 0 at 0", "[ops][activation]") {
  Reference::Context ctx;
  const double u = 0.0;
  double du = 3.0;
  ops::activation_backward<Reference, double>(ctx, Activation::relu, {&u, 1, 1}, {&du, 1, 1});
  CHECK(du == 0.0);
}
