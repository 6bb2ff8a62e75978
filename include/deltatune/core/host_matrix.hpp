// A matrix of doubles on the host, for what is computed once a run.
#pragma once

#include <cstddef>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

// Row-major.
struct HostMatrix {
  Index rows = 0;
  Index cols = 0;
  std::vector<double> values;

  HostMatrix() = default;
  HostMatrix(Index row_count, Index column_count) : rows(row_count), cols(column_count), values(static_cast<std::size_t>(row_count * column_count)) {}

  double* row(Index i) { return values.data() + i * cols; }
  const double* row(Index i) const { return values.data() + i * cols; }
  double& operator()(Index i, Index j) { return row(i)[j]; }
  double operator()(Index i, Index j) const { return row(i)[j]; }

  DELTATUNE_FUNCTION HostMatrix transposed() const {
    HostMatrix result(cols, rows);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j) result(j, i) = (*this)(i, j);
    return result;
  }
};

}  // namespace deltatune
