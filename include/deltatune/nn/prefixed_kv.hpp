// Keys and values of kv deltas in front of those of the tokens (seam/kv.hpp), for one attention layer.
#pragma once

#include <cstdint>

#include "deltatune/nn/kv_cache.hpp"
#include "deltatune/ops/prefix.hpp"
#include "deltatune/seam/kv.hpp"

namespace deltatune {

// own (N, 2Ckv): of the tokens, whose map is `tokens`; x: what the deltas read. -> (N + B·P, 2Ckv), kept, and the map of these rows in keys.
template <class X>
View<scalar_of<X>> prefixed_kv(Pass<X>& pass, const KvSite<X>& site, const Sequences& tokens, View<const scalar_of<X>> x, View<const scalar_of<X>> own,
                               Sequences& keys, typename KvSlot<X>::Saved& saved) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  const Index prefix = site.deltas.rows();
  const View<T> kv = pass.keep(tokens.rows + tokens.count * prefix, 2 * site.width);
  const View<Index> offsets = pass.saved.template take<Index>(1, tokens.count + 1);
  const View<std::int32_t> row_sequence = pass.saved.template take<std::int32_t>(1, kv.rows);
  keys = ops::prefixed<B>(pass.ctx, tokens, prefix, offsets.data, row_sequence.data);
  ops::insert_behind_prefix<B, T>(pass.ctx, tokens, prefix, own, kv);
  site.deltas.forward(pass, tokens.count, 2 * site.width, x, saved,
                      [&](Index first, View<T> rows) { ops::insert_sequence_rows<B, T>(pass.ctx, offsets.data, rows.rows / tokens.count, first, rows, kv); });
  return kv;
}

// Puts the same rows into a cache: own (N, 2Ckv) behind what it holds of these sequences, and those of the deltas in front where they begin.
template <class X>
void append_kv(Pass<X>& pass, const KvSite<X>& site, const Sequences& tokens, View<const scalar_of<X>> x, View<const scalar_of<X>> own, KvCache<X>& cache,
               typename KvSlot<X>::Saved& saved) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  const Sequences& keys = cache.sequences(site.deltas.rows());
  if (cache.begins() && site.deltas.rows() > 0)
    site.deltas.forward(pass, tokens.count, 2 * site.width, x, saved, [&](Index first, View<T> rows) {
      ops::insert_sequence_rows<B, T>(pass.ctx, keys.offsets, rows.rows / tokens.count, first, rows, cache.rows());
    });
  ops::insert_at_end<B, T>(pass.ctx, tokens, keys, own, cache.rows());
}

// d_kv (N + B·P, 2Ckv) -> d_own (N, 2Ckv), and what the deltas get of it. x is read where the deltas need it.
template <class X>
void prefixed_kv_backward(Pass<X>& pass, KvSite<X>& site, const Sequences& tokens, const Sequences& keys, const typename KvSlot<X>::Saved& saved,
                          View<const scalar_of<X>> x, View<const scalar_of<X>> d_kv, View<scalar_of<X>> d_own, GradientSink<scalar_of<X>>& dx) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  ops::fetch_behind_prefix<B, T>(pass.ctx, tokens, site.deltas.rows(), d_kv, d_own);
  site.deltas.backward(
      pass, tokens.count, 2 * site.width, saved, x,
      [&](Index first, View<T> rows) { ops::fetch_sequence_rows<B, T>(pass.ctx, keys.offsets, rows.rows / tokens.count, first, d_kv, rows); }, dx);
}

}  // namespace deltatune
