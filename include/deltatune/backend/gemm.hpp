// Description of a matrix product, the same for all backends.
#pragma once

#include "deltatune/tensor/view.hpp"

namespace deltatune {

// c = alpha · op(a) · op(b) + beta · c, row-major; op transposes where asked. c is not read when beta is 0.
// In: the type of what is multiplied; sums are always of type T. Every backend has In = T, some have Bfloat16.
template <class T, class In = T>
struct Gemm {
  View<const In> a;  // (m, k), or (k, m) when transposed
  View<const In> b;  // (k, n), or (n, k) when transposed
  View<T> c;         // (m, n)
  bool transpose_a = false;
  bool transpose_b = false;
  T alpha = T(1);
  T beta = T(0);

  Index m() const { return c.rows; }
  Index n() const { return c.cols; }
  Index k() const { return transpose_a ? a.rows : a.cols; }
};

}  // namespace deltatune
