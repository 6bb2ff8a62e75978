#include "deltatune/tensor/tensor.hpp"

#include <catch2/catch.hpp>
#include <type_traits>
#include <utility>

#include "deltatune/backend/reference.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/tensor/sequence.hpp"
#include "deltatune/tensor/tensor_trait.hpp"

using namespace deltatune;
using Matrix = Tensor<float, Reference>;

// What a kernel holds must be copied to a device byte by byte.
static_assert(std::is_trivially_copyable_v<View<float>>);
static_assert(std::is_trivially_copyable_v<Sequences>);
static_assert(std::is_trivially_copyable_v<DropoutMask>);
static_assert(std::is_convertible_v<View<float>, View<const float>>);
static_assert(!std::is_convertible_v<View<const float>, View<float>>, "a view of constants stays one");
static_assert(!std::is_copy_constructible_v<Matrix> && !std::is_copy_assignable_v<Matrix>, "a copy is always written out");
static_assert(std::is_nothrow_move_constructible_v<Matrix> && std::is_nothrow_move_assignable_v<Matrix>);
static_assert(std::is_same_v<scalar_of<Matrix>, float> && std::is_same_v<backend_of<Matrix>, Reference>);
static_assert(std::is_same_v<context_of<Matrix>, Reference::Context>);

TEST_CASE("view: rows, columns and stride", "[tensor]") {
  float data[12];
  for (int i = 0; i < 12; ++i) data[i] = static_cast<float>(i);
  const View<float> all(data, 3, 4);
  CHECK(all(2, 1) == 9);
  CHECK(all.contiguous());
  const View<float> part = all.row_range(1, 2).column_range(1, 2);
  CHECK(part.rows == 2);
  CHECK(part.cols == 2);
  CHECK(part.size() == 4);
  CHECK(part(0, 0) == 5);
  CHECK(part(1, 1) == 10);
  CHECK(*part.row(1) == 9);
  CHECK_FALSE(part.contiguous());
  CHECK(all.row_range(1, 1).column_range(0, 2).contiguous());
  CHECK(static_cast<bool>(part));
  CHECK_FALSE(static_cast<bool>(View<float>()));
}

TEST_CASE("tensor: zeros of a shape, seen as a matrix", "[tensor]") {
  Reference::Context ctx;
  Matrix matrix(ctx, {2, 3});
  CHECK(matrix.size() == 6);
  CHECK(matrix.bytes() == 24);
  CHECK(matrix.view().rows == 2);
  CHECK(matrix.view().cols == 3);
  for (int i = 0; i < 6; ++i) CHECK(matrix.view().data[i] == 0.0F);
  Matrix vector(ctx, {5});
  CHECK(vector.view().rows == 1);
  CHECK(vector.view().cols == 5);
  const Matrix nothing;
  CHECK_FALSE(static_cast<bool>(nothing));
  CHECK(nothing.bytes() == 0);
  CHECK(nothing.view().size() == 0);
}

TEST_CASE("tensor: a move hands the storage on, and each is released once", "[tensor]") {
  Reference::Context ctx;
  {
    Matrix a(ctx, {2, 3});
    a.view()(1, 2) = 7;
    const float* storage = a.view().data;
    Matrix b(std::move(a));
    CHECK_FALSE(static_cast<bool>(a));  // NOLINT: moved from
    CHECK(a.bytes() == 0);
    CHECK(b.view().data == storage);
    CHECK(b.shape() == Shape{2, 3});
    Matrix c(ctx, {100});
    CHECK(ctx.live_bytes() == 24 + 400);
    c = std::move(b);  // releases the hundred
    CHECK(ctx.live_bytes() == 24);
    CHECK(c.view()(1, 2) == 7);
    Matrix& self = c;
    c = std::move(self);
    CHECK(c.view()(1, 2) == 7);
    c = Matrix();
    CHECK(ctx.live_bytes() == 0);
    a = Matrix(ctx, {1});
    CHECK(ctx.live_bytes() == 4);
  }
  CHECK(ctx.live_bytes() == 0);
  CHECK(ctx.allocations() == 3);
  CHECK(ctx.peak_bytes() == 424);
}
