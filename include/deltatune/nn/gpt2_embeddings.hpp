// GPT-2's input: h = dropout(word[id] + position[p]).
#pragma once

#include <string>
#include <utility>

#include "deltatune/nn/embedding.hpp"

namespace deltatune {

template <class X>
class Gpt2Embeddings {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    typename Embedding<X>::Saved word, position;
    typename InputSlot<X>::Saved deltas;
    DropoutMask dropout;
  };

  Gpt2Embeddings() = default;
  // path: of the module, for input deltas.
  Gpt2Embeddings(std::string path, Embedding<X> word, Embedding<X> position, double probability)
      : word_(std::move(word)), position_(std::move(position)), probability_(probability) {
    input_.path = std::move(path);
    input_.width = word_.table().shape().at(1);
  }

  template <class F>
  void visit(const F& f) {
    word_.visit(f);
    position_.visit(f);
    input_.deltas.visit(f);
  }
  // f(LookupSite<X>&) for each table.
  template <class F>
  void visit_lookups(const F& f) {
    f(word_.site());
    f(position_.site());
  }
  InputSite<X>& input() { return input_; }
  const InputSite<X>& input() const { return input_; }
  const std::string& word_path() { return word_.site().path; }
  Parameter<X>& word_table() { return word_.table(); }
  BaseMatrix<X> word_matrix() const { return word_.matrix(); }
  View<T> word_values() { return word_.values(); }
  void resize_vocabulary(context_of<X>& ctx, Index count) { word_.resize(ctx, count); }
  bool tables_train() { return trains(word_) || trains(position_); }
  void cast_base_to_bf16(context_of<X>& ctx) requires kRounds<X> {
    for (Embedding<X>* const table : {&word_, &position_}) table->cast_base_to_bf16(ctx);
  }

  // -> h (N, C).
  void forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Saved& saved) const {
    word_.forward(pass, batch.ids(), h, false, saved.word);
    place_input_rows(pass, input_, batch, true, h, saved.deltas);
    position_.forward(pass, batch.positions(), h, true, saved.position);
    saved.dropout = pass.dropout(probability_);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, h, h);
    place_input_rows(pass, input_, batch, false, h, saved.deltas);
  }

  // dh_io (N, C): used up.
  void backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Saved& saved, View<T> dh_io) {
    fetch_input_rows(pass, input_, batch, false, dh_io, saved.deltas);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, dh_io, dh_io);
    fetch_input_rows(pass, input_, batch, true, dh_io, saved.deltas);
    if (!tables_train()) return;
    word_.backward(pass, dh_io, batch.id_groups(), saved.word);
    position_.backward(pass, dh_io, batch.position_groups(), saved.position);
  }

 private:
  Embedding<X> word_, position_;
  InputSite<X> input_;
  double probability_ = 0;
};

}  // namespace deltatune
