#include "deltatune/ops/adamw.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "deltatune/ops/clip.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

ops::AdamWStep numbers(int t) { return {1e-2, 0.9, 0.999, 1e-8, 0.1, 1 - std::pow(0.9, t), std::sqrt(1 - std::pow(0.999, t))}; }

// Three updates of two parameters, of which the second is cut into two chunks, has a mask and a learning rate of its own and does not decay.
auto adamw_body(Index rows, Index cols, bool masked) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const Index size = rows * cols, first_part = size / 3;
    const View<const T> gradient = trial.constant(2, size);
    const View<const T> start = trial.constant(2, size);
    trial.parameter("none", 1, 1);
    const auto value = trial.output("value", 2, size);
    const auto first = trial.output("first", 1, 2 * size);
    const auto second = trial.output("second", 1, 2 * size);
    const auto norm = trial.output("norm and factor", 1, 2);
    const View<T> gradients = trial.pass().take(2, size);
    std::vector<T> mask, loss{T(1.5)};
    for (Index i = 0; i < rows; ++i) mask.push_back(T(i % 3 == 0 ? 0.0 : 1.0));
    ops::copy<B, T>(trial.ctx(), start, value.value);
    ops::copy<B, T>(trial.ctx(), gradient, gradients);
    B::fill(trial.ctx(), first.value, T(0));
    B::fill(trial.ctx(), second.value, T(0));
    const T* const mask_values = masked ? trial.array(mask) : nullptr;
    const auto chunk = [&](Index parameter, Index begin, Index count) {
      return ops::ParameterChunk<T>{value.value.row(parameter) + begin,
                                    gradients.row(parameter) + begin,
                                    parameter == 1 ? mask_values : nullptr,
                                    masked ? cols : 1,
                                    begin,
                                    parameter * size + begin,
                                    count,
                                    parameter == 0,
                                    parameter == 0 ? 1.0 : 2.5};
    };
    const std::vector<ops::ParameterChunk<T>> list{chunk(0, 0, size), chunk(1, 0, first_part), chunk(1, first_part, size - first_part)};
    const ops::ParameterChunks<T> chunks{trial.array(list), 3};
    for (int t = 1; t <= 3; ++t) {
      const View<T> partial = trial.pass().take(1, 3);
      ops::clip_gradients<B, T>(trial.ctx(), chunks, 0.5 * std::sqrt(static_cast<double>(size)), {trial.array(loss), 1, 1}, partial,
                                norm.value.column_range(0, 1), norm.value.column_range(1, 1));
      ops::adamw<B, T>(trial.ctx(), numbers(t), chunks, norm.value.column_range(1, 1), first.value, second.value);
    }
    ops::zero_gradients<B, T>(trial.ctx(), chunks);
    const auto zeroed = trial.output("gradients", 2, size);
    ops::copy<B, T>(trial.ctx(), gradients, zeroed.value);
  };
}

template <class B, class T>
struct Single {
  std::vector<T> value, gradient, first, second;
  T norm = T(-1), factor = T(-1);
  bool decays = true;
  double rate_factor = 1;

  // One update of one parameter.
  void step(typename B::Context& ctx, const ops::AdamWStep& numbers_of_step, double limit, T loss = T(0), const T* mask = nullptr) {
    first.resize(value.size());
    second.resize(value.size());
    T partial{};
    const ops::ParameterChunk<T> chunk{value.data(), gradient.data(), mask, 1, 0, 0, static_cast<Index>(value.size()), decays, rate_factor};
    const ops::ParameterChunks<T> chunks{&chunk, 1};
    ops::clip_gradients<B, T>(ctx, chunks, limit, {&loss, 1, 1}, {&partial, 1, 1}, {&norm, 1, 1}, {&factor, 1, 1});
    const Index count = chunk.count;
    ops::adamw<B, T>(ctx, numbers_of_step, chunks, {&factor, 1, 1}, {first.data(), 1, count}, {second.data(), 1, count});
  }
};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("adamw, clipping and zeroed gradients: float on the CPU against double", "[ops][adamw]") {
  const bool masked = GENERATE(false, true);
  test::check_device(adamw_body(5, 7, masked));
  test::check_device(adamw_body(67, 131, masked));
}

TEST_CASE("adamw: the first update is the learning rate in the gradient's direction, after the decay", "[ops][adamw]") {
  Reference::Context ctx;
  Single<Reference, double> p{{2, 2}, {3, -0.01}, {}, {}};
  p.step(ctx, {0.1, 0.9, 0.999, 1e-300, 0.5, 0.1, std::sqrt(0.001)}, 0);
  CHECK(p.value[0] == Approx(2 * 0.95 - 0.1));
  CHECK(p.value[1] == Approx(2 * 0.95 + 0.1));
}

TEST_CASE("adamw: a factor on the learning rate, of the decay too", "[ops][adamw]") {
  Reference::Context ctx;
  Single<Reference, double> p{{2, 2}, {3, -0.01}, {}, {}};
  p.rate_factor = 0.25;
  p.step(ctx, {0.4, 0.9, 0.999, 1e-300, 0.5, 0.1, std::sqrt(0.001)}, 0);
  CHECK(p.value[0] == Approx(2 * 0.95 - 0.1));
  CHECK(p.value[1] == Approx(2 * 0.95 + 0.1));
}

TEST_CASE("adamw: what does not decay keeps its bits without a gradient", "[ops][adamw]") {
  Reference::Context ctx;
  Single<Reference, double> p{{0.1, -3}, {0, 0}, {}, {}};
  p.decays = false;
  p.step(ctx, {0.1, 0.9, 0.999, 1e-8, 0.5, 0.1, std::sqrt(0.001)}, 0);
  CHECK(p.value == std::vector<double>{0.1, -3});
  p.decays = true;
  p.step(ctx, {0.1, 0.9, 0.999, 1e-8, 0.5, 0.1, std::sqrt(0.001)}, 0);
  CHECK(p.value == std::vector<double>{0.1 * 0.95, -3 * 0.95});
}

#ifndef DELTATUNE_TEST_CUDA  // host memory

TEST_CASE("adamw: a masked element keeps its bits, against decay and against a gradient that is not a number", "[ops][adamw]") {
  DefaultCpu::Context ctx(1);
  const float mask[] = {0, 1};
  Single<DefaultCpu, float> p{{0.1F, 0.1F}, {static_cast<float>(kNan), 1.0F}, {}, {}};
  p.step(ctx, {0.1, 0.9, 0.999, 1e-8, 0.5, 0.1, std::sqrt(0.001)}, 0, 0, mask);
  CHECK(p.norm == 1.0F);
  CHECK(p.value[0] == 0.1F);
  CHECK(p.value[1] < 0.01F);
}

TEST_CASE("adamw: where loss or gradient is not finite nothing changes", "[ops][adamw][clip]") {
  DefaultCpu::Context ctx(1);
  const double gradient = GENERATE(1.0, kNan, std::numeric_limits<double>::infinity());
  const double loss = gradient == 1.0 ? kNan : 0.0;
  Single<DefaultCpu, float> p{{0.1F, 0.2F}, {1.0F, static_cast<float>(gradient)}, {}, {}};
  p.step(ctx, numbers(1), 1.0, static_cast<float>(loss));
  CHECK(std::isnan(p.factor));
  CHECK(p.value == std::vector<float>{0.1F, 0.2F});
  CHECK(p.first == std::vector<float>{0, 0});
  CHECK(p.second == std::vector<float>{0, 0});
}

TEST_CASE("the clipping factor is PyTorch's clip_grad_norm_", "[ops][clip]") {
  DefaultCpu::Context ctx(1);
  const auto factor_of = [&](float gradient, double limit) {
    Single<DefaultCpu, float> p{{0}, {gradient}, {}, {}};
    p.step(ctx, numbers(1), limit);
    CHECK(p.norm == Approx(std::fabs(gradient)));
    return p.factor;
  };
  CHECK(factor_of(-5.0F, 1.0) == Approx(1.0 / (5.0 + 1e-6)));
  CHECK(factor_of(0.5F, 1.0) == 1.0F);
  CHECK(factor_of(5.0F, 0.0) == 1.0F);  // no limit
  CHECK(factor_of(0.0F, 1.0) == 1.0F);
}

#endif
