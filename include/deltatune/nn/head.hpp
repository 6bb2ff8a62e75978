// BERT's classification head over the first row of each sequence: pooler, dropout, linear classifier.
//   pooled = tanh(W_p·h + b_p),   logits = W_c·dropout(pooled) + b_c
// All of it has B rows, so everything backward reads is simply kept.
#pragma once

#include <utility>

#include "deltatune/nn/linear.hpp"
#include "deltatune/ops/activation.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/param/visit.hpp"

namespace deltatune {

template <class X>
class ClassificationHead {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    View<const T> first_rows;  // (B, C)
    View<T> u;                 // (B, C) before tanh
    View<T> pooled;            // (B, C) after dropout
    DropoutMask dropout;
    typename Linear<X>::Saved pooler;
    typename Linear<X>::Saved classifier;
  };

  ClassificationHead() = default;
  ClassificationHead(Linear<X> pooler, Linear<X> classifier, double probability)
      : pooler_(std::move(pooler)), classifier_(std::move(classifier)), probability_(probability) {}

  template <class F>
  void visit(const F& f) {
    pooler_.visit(f);
    classifier_.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    f(pooler_);
    f(classifier_);
  }

  Index classes() const { return classifier_.out(); }

  // first_rows (B, C), which stay there until backward -> logits (B, K).
  void forward(Pass<X>& pass, View<const T> first_rows, View<T> logits, Saved& saved) const {
    saved.first_rows = first_rows;
    saved.u = pass.keep(first_rows.rows, first_rows.cols);
    saved.pooled = pass.keep(first_rows.rows, first_rows.cols);
    pooler_.forward(pass, saved.first_rows, saved.u, saved.pooler);
    ops::activation_forward<B, T>(pass.ctx, ops::Activation::tanh, saved.u, saved.pooled);
    saved.dropout = pass.dropout(probability_);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, saved.pooled, saved.pooled);
    classifier_.forward(pass, saved.pooled, logits, saved.classifier);
  }

  // dlogits_io (B, K): used up. d_first (B, C): overwritten; empty when nothing below trains.
  void backward(Pass<X>& pass, const Saved& saved, View<T> dlogits_io, View<T> d_first) {
    const auto scope = pass.scope();
    const bool below = d_first || trains(pooler_);
    const View<T> d_pooled = below ? pass.take(saved.u.rows, saved.u.cols) : View<T>();
    classifier_.backward(pass, saved.classifier, saved.pooled, dlogits_io, below ? GradientSink<T>::fresh(d_pooled) : GradientSink<T>::none());
    if (!below) return;
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, d_pooled, d_pooled);
    ops::activation_backward<B, T>(pass.ctx, ops::Activation::tanh, saved.u, d_pooled);
    pooler_.backward(pass, saved.pooler, saved.first_rows, d_pooled, d_first ? GradientSink<T>::fresh(d_first) : GradientSink<T>::none());
  }

 private:
  Linear<X> pooler_;
  Linear<X> classifier_;
  double probability_ = 0;
};

}  // namespace deltatune
