#include "deltatune/ops/gated_activation.hpp"

#include <vector>

#include "support/gradient_checks.hpp"

using namespace deltatune;
using ops::Activation;

namespace {

auto gated_body(Activation activation, Index rows, Index width) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto u = trial.input("u", rows, 2 * width);
    const auto y = trial.output("y", rows, width);
    ops::gated_activation_forward<B, T>(trial.ctx(), activation, u.value, y.value);
    if (trial.backward_wanted()) ops::gated_activation_backward<B, T>(trial.ctx(), activation, u.value, y.gradient, u.gradient);
  };
}

}  // namespace

TEST_CASE("gated activations: the first half passes through f, the second is the factor", "[ops][activation]") {
  Reference::Context ctx;
  const std::vector<double> u{1, -1, 3, 5};  // a = 1, -1 and g = 3, 5
  std::vector<double> y(2);
  ops::gated_activation_forward<Reference, double>(ctx, Activation::silu, {u.data(), 1, 4}, {y.data(), 1, 2});
  CHECK(y[0] == Approx(3 * 0.7310585786300049));
  CHECK(y[1] == Approx(-5 * 0.2689414213699951));
}

TEST_CASE("gated activations: adjoint, and float on the CPU", "[ops][activation]") {
  const auto activation = GENERATE(Activation::gelu, Activation::gelu_new, Activation::quick_gelu, Activation::silu, Activation::relu, Activation::leaky_relu,
                                   Activation::tanh, Activation::sigmoid);
  INFO("activation " << static_cast<int>(activation));
  test::check_adjoint(gated_body(activation, 5, 7));
  test::check_device(gated_body(activation, 5, 7));
  test::check_device(gated_body(activation, 67, 131));
}
