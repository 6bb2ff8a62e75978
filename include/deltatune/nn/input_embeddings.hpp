// A model's input: h = projection(dropout(norm(s·word[id] + position[p] + type[t]))), each part but the words there or not. BERT has all but the
// projection, GPT-2 words and positions alone, ELECTRA a projection from a smaller width, Gemma a scale s of the words.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/nn/embedding.hpp"
#include "deltatune/nn/input_rows.hpp"
#include "deltatune/nn/linear.hpp"
#include "deltatune/nn/norm.hpp"
#include "deltatune/ops/scale.hpp"
#include "deltatune/seam/input.hpp"

namespace deltatune {

template <class X>
struct EmbeddingParts {
  std::shared_ptr<Embedding<X>> word;  // an encoder's are those of its decoder
  bool has_word = true;                // visit() gives it here
  Embedding<X> position = {}, type = {};
  std::optional<Norm<X>> norm = {};
  Linear<X> projection = {};
};

template <class X>
class InputEmbeddings {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    typename Embedding<X>::Saved word, position, type;
    typename InputSlot<X>::Saved deltas;
    typename Norm<X>::Saved norm;
    typename Linear<X>::Saved projection;
    DropoutMask dropout;
    View<T> embedded;  // (N, E) where the projection reads it again
    View<T> out;       // (N, C) where rows of deltas stand among those of the norm
  };

  InputEmbeddings() = default;
  // path: of the module, for input deltas.
  // scale: s; scales_prompts: of rows of deltas among the words, too.
  InputEmbeddings(std::string path, EmbeddingParts<X> parts, double dropout, double scale = 1, bool scales_prompts = false)
      : parts_(std::move(parts)), dropout_(dropout), scale_(scale), scales_prompts_(scales_prompts) {
    input_.path = std::move(path);
    input_.width = parts_.word->table().shape().at(1);
  }

  template <class F>
  void visit(const F& f) {
    for (Embedding<X>* const table : own_tables()) table->visit(f);
    input_.deltas.visit(f);
    if (parts_.norm) parts_.norm->visit(f);
    parts_.projection.visit(f);
  }
  // f(LookupSite<X>&) for each table.
  template <class F>
  void visit_lookups(const F& f) {
    for (Embedding<X>* const table : own_tables()) f(table->site());
  }
  template <class F>
  void visit_linears(const F& f) {
    if (parts_.projection) f(parts_.projection);
  }
  InputSite<X>& input() { return input_; }
  const InputSite<X>& input() const { return input_; }
  Embedding<X>& word() { return *parts_.word; }
  const std::shared_ptr<Embedding<X>>& shared_word() const { return parts_.word; }
  const Embedding<X>& word() const { return *parts_.word; }
  bool tables_train() {
    bool any = trains(*parts_.word);
    for (Embedding<X>* const table : own_tables()) any = any || trains(*table);
    return any;
  }
  // Whether backward has something to do here: words that another one owns train here, too.
  bool any_trains() { return trains(*this) || trains(*parts_.word); }
  void cast_base_to_bf16(context_of<X>& ctx) requires kRounds<X> {
    for (Embedding<X>* const table : own_tables()) table->cast_base_to_bf16(ctx);
  }

  // -> h (N, C).
  void forward(Pass<X>& pass, const DeviceBatch<X>& batch, View<T> h, Saved& saved) const {
    const auto scope = pass.scope();
    const bool reads_again = parts_.projection && parts_.projection.needs_input();
    const View<T> e = !parts_.projection ? h : reads_again ? pass.keep(h.rows, input_.width) : pass.take(h.rows, input_.width);
    saved.embedded = reads_again ? e : View<T>();
    parts_.word->forward(pass, batch.ids(), e, false, saved.word);
    if (scale_ != 1 && !scales_prompts_) ops::scale<B, T>(pass.ctx, T(scale_), e, e);
    place_input_rows(pass, input_, batch, true, e, saved.deltas);
    if (scale_ != 1 && scales_prompts_) ops::scale<B, T>(pass.ctx, T(scale_), e, e);
    if (parts_.position) parts_.position.forward(pass, batch.positions(), e, true, saved.position);
    if (parts_.type) parts_.type.forward(pass, batch.types(), e, true, saved.type);
    if (parts_.norm) parts_.norm->forward(pass, e, {}, {}, e, saved.norm);
    saved.dropout = pass.dropout(dropout_);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, e, e);
    saved.out = {};
    if (place_input_rows(pass, input_, batch, false, e, saved.deltas) && can_rebuild_output()) {
      saved.out = pass.keep(h.rows, h.cols);
      ops::copy<B, T>(pass.ctx, e, saved.out);
    }
    if (parts_.projection) parts_.projection.forward(pass, e, h, saved.projection);
  }

  bool can_rebuild_output() const { return parts_.norm && !parts_.projection; }
  void rebuild_output(Pass<X>& pass, const Saved& saved, View<T> h) const {
    if (saved.out) return ops::copy<B, T>(pass.ctx, saved.out, h);
    parts_.norm->rebuild(pass, saved.norm, saved.dropout, h);
  }

  // dh_io (N, C): used up.
  void backward(Pass<X>& pass, const DeviceBatch<X>& batch, const Saved& saved, View<T> dh_io) {
    const bool rows_below = tables_train() || input_.deltas.has_rows(true);
    const auto scope = pass.scope();
    View<T> de = dh_io;
    if (parts_.projection) {
      const bool below = rows_below || input_.deltas.has_rows(false) || (parts_.norm && trains(*parts_.norm));
      if (below) de = pass.take(dh_io.rows, input_.width);
      parts_.projection.backward(pass, saved.projection, saved.embedded, dh_io, below ? GradientSink<T>::fresh(de) : GradientSink<T>::none());
      if (!below) return;
    }
    fetch_input_rows(pass, input_, batch, false, de, saved.deltas);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, de, de);
    if (parts_.norm) {
      if (!rows_below) return parts_.norm->parameter_backward(pass, saved.norm, de);
      parts_.norm->backward(pass, saved.norm, de, {});
    }
    if (parts_.position) parts_.position.backward(pass, de, batch.position_groups(), saved.position);
    if (parts_.type) parts_.type.backward(pass, de, batch.type_groups(), saved.type);
    if (scale_ != 1 && scales_prompts_) ops::scale<B, T>(pass.ctx, T(scale_), de, de);
    fetch_input_rows(pass, input_, batch, true, de, saved.deltas);
    if (!tables_train()) return;
    if (scale_ != 1 && !scales_prompts_) ops::scale<B, T>(pass.ctx, T(scale_), de, de);
    parts_.word->backward(pass, de, batch.id_groups(), saved.word);
  }

 private:
  // Those that there are and visit() gives here.
  std::vector<Embedding<X>*> own_tables() {
    std::vector<Embedding<X>*> tables;
    if (parts_.has_word) tables.push_back(parts_.word.get());
    for (Embedding<X>* const table : {&parts_.position, &parts_.type})
      if (*table) tables.push_back(table);
    return tables;
  }

  EmbeddingParts<X> parts_;
  InputSite<X> input_;
  double dropout_ = 0;
  double scale_ = 1;
  bool scales_prompts_ = false;
};

}  // namespace deltatune
