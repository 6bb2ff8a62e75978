#include "deltatune/param/parameter.hpp"

#include <utility>
#include <vector>

#include "deltatune/backend/reference.hpp"
#include "support/error_text.hpp"

using namespace deltatune;
using X = Tensor<float, Reference>;

namespace {

std::vector<float> numbers(View<const float> view) { return {view.data, view.data + view.size()}; }

}  // namespace

TEST_CASE("parameter: frozen it owns no bytes, trainable it owns its gradient", "[param]") {
  Reference::Context ctx;
  X value(ctx, {3, 2});
  Parameter<X> parameter("layer.weight", Role::weight, {3, 2}, value.view());
  const Index before = ctx.live_bytes();
  CHECK_FALSE(parameter.trains());
  CHECK(parameter.trainable_count() == 0);
  parameter.allocate_gradient(ctx);
  CHECK_FALSE(parameter.has_gradient());
  CHECK_FALSE(static_cast<bool>(parameter.gradient()));
  CHECK(parameter.gradient_bytes() == 0);
  CHECK(ctx.live_bytes() == before);

  parameter.set_mask(FreezeMask::trainable());
  parameter.allocate_gradient(ctx);
  CHECK(parameter.has_gradient());
  CHECK(parameter.gradient_bytes() == 24);
  CHECK(numbers(parameter.gradient()) == std::vector<float>(6, 0.0F));
  CHECK(parameter.gradient().rows == 3);
  CHECK_FALSE(static_cast<bool>(parameter.mask_values()));
  const float* storage = parameter.gradient().data;
  parameter.allocate_gradient(ctx);  // there already
  CHECK(parameter.gradient().data == storage);

  parameter.set_mask(FreezeMask::frozen());
  CHECK_FALSE(parameter.has_gradient());
  CHECK(ctx.live_bytes() == before);
}

TEST_CASE("parameter: mask values of rows and elements", "[param]") {
  Reference::Context ctx;
  X value(ctx, {3, 2});
  Parameter<X> parameter("layer.weight", Role::weight, {3, 2}, value.view());
  parameter.set_mask(FreezeMask::rows({2, 0}));
  parameter.allocate_gradient(ctx);
  CHECK(parameter.trainable_count() == 4);
  CHECK(numbers(parameter.mask_values()) == std::vector<float>{1, 0, 1});
  CHECK(parameter.mask_span() == 2);
  CHECK(parameter.gradient_bytes() == 24 + 12);

  parameter.set_mask(FreezeMask::elements({1, 5}));
  parameter.allocate_gradient(ctx);
  CHECK(parameter.trainable_count() == 2);
  CHECK(numbers(parameter.mask_values()) == std::vector<float>{0, 1, 0, 0, 0, 1});
  CHECK(parameter.mask_span() == 1);

  parameter.set_mask(FreezeMask::trainable());
  CHECK_FALSE(static_cast<bool>(parameter.mask_values()));
}

TEST_CASE("parameter: a mask outside of it is refused by name and changes nothing", "[param]") {
  Reference::Context ctx;
  X value(ctx, {3, 2});
  Parameter<X> parameter("layer.weight", Role::weight, {3, 2}, value.view());
  const std::string rows = test::error_text([&] { parameter.set_mask(FreezeMask::rows({0, 3})); });
  CHECK(rows.find("layer.weight") == 0);
  CHECK(rows.find("expected 0 to 2, got 3") != std::string::npos);
  CHECK(test::error_text([&] { parameter.set_mask(FreezeMask::elements({6})); }).find("expected 0 to 5, got 6") != std::string::npos);
  CHECK(test::error_text([&] { parameter.set_mask(FreezeMask::elements({-1})); }).find("got -1") != std::string::npos);
  CHECK_FALSE(parameter.trains());
  parameter.set_mask(FreezeMask::elements({5}));
  parameter.set_mask(FreezeMask::rows({2}));
  CHECK(parameter.trains());
}

TEST_CASE("parameter: asked for a gradient that was never allocated it says so", "[param]") {
  Reference::Context ctx;
  X value(ctx, {2});
  Parameter<X> parameter("layer.bias", Role::bias, {2}, value.view());
  parameter.set_mask(FreezeMask::trainable());
  const std::string text = test::error_text([&] { parameter.gradient(); });
  CHECK(text.find("layer.bias") == 0);
  CHECK(text.find("allocate_gradients") != std::string::npos);
}

TEST_CASE("parameter: a move keeps value, mask and gradient", "[param]") {
  Reference::Context ctx;
  X value(ctx, {2});
  Parameter<X> parameter("layer.bias", Role::bias, {2}, value.view());
  parameter.set_mask(FreezeMask::rows({1}));
  parameter.allocate_gradient(ctx);
  const float* storage = parameter.gradient().data;
  Parameter<X> moved = std::move(parameter);
  CHECK(moved.path() == "layer.bias");
  CHECK(moved.gradient().data == storage);
  CHECK(moved.trainable_count() == 1);
  CHECK(moved.value().data == value.view().data);
}
