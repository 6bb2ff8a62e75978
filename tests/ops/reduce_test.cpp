#include "deltatune/ops/reduce.hpp"

#include <vector>

#include "deltatune/ops/elementwise.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

// No backward of their own: outputs alone are compared.
auto sums_body(Index rows, Index cols) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const View<const T> x = trial.constant(rows, cols);
    const View<const T> start = trial.constant(1, cols);
    trial.parameter("none", 1, 1);
    const auto columns = trial.output("columns", 1, cols);
    const auto all = trial.output("all", 1, 1);
    ops::copy<B, T>(trial.ctx(), start, columns.value);
    ops::column_sum<B, T>(trial.ctx(), x, columns.value);
    ops::copy<B, T>(trial.ctx(), start, all.value);
    ops::total<B, T>(trial.ctx(), start, all.value);
  };
}

}  // namespace

TEST_CASE("sums: float on the CPU, added to what is there", "[ops][reduce]") {
  test::check_device(sums_body(5, 7));
  test::check_device(sums_body(67, 131));
  test::check_device(sums_body(1, 64));
  test::check_device(sums_body(300, 65));
}

TEST_CASE("sums: plain values", "[ops][reduce]") {
  Reference::Context ctx;
  const std::vector<double> x{1, 2, 3, 4};
  std::vector<double> columns{10, 20};
  double total = 2;
  ops::column_sum<Reference, double>(ctx, {x.data(), 2, 2}, {columns.data(), 1, 2});
  ops::total<Reference, double>(ctx, {x.data(), 1, 4}, {&total, 1, 1});
  CHECK(columns == std::vector<double>{14, 26});
  CHECK(total == 12);
}
