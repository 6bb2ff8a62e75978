// A matrix that somebody else owns: pointer, extents, distance between rows. Trivially copyable, so a kernel can hold it.
#pragma once

#include <type_traits>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

template <class T>
struct View {
  T* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;  // elements from one row to the next, at least cols

  View() = default;
  DELTATUNE_HD View(T* pointer, Index row_count, Index column_count) : View(pointer, row_count, column_count, column_count) {}
  DELTATUNE_HD View(T* pointer, Index row_count, Index column_count, Index row_stride)
      : data(pointer), rows(row_count), cols(column_count), stride(row_stride) {}

  // A view of constants from a view of variables.
  template <class U>
  requires std::is_same_v<const U, T> DELTATUNE_HD View(const View<U>& variables) : View(variables.data, variables.rows, variables.cols, variables.stride) {}

  DELTATUNE_HD T& operator()(Index i, Index j) const { return data[i * stride + j]; }
  DELTATUNE_HD T* row(Index i) const { return data + i * stride; }
  DELTATUNE_HD Index size() const { return rows * cols; }
  DELTATUNE_HD bool contiguous() const { return stride == cols || rows <= 1; }
  DELTATUNE_HD explicit operator bool() const { return data != nullptr; }

  DELTATUNE_HD View row_range(Index first, Index count) const { return {data + first * stride, count, cols, stride}; }
  DELTATUNE_HD View column_range(Index first, Index count) const { return {data + first, rows, count, stride}; }
};

}  // namespace deltatune
