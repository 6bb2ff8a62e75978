// Tables of rotary embeddings: those of far positions are made when they are asked for, and a long batch has other angles (LongRoPE).
#include "deltatune/nn/rotary.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "support/device.hpp"

using namespace deltatune;

namespace {

// The first two columns of a row (1, 0) at this position: cosine and sine of its angle.
std::vector<float> turned(test::DeviceContext& ctx, const Rotary<test::DeviceTensor>& rotary, std::int32_t position, Index last_position) {
  using X = test::DeviceTensor;
  X row(ctx, {1, 2});
  test::from_host<X>(ctx, {1.0F, 0.0F}, row.view());
  Tensor<std::int32_t, test::Device> positions(ctx, {1});
  test::Device::copy_in(ctx, &position, positions.view().data, positions.bytes());
  Workspace<test::Device> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch};
  pass.positions = positions.view().data;
  pass.last_position = last_position;
  rotary.rotate(pass, 1, row.view());
  return test::on_host<X>(ctx, row.view());
}

}  // namespace

TEST_CASE("rotary tables grow to the positions that are asked for", "[nn][rotary]") {
  test::DeviceContext ctx(1);
  Rotary<test::DeviceTensor> rotary(ctx, {.theta = 10000}, 2, 20000);
  for (const std::int32_t position : {3, 4095, 4096, 9000, 19999}) {
    CAPTURE(position);
    rotary.reserve(ctx, position + 1);
    const std::vector<float> row = turned(ctx, rotary, position, position);
    CHECK(row[0] == Approx(std::cos(static_cast<double>(position))).margin(1e-6));
    CHECK(row[1] == Approx(std::sin(static_cast<double>(position))).margin(1e-6));
  }
}

TEST_CASE("rotary tables: all rows of a batch with a far position turn by the long frequencies", "[nn][rotary]") {
  test::DeviceContext ctx(1);
  const Rotary<test::DeviceTensor> rotary(ctx, {.frequency_scale = {0.5}, .magnitude = 2, .long_frequency_scale = {0.25}, .long_from = 10}, 2, 64);
  CHECK(turned(ctx, rotary, 3, 9)[0] == Approx(2 * std::cos(1.5)));
  CHECK(turned(ctx, rotary, 3, 10)[0] == Approx(2 * std::cos(0.75)));
}
