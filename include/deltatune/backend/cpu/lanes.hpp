// Vectors of the compiler's own, products of small matrices out of registers, and transposed copies.
//
// Matrices on the right of a product, and results, have rows padded to whole blocks of kLanes numbers.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::detail {

inline constexpr Index kLanes = 16;  // whole vectors on every processor

inline Index padded_cols(Index cols) { return (cols + kLanes - 1) / kLanes * kLanes; }

inline constexpr Index kVectorBytes = DELTATUNE_VECTOR_BYTES;
template <class T>
inline constexpr Index kVectorSize = kVectorBytes / static_cast<Index>(sizeof(T));

template <class T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename VectorOf<T>::Type;

// By reference: how vectors are passed by value depends on the processor that one compiles for.
template <class T, class From>
DELTATUNE_INLINE void load_vector(const From* from, Vector<T>& v) {
  if constexpr (std::is_same_v<T, From>) {
    __builtin_memcpy(&v, from, sizeof(v));
  } else {
    T wide[kVectorSize<T>];
    for (Index i = 0; i < kVectorSize<T>; ++i) wide[i] = static_cast<T>(from[i]);
    __builtin_memcpy(&v, wide, sizeof(v));
  }
}
template <class T>
DELTATUNE_INLINE void store_vector(const Vector<T>& v, T* to) {
  __builtin_memcpy(to, &v, sizeof(v));
}

// c(i, j) (+)= Σ_k a(i, k) · b(k, j) for Rows rows and Vectors vectors of columns. a is read one element at a time through its two strides.
template <Index Rows, Index Vectors, class T>
void tile_product(const T* a, Index a_row, Index a_col, const T* b, Index b_row, T* c, Index c_row, Index k_count, bool accumulate) {
  Vector<T> sum[Rows][Vectors] = {};
  DELTATUNE_NO_UNROLL
  for (Index k = 0; k < k_count; ++k) {
    Vector<T> right[Vectors];
    DELTATUNE_UNROLL
    for (Index j = 0; j < Vectors; ++j) load_vector<T>(b + k * b_row + j * kVectorSize<T>, right[j]);
    DELTATUNE_UNROLL
    for (Index r = 0; r < Rows; ++r) {
      const T factor = a[r * a_row + k * a_col];
      DELTATUNE_UNROLL
      for (Index j = 0; j < Vectors; ++j) sum[r][j] += factor * right[j];
    }
  }
  DELTATUNE_UNROLL
  for (Index r = 0; r < Rows; ++r) {
    DELTATUNE_UNROLL
    for (Index j = 0; j < Vectors; ++j) {
      T* const to = c + r * c_row + j * kVectorSize<T>;
      if (accumulate) {
        Vector<T> before;
        load_vector<T>(to, before);
        sum[r][j] += before;
      }
      store_vector<T>(sum[r][j], to);
    }
  }
}

// A tile's rows: with two vectors of columns, independent sums enough to hide latencies, few enough for the registers: 32 of AVX-512, else 16.
inline constexpr Index kTileRows = kVectorBytes == 64 ? 8 : 6;

// c (+)= a · b for b and c of Vectors · kVectorSize columns and the first `rows` rows of c. In as few tiles as there can be, all of about the same height: a
// low one waits for its own sums. Once in a program: unrolled tiles are slow to compile.
template <Index Vectors, class T>
DELTATUNE_NOINLINE void column_of_tiles(const T* a, Index a_row, Index a_col, View<const T> b, View<T> c, Index rows, bool accumulate) {
  Index tiles = (rows + kTileRows - 1) / kTileRows;
  for (Index i = 0, height = 0; tiles > 0; i += height, --tiles) {
    height = (rows - i + tiles - 1) / tiles;
    const auto tile = [&]<Index Rows>() { tile_product<Rows, Vectors>(a + i * a_row, a_row, a_col, b.data, b.stride, c.row(i), c.stride, b.rows, accumulate); };
    [&]<Index... Below>(std::integer_sequence<Index, Below...>) { (void)((height == Below + 1 && (tile.template operator()<Below + 1>(), true)) || ...); }
    (std::make_integer_sequence<Index, kTileRows>());
  }
}

// c (+)= a · b for the first `rows` rows of c; a(i, k) lies at a[i · a_row + k · a_col], so it may be transposed.
template <class T>
void small_product(const T* a, Index a_row, Index a_col, View<const T> b, View<T> c, Index rows, bool accumulate = false) {
  constexpr Index kCols = 2 * kVectorSize<T>;
  Index j = 0;
  for (; j + kCols <= c.cols; j += kCols) column_of_tiles<2>(a, a_row, a_col, b.column_range(j, kCols), c.column_range(j, kCols), rows, accumulate);
  if constexpr (kCols > kLanes) {
    constexpr Index kRest = kCols / 2;
    if (j < c.cols) column_of_tiles<1>(a, a_row, a_col, b.column_range(j, kRest), c.column_range(j, kRest), rows, accumulate);
  }
}

// The numbers of a and b by turns: those of their first halves, or of their second ones.
template <bool Second, class T, Index... Lane>
DELTATUNE_INLINE void interleave(const Vector<T>& a, const Vector<T>& b, Vector<T>& out, std::integer_sequence<Index, Lane...>) {
  constexpr Index kSize = sizeof...(Lane);
  out = __builtin_shufflevector(a, b, (Lane / 2 + Lane % 2 * kSize + (Second ? kSize / 2 : 0))...);
}

// to(j, i) = from(i, j) for as many rows and columns as a vector is long: perfect shuffles of the rows, each of which interleaves the rows of the first
// half with those of the second.
template <class T, class From>
void transpose_square(const From* from, Index from_stride, T* to, Index to_stride) {
  constexpr Index kSize = kVectorSize<T>;
  constexpr auto kAll = std::make_integer_sequence<Index, kSize>();
  Vector<T> row[kSize];
  DELTATUNE_UNROLL
  for (Index i = 0; i < kSize; ++i) load_vector<T>(from + i * from_stride, row[i]);
  DELTATUNE_UNROLL
  for (Index round = 1; round < kSize; round *= 2) {
    Vector<T> shuffled[kSize];
    DELTATUNE_UNROLL
    for (Index i = 0; i < kSize / 2; ++i) {
      interleave<false, T>(row[i], row[i + kSize / 2], shuffled[2 * i], kAll);
      interleave<true, T>(row[i], row[i + kSize / 2], shuffled[2 * i + 1], kAll);
    }
    DELTATUNE_UNROLL
    for (Index i = 0; i < kSize; ++i) row[i] = shuffled[i];
  }
  DELTATUNE_UNROLL
  for (Index i = 0; i < kSize; ++i) store_vector<T>(row[i], to + i * to_stride);
}

// out(i, j) = x(i, j), zeros in the padding. A row is some dozen numbers, too few for a call of memmove.
template <class From, class T>
void copy_padded(View<const From> x, View<T> out) {
  const Index whole = std::min(x.cols, out.cols) / kVectorSize<T> * kVectorSize<T>;
  for (Index i = 0; i < x.rows; ++i) {
    const From* const from = x.row(i);
    T* const to = out.row(i);
    Index j = 0;
    for (; j < whole; j += kVectorSize<T>) {
      Vector<T> v;
      load_vector<T>(from + j, v);
      store_vector<T>(v, to + j);
    }
    for (; j < out.cols; ++j) to[j] = j < x.cols ? static_cast<T>(from[j]) : T(0);
  }
}

// out(j, i) = x(i, j), zeros in the padding: out has x.cols rows of at least x.rows numbers.
template <class From, class T>
void copy_transposed(View<const From> x, View<T> out) {
  constexpr Index kSize = kVectorSize<T>;
  const Index rows = x.rows / kSize * kSize, cols = x.cols / kSize * kSize;  // in whole squares
  for (Index i = 0; i < rows; i += kSize)
    for (Index j = 0; j < cols; j += kSize) transpose_square<T>(x.row(i) + j, x.stride, out.row(j) + i, out.stride);
  for (Index j = 0; j < x.cols; ++j) {
    T* const to = out.row(j);
    for (Index i = j < cols ? rows : 0; i < x.rows; ++i) to[i] = static_cast<T>(x(i, j));
    for (Index i = x.rows; i < out.cols; ++i) to[i] = T(0);
  }
}

}  // namespace deltatune::detail
