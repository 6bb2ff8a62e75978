#include "deltatune/ops/scale.hpp"

#include <vector>

#include "deltatune/ops/elementwise.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

auto scale_body(Index rows, Index cols) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const auto x = trial.input("x", rows, cols);
    const auto f = trial.parameter("factors", 1, cols);
    const View<const T> of_rows = trial.constant(1, rows);
    const auto y = trial.output("y", rows, cols);
    ops::scale_columns<B, T>(trial.ctx(), x.value, f.value, y.value);
    ops::scale_rows<B, T>(trial.ctx(), y.value, of_rows, y.value);
    if (!trial.backward_wanted()) return;
    ops::scale_rows<B, T>(trial.ctx(), y.gradient, of_rows, y.gradient);
    ops::column_dot<B, T>(trial.ctx(), y.gradient, x.value, f.gradient);
    ops::scale_columns<B, T>(trial.ctx(), y.gradient, f.value, x.gradient);
  };
}

}  // namespace

TEST_CASE("scaled columns and rows", "[ops][scale]") {
  test::check_adjoint(scale_body(4, 5));
  test::check_device(scale_body(4, 5));
  test::check_device(scale_body(67, 131));
}

TEST_CASE("scaled columns and rows: plain values", "[ops][scale]") {
  Reference::Context ctx;
  const std::vector<double> x{1, 2, 3, 4}, f{10, 100};
  std::vector<double> y(4), sum{1, 2};
  ops::scale_columns<Reference, double>(ctx, {x.data(), 2, 2}, {f.data(), 1, 2}, {y.data(), 2, 2});
  CHECK(y == std::vector<double>{10, 200, 30, 400});
  ops::scale_rows<Reference, double>(ctx, {x.data(), 2, 2}, {f.data(), 2, 1}, {y.data(), 2, 2});
  CHECK(y == std::vector<double>{10, 20, 300, 400});
  ops::column_dot<Reference, double>(ctx, {x.data(), 2, 2}, {y.data(), 2, 2}, {sum.data(), 1, 2});
  CHECK(sum == std::vector<double>{1 + 10 + 900, 2 + 40 + 1600});
}
