// Sixteen numbers at a time: vectors of the compiler's own, products of small matrices out of registers, and transposed copies.
//
// Matrices on the right of a product, and results, have rows padded to whole vectors.
#pragma once

#include <type_traits>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::detail {

inline constexpr Index kLanes = 16;  // of float: one AVX-512 or two AVX2 registers

inline Index padded_cols(Index cols) { return (cols + kLanes - 1) / kLanes * kLanes; }

template <class T>
struct LanesOf {
  typedef T Type __attribute__((vector_size(kLanes * sizeof(T))));
};
template <class T>
using Lanes = typename LanesOf<T>::Type;

// By reference: how vectors are passed by value depends on the processor that one compiles for.
template <class T>
DELTATUNE_INLINE void load_lanes(const T* from, Lanes<T>& v) {
  __builtin_memcpy(&v, from, sizeof(v));
}
template <class T>
DELTATUNE_INLINE void store_lanes(const Lanes<T>& v, T* to) {
  __builtin_memcpy(to, &v, sizeof(v));
}

// c(i, j) (+)= Σ_k a(i, k) · b(k, j) for Rows rows and Blocks · kLanes columns. a is read one element at a time through its two strides.
template <Index Rows, Index Blocks, class T>
void tile_product(const T* a, Index a_row, Index a_col, const T* b, Index b_row, T* c, Index c_row, Index k_count, bool accumulate) {
  Lanes<T> sum[Rows][Blocks] = {};
  if (accumulate) {
    DELTATUNE_UNROLL
    for (Index r = 0; r < Rows; ++r) {
      DELTATUNE_UNROLL
      for (Index j = 0; j < Blocks; ++j) load_lanes<T>(c + r * c_row + j * kLanes, sum[r][j]);
    }
  }
  for (Index k = 0; k < k_count; ++k) {
    Lanes<T> right[Blocks];
    DELTATUNE_UNROLL
    for (Index j = 0; j < Blocks; ++j) load_lanes<T>(b + k * b_row + j * kLanes, right[j]);
    DELTATUNE_UNROLL
    for (Index r = 0; r < Rows; ++r) {
      const T factor = a[r * a_row + k * a_col];
      DELTATUNE_UNROLL
      for (Index j = 0; j < Blocks; ++j) sum[r][j] += factor * right[j];
    }
  }
  DELTATUNE_UNROLL
  for (Index r = 0; r < Rows; ++r) {
    DELTATUNE_UNROLL
    for (Index j = 0; j < Blocks; ++j) store_lanes<T>(sum[r][j], c + r * c_row + j * kLanes);
  }
}

template <Index Blocks, class T>
void column_of_tiles(const T* a, Index a_row, Index a_col, View<const T> b, View<T> c, Index rows, Index j, bool accumulate) {
  // With two blocks: independent sums enough to hide latencies, few enough for the registers of AVX-512, and no rest in attention's blocks of queries.
  constexpr Index kRows = 8;
  Index i = 0;
  const auto tile = [&]<Index Rows>() {
    tile_product<Rows, Blocks>(a + i * a_row, a_row, a_col, b.data + j, b.stride, c.row(i) + j, c.stride, b.rows, accumulate);
  };
  for (; i + kRows <= rows; i += kRows) tile.template operator()<kRows>();
  switch (rows - i) {
    case 7:
      return tile.template operator()<7>();
    case 6:
      return tile.template operator()<6>();
    case 5:
      return tile.template operator()<5>();
    case 4:
      return tile.template operator()<4>();
    case 3:
      return tile.template operator()<3>();
    case 2:
      return tile.template operator()<2>();
    case 1:
      return tile.template operator()<1>();
    default:
      return;
  }
}

// c (+)= a · b for the first `rows` rows of c; a(i, k) lies at a[i · a_row + k · a_col], so it may be transposed.
// Once in a program and not once for each of its five uses: twelve unrolled tiles are slow to compile.
template <class T>
DELTATUNE_NOINLINE void small_product(const T* a, Index a_row, Index a_col, View<const T> b, View<T> c, Index rows, bool accumulate = false) {
  Index j = 0;
  for (; j + 2 * kLanes <= c.cols; j += 2 * kLanes) column_of_tiles<2>(a, a_row, a_col, b, c, rows, j, accumulate);
  if (j < c.cols) column_of_tiles<1>(a, a_row, a_col, b, c, rows, j, accumulate);
}

// to(j, i) = from(i, j) for 16 rows and columns: four perfect shuffles of the rows, each of which interleaves row i with row i + 8.
inline void transpose_16(const float* from, Index from_stride, float* to, Index to_stride) {
  Lanes<float> row[kLanes];
  DELTATUNE_UNROLL
  for (Index i = 0; i < kLanes; ++i) load_lanes<float>(from + i * from_stride, row[i]);
  DELTATUNE_UNROLL
  for (int round = 0; round < 4; ++round) {
    Lanes<float> shuffled[kLanes];
    DELTATUNE_UNROLL
    for (Index i = 0; i < kLanes / 2; ++i) {
      shuffled[2 * i] = __builtin_shufflevector(row[i], row[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      shuffled[2 * i + 1] = __builtin_shufflevector(row[i], row[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    DELTATUNE_UNROLL
    for (Index i = 0; i < kLanes; ++i) row[i] = shuffled[i];
  }
  DELTATUNE_UNROLL
  for (Index i = 0; i < kLanes; ++i) store_lanes<float>(row[i], to + i * to_stride);
}

// out(j, i) = x(i, j), zeros in the padding: out has x.cols rows of at least x.rows numbers.
template <class T>
void copy_transposed(View<const T> x, View<T> out) {
  Index done = 0;  // rows of x
  if constexpr (std::is_same_v<T, float>) {
    if (x.cols % kLanes == 0) {
      for (; done + kLanes <= x.rows; done += kLanes)
        for (Index j = 0; j < x.cols; j += kLanes) transpose_16(x.row(done) + j, x.stride, out.row(j) + done, out.stride);
    }
  }
  for (Index j = 0; j < x.cols; ++j) {
    T* const to = out.row(j);
    for (Index i = done; i < x.rows; ++i) to[i] = x(i, j);
    for (Index i = x.rows; i < out.cols; ++i) to[i] = T(0);
  }
}

}  // namespace deltatune::detail
