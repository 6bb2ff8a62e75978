// One table of embeddings: y[n] = table[id[n]].
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "deltatune/nn/base_matrix.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/embedding.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/lookup.hpp"

namespace deltatune {

template <class X>
class Embedding {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  Embedding() = default;
  // skipped_id: the padding id, whose row gets no gradient; -1 for none.
  Embedding(context_of<X>& ctx, const std::string& path, Index count, Index width, Index skipped_id = -1)
      : table_(ctx, {count, width}), site_{path, Parameter<X>(path + ".weight", Role::embedding, {count, width}, table_.view()), {}, skipped_id} {}

  template <class F>
  void visit(const F& f) {
    f(site_.table);
    site_.deltas.visit(f);
  }
  LookupSite<X>& site() { return site_; }
  Parameter<X>& table() { return site_.table; }
  const Parameter<X>& table() const { return site_.table; }
  Index count() const { return site_.table.shape().at(0); }
  BaseMatrix<X> matrix() const { return {table_.view(), rounded_.view()}; }
  View<T> values() { return table_.view(); }
  explicit operator bool() const { return !site_.path.empty(); }

  // Another number of rows: the first ones stay, new ones are 0. Nothing of it trains then. Throws Error where deltas are attached, or the table is held
  // rounded.
  void resize(context_of<X>& ctx, Index count) {
    if (!site_.deltas.empty()) throw Error(site_.path, "has deltas for " + std::to_string(this->count()) + " rows", {.got = std::to_string(count) + " rows"});
    const View<T> old = site_.table.value();
    const Index kept = std::min(count, old.rows);
    X table(ctx, {count, old.cols});
    B::fill(ctx, table.view(), T(0));
    ops::copy<B, T>(ctx, old.row_range(0, kept), table.view().row_range(0, kept));
    site_.table = Parameter<X>(site_.table.path(), Role::embedding, {count, old.cols}, table.view());
    table_ = std::move(table);
  }

  // Rounds the table to bfloat16 for good, unless it trains.
  void cast_base_to_bf16(context_of<X>& ctx) requires kRounds<X> {
    if (rounded_ || site_.table.trains()) return;
    rounded_ = Tensor<Bfloat16, B>(ctx, table_.shape());
    ops::round_to_bfloat16<B, T>(ctx, table_.view(), rounded_.view());
    site_.table.set_value({});
    site_.table.set_rounded();
    table_ = X();
  }

  using Saved = typename LookupSlot<X>::Saved;

  // y (N, C) = or += rows of the table; a negative id stands for a row of zeros.
  void forward(Pass<X>& pass, const std::int32_t* ids, View<T> y, bool accumulate, Saved& saved) const {
    if (rounded_) {
      ops::embedding_forward<B, T>(pass.ctx, rounded_.view(), ids, y, accumulate);
    } else {
      ops::embedding_forward<B, T>(pass.ctx, table_.view(), ids, y, accumulate);
    }
    if (!site_.deltas.empty()) site_.deltas.forward(pass, ids, y, saved);
  }
  void backward(Pass<X>& pass, View<const T> dy, const RowGroups& groups, const Saved& saved) {
    if (site_.table.trains()) ops::embedding_backward<B, T>(pass.ctx, dy, groups, site_.skipped_id, site_.table.gradient());
    if (!site_.deltas.empty()) site_.deltas.backward(pass, saved, groups, dy);
  }

 private:
  X table_;                      // (V, C), or empty
  Tensor<Bfloat16, B> rounded_;  // the other
  LookupSite<X> site_;
};

}  // namespace deltatune
