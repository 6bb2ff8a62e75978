#include "deltatune/ops/rotary.hpp"

#include <cmath>
#include <vector>

#include "deltatune/ops/elementwise.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

// Heads of a matrix with more columns than they need.
auto rotary_body(const std::vector<std::int32_t>& positions, Index heads, Index head_width, Index turned) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    constexpr Index kPositions = 200;
    std::vector<T> cos(static_cast<std::size_t>(kPositions * turned / 2)), sin(cos.size());
    fill_rotary_tables<T>(rotary_frequencies(1e4, turned), 1.25F, {cos.data(), kPositions, turned / 2}, {sin.data(), kPositions, turned / 2});
    const ops::Rotation<T> rotation{{trial.array(cos), kPositions, turned / 2}, {trial.array(sin), kPositions, turned / 2}, trial.array(positions)};
    const Index rows = static_cast<Index>(positions.size());
    const auto x = trial.input("x", rows, heads * head_width);
    const auto y = trial.output("y", rows, heads * head_width);
    const View<T> wide = trial.pass().take(rows, heads * head_width + 3).column_range(2, heads * head_width);
    ops::copy<B, T>(trial.ctx(), x.value, wide);
    ops::rotate<B, T>(trial.ctx(), rotation, heads, wide);
    ops::copy<B, T>(trial.ctx(), wide, y.value);
    if (!trial.backward_wanted()) return;
    ops::rotate<B, T>(trial.ctx(), rotation, heads, y.gradient, true);
    ops::copy<B, T>(trial.ctx(), y.gradient, x.gradient);
  };
}

}  // namespace

TEST_CASE("rotary embedding: adjoint, and float on the CPU", "[ops][rotary]") {
  test::check_adjoint(rotary_body({0, 1, 2, 0, 5}, 2, 6, 6));
  test::check_adjoint(rotary_body({3, 1, 2}, 3, 7, 4));  // a part of each head
  test::check_device(rotary_body({0, 1, 2, 0, 5}, 2, 6, 6));
  test::check_device(rotary_body({3, 1, 2}, 3, 7, 4));
  std::vector<std::int32_t> positions;
  for (std::int32_t i = 0; i < 131; ++i) positions.push_back(i * 7 % 200);
  test::check_device(rotary_body(positions, 3, 64, 64));
}

TEST_CASE("rotary embedding: the tables of transformers", "[ops][rotary]") {
  const std::vector<float> frequencies = rotary_frequencies(160000.0, 8);
  CHECK(frequencies == std::vector<float>{1.0F, 0.0500000007F, 0.00249999994F, 0.000125000006F});
  std::vector<float> cos(8192 * 4), sin(cos.size());
  fill_rotary_tables<float>(frequencies, 1.0F, {cos.data(), 8192, 4}, {sin.data(), 8192, 4});
  const auto row = [](const std::vector<float>& table, std::ptrdiff_t position) {
    return std::vector<float>(table.begin() + 4 * position, table.begin() + 4 * position + 4);
  };
  CHECK_THAT(row(cos, 0), Catch::Equals(std::vector<float>{1, 1, 1, 1}));
  CHECK_THAT(row(cos, 511), Catch::Approx(std::vector<float>{-0.471678883F, 0.914202809F, 0.289109439F, 0.997960687F}).margin(1e-7F).epsilon(0.0F));
  CHECK_THAT(row(sin, 511), Catch::Approx(std::vector<float>{0.881770372F, 0.405256987F, 0.957296073F, 0.0638315752F}).margin(1e-7F).epsilon(0.0F));
  CHECK_THAT(row(cos, 8191), Catch::Approx(std::vector<float>{-0.646390498F, 0.414890975F, -0.0571156591F, 0.520060122F}).margin(1e-7F).epsilon(0.0F));
  CHECK_THAT(row(sin, 8191), Catch::Approx(std::vector<float>{-0.763006806F, 0.909871101F, 0.998367548F, 0.854129672F}).margin(1e-7F).epsilon(0.0F));
}

TEST_CASE("rotary embedding: scaled frequencies and magnitude", "[ops][rotary]") {
  const std::vector<float> scale{1.0F, 0.5F};
  CHECK(rotary_frequencies(100.0, 4, scale) == std::vector<float>{1.0F, 0.05F});
  std::vector<float> cos(2), sin(2);
  fill_rotary_tables<float>(std::vector<float>{1.0F}, 2.0F, {cos.data(), 2, 1}, {sin.data(), 2, 1});
  CHECK(cos[0] == 2.0F);
  CHECK(sin[1] == Approx(2.0 * std::sin(1.0)));
  CHECK_THROWS_AS(rotary_frequencies(1e4, 5), Error);
  CHECK_THROWS_AS(rotary_frequencies(1e4, 8, scale), Error);
  CHECK_THROWS_AS(fill_rotary_tables<float>(scale, 1.0F, {cos.data(), 2, 1}, {sin.data(), 2, 1}), Error);
}

TEST_CASE("rotary embedding: a head of transformers", "[ops][rotary]") {
  std::vector<double> cos(16), sin(16), x{1, 2, 3, 4, 5, 6, 7, 8};
  fill_rotary_tables<double>(rotary_frequencies(1e4, 8), 1.0F, {cos.data(), 4, 4}, {sin.data(), 4, 4});
  const std::int32_t position = 3;
  Reference::Context ctx;
  ops::rotate<Reference, double>(ctx, {{cos.data(), 4, 4}, {sin.data(), 4, 4}, &position}, 1, {x.data(), 1, 8});
  const std::vector<double> expected{-1.69559252, 0.137551665, 2.78868151, 3.97598219, -4.80884266, 6.32305956, 7.08683681, 8.01196384};
  CHECK_THAT(x, Catch::Approx(expected).margin(1e-6));
}
