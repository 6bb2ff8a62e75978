// The rows of input deltas among the embeddings of a batch that was laid out for them (seam/input.hpp).
#pragma once

#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/prefix.hpp"
#include "deltatune/seam/input.hpp"

namespace deltatune {

// Puts the rows of one kind (InputRows::like_words) where they belong in h (N, C). Returns whether there are any.
template <class X>
bool place_input_rows(Pass<X>& pass, const InputSite<X>& input, const DeviceBatch<X>& batch, bool like_words, View<scalar_of<X>> h,
                      typename InputSlot<X>::Saved& saved) {
  if (batch.layout().rows() == 0) return false;
  return input.deltas.forward(pass, batch.sequences().count, h.cols, like_words, saved, [&](Index count, Index first, View<scalar_of<X>> rows) {
    ops::insert_sequence_rows<backend_of<X>, scalar_of<X>>(pass.ctx, batch.sequences().offsets, count, first, rows, h);
  });
}

// Takes their gradient back to the deltas; of finished embeddings nothing is left of it in dh_io (N, C).
template <class X>
void fetch_input_rows(Pass<X>& pass, InputSite<X>& input, const DeviceBatch<X>& batch, bool like_words, View<scalar_of<X>> dh_io,
                      const typename InputSlot<X>::Saved& saved) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  const Index* const offsets = batch.sequences().offsets;
  input.deltas.backward(pass, batch.sequences().count, dh_io.cols, like_words, saved, [&](Index count, Index first, View<T> rows) {
    ops::fetch_sequence_rows<B, T>(pass.ctx, offsets, count, first, dh_io, rows);
    if (!like_words) ops::zero_sequence_rows<B, T>(pass.ctx, offsets, count, first, batch.sequences().count, dh_io);
  });
}

}  // namespace deltatune
