// BERT's input: h = dropout(LN(word[id] + position[p] + type[t])).
#pragma once

#include <string>
#include <utility>

#include "deltatune/nn/norm.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/ops/embedding.hpp"
#include "deltatune/param/visit.hpp"

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
      : table_(ctx, {count, width}), parameter_(path + ".weight", Role::embedding, {count, width}, table_.view()), skipped_id_(skipped_id) {}

  template <class F>
  void visit(const F& f) {
    f(parameter_);
  }
  bool trains() const { return parameter_.trains(); }
  Index count() const { return table_.shape().at(0); }

  // y (N, C) = or += rows of the table.
  void forward(Pass<X>& pass, const std::int32_t* ids, View<T> y, bool accumulate) const {
    ops::embedding_forward<B, T>(pass.ctx, table_.view(), ids, y, accumulate);
  }
  void backward(Pass<X>& pass, View<const T> dy, const ops::RowGroups& groups) {
    if (parameter_.trains()) ops::embedding_backward<B, T>(pass.ctx, dy, groups, skipped_id_, parameter_.gradient());
  }

 private:
  X table_;  // (V, C)
  Parameter<X> parameter_;
  Index skipped_id_ = -1;
};

template <class X>
class BertEmbeddings {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    typename LayerNorm<X>::Saved norm;
    DropoutMask dropout;
  };

  BertEmbeddings() = default;
  BertEmbeddings(Embedding<X> word, Embedding<X> position, Embedding<X> type, LayerNorm<X> norm, double probability)
      : word_(std::move(word)), position_(std::move(position)), type_(std::move(type)), norm_(std::move(norm)), probability_(probability) {}

  template <class F>
  void visit(const F& f) {
    word_.visit(f);
    position_.visit(f);
    type_.visit(f);
    norm_.visit(f);
  }
  bool tables_train() const { return word_.trains() || position_.trains() || type_.trains(); }

  // -> h (N, C).
  void forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Saved& saved) const {
    word_.forward(pass, batch.ids(), h, false);
    position_.forward(pass, batch.positions(), h, true);
    type_.forward(pass, batch.types(), h, true);
    norm_.forward(pass, h, {}, {}, h, saved.norm);
    saved.dropout = pass.dropout(probability_);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, h, h);
  }

  void rebuild_output(Pass<X>& pass, const Saved& saved, View<T> h) const { norm_.rebuild(pass, saved.norm, saved.dropout, h); }

  // dh_io (N, C): used up.
  void backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Saved& saved, View<T> dh_io) {
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, dh_io, dh_io);
    if (!tables_train()) return norm_.parameter_backward(pass, saved.norm, dh_io);
    norm_.backward(pass, saved.norm, dh_io, {});
    word_.backward(pass, dh_io, batch.id_groups());
    position_.backward(pass, dh_io, batch.position_groups());
    type_.backward(pass, dh_io, batch.type_groups());
  }

 private:
  Embedding<X> word_, position_, type_;
  LayerNorm<X> norm_;
  double probability_ = 0;
};

}  // namespace deltatune
