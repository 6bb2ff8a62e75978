// The norm of all gradients and the factor that limits it: min(1, limit / (norm + 1e-6)), PyTorch's clip_grad_norm_.
// Pascanu et al. 2013, arXiv 1211.5063.
#pragma once

#include "deltatune/core/scalar.hpp"
#include "deltatune/ops/chunk.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

template <class T>
struct SquareSumChunk {
  ParameterChunks<T> chunks;
  T* partial;  // one a chunk
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index c) const {
    const ParameterChunk<T> chunk = chunks.data[c];
    T* gradient = chunk.gradient;
    if (chunk.mask != nullptr) team.each(chunk.count, [=](Index j) { gradient[j] = chunk.trains(j) ? gradient[j] : T(0); });
    const T sum = team.sum(chunk.count, [=](Index j) { return gradient[j] * gradient[j]; });
    team.each(1, [&](Index) { partial[c] = sum; });
  }
};

template <class T>
struct ClipFactor {
  const T* partial;
  Index count;
  double limit;
  const T* loss;
  T* norm;
  T* factor;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index) const {
    const T* from = partial;
    const T total = sqrt(team.sum(count, [=](Index j) { return from[j]; }));
    team.each(1, [&](Index) {
      const T wanted = T(limit) / (total + T(1e-6));
      const T clipped = limit > 0 && wanted < T(1) ? wanted : T(1);
      *norm = total;
      *factor = isfinite(total) && isfinite(*loss) ? clipped : T(0) / T(0);
    });
  }
};

}  // namespace detail

// Sets the gradients of masked elements to 0; norm (1) = √Σ g² over all chunks, factor (1) = what to multiply the gradients with so that the
// norm stays below limit (0: no limit), or NaN where norm or loss (1) is not finite: then nothing may be updated. partial: one element a chunk.
template <class B, class T>
void clip_gradients(typename B::Context& ctx, const ParameterChunks<T>& chunks, double limit, View<const T> loss, View<T> partial, View<T> norm,
                    View<T> factor) {
  B::for_each_row(ctx, chunks.count, ParameterChunk<T>::kElements, detail::SquareSumChunk<T>{chunks, partial.data});
  B::for_each_row(ctx, 1, chunks.count, detail::ClipFactor<T>{partial.data, chunks.count, limit, loss.data, norm.data, factor.data});
}

}  // namespace deltatune::ops
