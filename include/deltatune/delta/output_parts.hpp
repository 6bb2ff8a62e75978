// What a delta changes of a fused weight's output.
#pragma once

#include <cstddef>
#include <vector>

#include "deltatune/tensor/view.hpp"

namespace deltatune {

// Equal parts of a layer's output, and which of them a delta changes, in rising order.
struct OutputParts {
  Index count = 1;
  std::vector<Index> chosen = {0};

  Index width(Index out) const { return out / count; }
  Index chosen_count() const { return static_cast<Index>(chosen.size()); }
  // f(j, view): the columns of chosen part j.
  template <class T, class F>
  void visit_columns(View<T> y, const F& f) const {
    for (std::size_t j = 0; j < chosen.size(); ++j) f(static_cast<Index>(j), y.column_range(chosen[j] * width(y.cols), width(y.cols)));
  }
};

}  // namespace deltatune
