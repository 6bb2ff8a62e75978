// Linear layers whose frozen weight is held in bfloat16.
#include <catch2/catch.hpp>

#include "deltatune/backend/cpu/gemm_tiled.hpp"
#include "deltatune/delta/lora.hpp"
#include "deltatune/nn/linear.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

// A layer with LoRA at two of its sites whose base is rounded; both of its output matrices.
auto rounded_body(bool wide, double dropout) {
  return [=]<class Y>(check::Trial<Y>& trial) {
    using B = backend_of<Y>;
    using T = scalar_of<Y>;
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    Linear<Y> fresh(ctx, 45, {{"query", 33}, {"key", 33}, {"value", 34}});
    unfreeze(fresh, {"**.bias"});
    fresh.visit_sites([&](LinearSite<Y>& site) {
      if (site.path != "key") site.deltas.add("lora", Lora<Y>(ctx, site.path, 45, site.width, {3, 2.0, dropout, false}, derive(1)));
    });
    fresh.arrange(ctx);
    Linear<Y>& layer = trial.own(std::move(fresh));
    layer.cast_base_to_bf16(ctx);
    const auto x = trial.input("x", 67, 45);
    const auto y = trial.output("y", 67, layer.out());
    const View<T> output = wide ? layer.keep_output(trial.pass(), 67) : y.value;
    typename Linear<Y>::Saved saved;
    layer.forward(trial.pass(), x.value, output, saved);
    if (wide) ops::copy<B, T>(ctx, output.column_range(0, layer.out()), y.value);
    if (!trial.backward_wanted()) return;
    View<T> dy = y.gradient;
    if (wide) {
      dy = layer.take_output(trial.pass(), 67);
      ops::copy<B, T>(ctx, y.gradient, dy.column_range(0, layer.out()));
    }
    layer.backward(trial.pass(), saved, x.value, dy, GradientSink<T>::fresh(x.gradient));
  };
}

}  // namespace

// Reference multiplies the same rounded numbers in double.
TEST_CASE("linear: a base in bfloat16", "[nn][linear][bfloat16]") {
  const bool wide = GENERATE(false, true);
  const double dropout = GENERATE(0.0, 0.3);
  test::check_device(rounded_body(wide, dropout));
#ifndef DELTATUNE_TEST_CUDA
  test::check_device<Tensor<float, Cpu<TiledGemm>>>(rounded_body(wide, dropout));
#endif
}

TEST_CASE("linear: a base in bfloat16 takes half the bytes, and is neither read nor trained", "[nn][linear][bfloat16]") {
  test::DeviceContext ctx;
  Linear<test::DeviceTensor> layer(ctx, 8, {{"a", 16}});
  layer.visit([&](auto& parameter) { test::Device::fill(ctx, parameter.value(), 0.5F); });
  const Index before = ctx.live_bytes();
  layer.cast_base_to_bf16(ctx);
  CHECK(ctx.live_bytes() == before - 16 * 8 * 2);
  layer.visit_sites([](auto& site) {
    CHECK_THROWS_WITH(site.weight.value(), Catch::Contains("a.weight") && Catch::Contains("bfloat16"));
    CHECK_THROWS_AS(site.weight.set_mask(FreezeMask::trainable()), Error);
  });
}
