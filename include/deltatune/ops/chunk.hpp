// Parameters that train, cut into chunks of equal work, so that one launch runs over all of them however many and small they are.
#pragma once

#include "deltatune/core/shape.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

// Up to kElements successive elements of one parameter.
template <class T>
struct ParameterChunk {
  static constexpr Index kElements = 2048;
  T* value;
  T* gradient;
  const T* mask;  // of the parameter: one value for every mask_span elements, 0 where it is frozen; nullptr: every element trains
  Index mask_span;
  Index first;  // place of element 0 in the parameter
  Index flat;   // and among the elements of all parameters that train
  Index count;
  bool decays;             // whether weight decay applies
  double rate_factor = 1;  // on the learning rate

  DELTATUNE_HD bool trains(Index j) const { return mask == nullptr || mask[(first + j) / mask_span] != T(0); }
};

template <class T>
struct ParameterChunks {
  const ParameterChunk<T>* data = nullptr;
  Index count = 0;
};

namespace detail {

template <class T>
struct ZeroGradientChunk {
  ParameterChunks<T> chunks;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index c) const {
    team.each(chunks.data[c].count, [to = chunks.data[c].gradient](Index j) { to[j] = T(0); });
  }
};

}  // namespace detail

template <class B, class T>
void zero_gradients(typename B::Context& ctx, const ParameterChunks<T>& chunks) {
  B::for_each_row(ctx, chunks.count, ParameterChunk<T>::kElements, detail::ZeroGradientChunk<T>{chunks});
}

}  // namespace deltatune::ops
