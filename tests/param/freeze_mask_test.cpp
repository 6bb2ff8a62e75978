#include "deltatune/param/freeze_mask.hpp"

#include <catch2/catch.hpp>

using namespace deltatune;

TEST_CASE("freeze mask: kinds and what they count", "[param]") {
  const Shape matrix{4, 6}, vector{5};
  CHECK_FALSE(FreezeMask::frozen().trains());
  CHECK(FreezeMask::frozen().trainable_count(matrix) == 0);
  CHECK(FreezeMask::trainable().trains());
  CHECK_FALSE(FreezeMask::trainable().partial());
  CHECK(FreezeMask::trainable().trainable_count(matrix) == 24);
  CHECK(FreezeMask::rows({0, 2}).partial());
  CHECK(FreezeMask::rows({0, 2}).trains());
  CHECK(FreezeMask::rows({0, 2}).trainable_count(matrix) == 12);
  CHECK(FreezeMask::rows({0, 2}).trainable_count(vector) == 2);
  CHECK(FreezeMask::elements({0, 2, 23}).partial());
  CHECK(FreezeMask::elements({0, 2, 23}).trainable_count(matrix) == 3);
}

TEST_CASE("freeze mask: an index given twice counts once", "[param]") {
  CHECK(FreezeMask::rows({2, 0, 2}).trainable_count({4, 6}) == 12);
  CHECK(FreezeMask::elements({3, 3}).trainable_count({4, 6}) == 1);
}
