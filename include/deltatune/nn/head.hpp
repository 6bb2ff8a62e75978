// The output layers of a classifier, over one row per sequence:
//   u = W_d·dropout(r) + b_d,   pooled = dropout(norm(f(u))),   logits = W_c·pooled + b_c
// with the dense layer, its norm and either dropout there or not: BERT has pooler, tanh and one dropout, RoBERTa two of them, ModernBERT a norm, GPT-2 the
// classifier alone. All of it has B rows, so everything backward reads is simply kept.
#pragma once

#include <optional>
#include <utility>

#include "deltatune/nn/linear.hpp"
#include "deltatune/nn/norm.hpp"
#include "deltatune/ops/activation.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/param/visit.hpp"

namespace deltatune {

template <class X>
struct HeadParts {
  Linear<X> dense = {};
  ops::Activation activation = ops::Activation::tanh;
  std::optional<Norm<X>> norm = {};
  Linear<X> classifier = {};
  double dropout = 0;
  bool drops_input = false;  // before the dense layer, too
};

template <class X>
class ClassificationHead {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    View<const T> rows;    // (B, C) what the dense layer reads
    View<T> u;             // (B, C) before the activation
    View<const T> pooled;  // (B, C) what the classifier reads
    DropoutMask input_dropout, dropout;
    typename Norm<X>::Saved norm;
    typename Linear<X>::Saved dense;
    typename Linear<X>::Saved classifier;
  };

  ClassificationHead() = default;
  explicit ClassificationHead(HeadParts<X> parts) : parts_(std::move(parts)) {}

  template <class F>
  void visit(const F& f) {
    parts_.dense.visit(f);
    if (parts_.norm) parts_.norm->visit(f);
    parts_.classifier.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    if (parts_.dense) f(parts_.dense);
    if (parts_.classifier) f(parts_.classifier);
  }

  // rows (B, C), which stay there until backward -> logits (B, K).
  void forward(Pass<X>& pass, View<const T> rows, View<T> logits, Saved& saved) const {
    saved.pooled = parts_.dense ? pool(pass, rows, saved) : rows;
    parts_.classifier.forward(pass, saved.pooled, logits, saved.classifier);
  }

  // dlogits_io (B, K): used up. d_rows (B, C): overwritten; empty when nothing below trains.
  void backward(Pass<X>& pass, const Saved& saved, View<T> dlogits_io, View<T> d_rows) {
    const auto scope = pass.scope();
    const bool below = d_rows || trains(parts_.dense) || (parts_.norm && trains(*parts_.norm));
    const View<T> d_pooled = !below ? View<T>() : parts_.dense ? pass.take(saved.u.rows, saved.u.cols) : d_rows;
    parts_.classifier.backward(pass, saved.classifier, saved.pooled, dlogits_io, below ? GradientSink<T>::fresh(d_pooled) : GradientSink<T>::none());
    if (!below || !parts_.dense) return;
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, d_pooled, d_pooled);
    if (parts_.norm) parts_.norm->backward(pass, saved.norm, d_pooled, {});
    ops::activation_backward<B, T>(pass.ctx, parts_.activation, saved.u, d_pooled);
    parts_.dense.backward(pass, saved.dense, saved.rows, d_pooled, d_rows ? GradientSink<T>::fresh(d_rows) : GradientSink<T>::none());
    if (d_rows && saved.input_dropout.active()) ops::dropout<B, T>(pass.ctx, saved.input_dropout, d_rows, d_rows);
  }

 private:
  View<const T> pool(Pass<X>& pass, View<const T> rows, Saved& saved) const {
    saved.rows = rows;
    saved.input_dropout = parts_.drops_input ? pass.dropout(parts_.dropout) : DropoutMask();
    if (saved.input_dropout.active()) {
      const View<T> dropped = pass.keep(rows.rows, rows.cols);
      ops::dropout<B, T>(pass.ctx, saved.input_dropout, rows, dropped);
      saved.rows = dropped;
    }
    saved.u = pass.keep(rows.rows, parts_.dense.out());
    const View<T> pooled = pass.keep(rows.rows, parts_.dense.out());
    parts_.dense.forward(pass, saved.rows, saved.u, saved.dense);
    ops::activation_forward<B, T>(pass.ctx, parts_.activation, saved.u, pooled);
    if (parts_.norm) parts_.norm->forward(pass, pooled, {}, {}, pooled, saved.norm);
    saved.dropout = pass.dropout(parts_.dropout);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, pooled, pooled);
    return pooled;
  }

  HeadParts<X> parts_;
};

}  // namespace deltatune
