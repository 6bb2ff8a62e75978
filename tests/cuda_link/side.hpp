// Two shared libraries built from side.cu, with the same kernels in both.
#pragma once

#include <vector>

#include "deltatune/backend/cuda.hpp"

// x -= its mean, row by row.
struct CentreRow {
  deltatune::View<float> x;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, deltatune::Index i) const {
    float* const row = x.row(i);
    const float mean = team.sum(x.cols, [=](deltatune::Index j) { return row[j]; }) / static_cast<float>(x.cols);
    team.each(x.cols, [=](deltatune::Index j) { row[j] -= mean; });
  }
};

namespace left {
std::vector<float> run(deltatune::Cuda::Context& ctx);
}
namespace right {
std::vector<float> run(deltatune::Cuda::Context& ctx);
}
