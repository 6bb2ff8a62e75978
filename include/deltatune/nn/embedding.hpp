// BERT's input: h = dropout(LN(word[id] + position[p] + type[t])).
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "deltatune/nn/base_matrix.hpp"
#include "deltatune/nn/input_rows.hpp"
#include "deltatune/nn/norm.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/embedding.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/input.hpp"
#include "deltatune/seam/lookup.hpp"

namespace deltatune {

// One table of embeddings.
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

template <class X>
class BertEmbeddings {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    typename Embedding<X>::Saved word, position, type;
    typename InputSlot<X>::Saved deltas;
    typename LayerNorm<X>::Saved norm;
    DropoutMask dropout;
    View<T> out;  // (N, C) where rows of deltas stand among those of the norm
  };

  BertEmbeddings() = default;
  // path: of the module, for input deltas.
  BertEmbeddings(std::string path, Embedding<X> word, Embedding<X> position, Embedding<X> type, LayerNorm<X> norm, double probability)
      : word_(std::move(word)), position_(std::move(position)), type_(std::move(type)), norm_(std::move(norm)), probability_(probability) {
    input_.path = std::move(path);
    input_.width = word_.table().shape().at(1);
  }

  template <class F>
  void visit(const F& f) {
    word_.visit(f);
    position_.visit(f);
    type_.visit(f);
    input_.deltas.visit(f);
    norm_.visit(f);
  }
  // f(LookupSite<X>&) for each table.
  template <class F>
  void visit_lookups(const F& f) {
    f(word_.site());
    f(position_.site());
    f(type_.site());
  }
  InputSite<X>& input() { return input_; }
  const InputSite<X>& input() const { return input_; }
  Parameter<X>& word_table() { return word_.table(); }
  void resize_vocabulary(context_of<X>& ctx, Index count) { word_.resize(ctx, count); }
  bool tables_train() { return trains(word_) || trains(position_) || trains(type_); }
  void cast_base_to_bf16(context_of<X>& ctx) requires kRounds<X> {
    for (Embedding<X>* const table : {&word_, &position_, &type_}) table->cast_base_to_bf16(ctx);
  }

  // -> h (N, C).
  void forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Saved& saved) const {
    word_.forward(pass, batch.ids(), h, false, saved.word);
    place_input_rows(pass, input_, batch, true, h, saved.deltas);
    position_.forward(pass, batch.positions(), h, true, saved.position);
    type_.forward(pass, batch.types(), h, true, saved.type);
    norm_.forward(pass, h, {}, {}, h, saved.norm);
    saved.dropout = pass.dropout(probability_);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, h, h);
    saved.out = {};
    if (place_input_rows(pass, input_, batch, false, h, saved.deltas)) {
      saved.out = pass.keep(h.rows, h.cols);
      ops::copy<B, T>(pass.ctx, h, saved.out);
    }
  }

  void rebuild_output(Pass<X>& pass, const Saved& saved, View<T> h) const {
    if (saved.out) return ops::copy<B, T>(pass.ctx, saved.out, h);
    norm_.rebuild(pass, saved.norm, saved.dropout, h);
  }

  // dh_io (N, C): used up.
  void backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Saved& saved, View<T> dh_io) {
    fetch_input_rows(pass, input_, batch, false, dh_io, saved.deltas);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, dh_io, dh_io);
    if (!tables_train() && !input_.deltas.has_rows(true)) return norm_.parameter_backward(pass, saved.norm, dh_io);
    norm_.backward(pass, saved.norm, dh_io, {});
    fetch_input_rows(pass, input_, batch, true, dh_io, saved.deltas);
    if (!tables_train()) return;
    word_.backward(pass, dh_io, batch.id_groups(), saved.word);
    position_.backward(pass, dh_io, batch.position_groups(), saved.position);
    type_.backward(pass, dh_io, batch.type_groups(), saved.type);
  }

 private:
  Embedding<X> word_, position_, type_;
  InputSite<X> input_;
  LayerNorm<X> norm_;
  double probability_ = 0;
};

}  // namespace deltatune
