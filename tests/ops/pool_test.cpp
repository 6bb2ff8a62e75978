#include "deltatune/ops/pool.hpp"

#include <vector>

#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

auto mean_body(const std::vector<Index>& lengths, Index cols) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const Sequences sequences = trial.sequences(lengths);
    const auto x = trial.input("x", sequences.rows, cols);
    const auto y = trial.output("y", sequences.count, cols);
    ops::mean_rows<B, T>(trial.ctx(), x.value, sequences.offsets, y.value);
    if (trial.backward_wanted()) ops::mean_rows_backward<B, T>(trial.ctx(), y.gradient, sequences, x.gradient);
  };
}

}  // namespace

TEST_CASE("mean_rows: adjoint, and float on the CPU", "[ops][pool]") {
  test::check_adjoint(mean_body({3, 1, 4}, 7));
  test::check_device(mean_body({3, 1, 4}, 7));
  test::check_device(mean_body({67, 1, 130, 9}, 131));
}

#ifndef DELTATUNE_TEST_CUDA  // host memory

TEST_CASE("mean_rows: the mean of each sequence", "[ops][pool]") {
  const std::vector<Index> offsets{0, 2, 3};
  const std::vector<float> x{1, 2, 3, 6, -1, 5};
  std::vector<float> y(4, -9.0F);
  DefaultCpu::Context ctx(2);
  ops::mean_rows<DefaultCpu, float>(ctx, {x.data(), 3, 2}, offsets.data(), {y.data(), 2, 2});
  CHECK(y == std::vector<float>{2, 4, -1, 5});
}

#endif
