// The factor that limits a gradient's norm: min(1, limit / (norm + 1e-6)), PyTorch's clip_grad_norm_. Pascanu et al. 2013, arXiv 1211.5063.
#pragma once

#include "deltatune/core/scalar.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

template <class T>
struct ClipFactor {
  const T* square_sum;
  double limit;
  T* norm;
  T* factor;
  DELTATUNE_INLINE void operator()(Index) const {
    *norm = sqrt(*square_sum);
    const T wanted = T(limit) / (*norm + T(1e-6));
    *factor = limit > 0 && wanted < T(1) ? wanted : T(1);
  }
};

}  // namespace detail

// square_sum (1) -> norm (1), factor (1). limit 0: no limit, factor 1.
template <class B, class T>
void clip_factor(typename B::Context& ctx, View<const T> square_sum, double limit, View<T> norm, View<T> factor) {
  B::for_each(ctx, 1, detail::ClipFactor<T>{square_sum.data, limit, norm.data, factor.data});
}

}  // namespace deltatune::ops
