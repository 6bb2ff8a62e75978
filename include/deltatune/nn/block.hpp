// A Transformer block with the normalisation after each residual sum (BERT):
//   h₁ = LN₁(h + dropout(attention(h))),   h₂ = LN₂(h₁ + dropout(ffn(h₁)))
//
// Kept for backward, in units of N·C: x̂ of both norms 2, qkv 3, FFN pre-activation F/C. h and h₁ are rebuilt from x̂ where a trainable part
// reads them; the caller rebuilds h, since the norm that made it belongs to what lies below.
#pragma once

#include <utility>

#include "deltatune/nn/attention.hpp"
#include "deltatune/nn/feed_forward.hpp"
#include "deltatune/nn/norm.hpp"
#include "deltatune/param/visit.hpp"

namespace deltatune {

template <class X>
class PostNormBlock {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    typename SelfAttention<X>::Saved attention;
    typename LayerNorm<X>::Saved attention_norm;
    typename FeedForward<X>::Saved feed_forward;
    typename LayerNorm<X>::Saved feed_forward_norm;
  };

  PostNormBlock() = default;
  // probability: dropout of both sublayers' outputs.
  PostNormBlock(SelfAttention<X> attention, LayerNorm<X> attention_norm, FeedForward<X> feed_forward, LayerNorm<X> feed_forward_norm, double probability)
      : attention_(std::move(attention)),
        attention_norm_(std::move(attention_norm)),
        feed_forward_(std::move(feed_forward)),
        feed_forward_norm_(std::move(feed_forward_norm)),
        probability_(probability) {}

  template <class F>
  void visit(const F& f) {
    attention_.visit(f);
    attention_norm_.visit(f);
    feed_forward_.visit(f);
    feed_forward_norm_.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    attention_.visit_linears(f);
    feed_forward_.visit_linears(f);
  }

  // Whether backward reads h.
  bool needs_input() const { return attention_.needs_input(); }

  // h_io (N, C): the block's input, becomes its output.
  void forward(Pass<X>& pass, const Sequences& sequences, View<T> h_io, Saved& saved) const {
    const auto scope = pass.scope();
    const View<T> branch = pass.take(h_io.rows, h_io.cols);
    attention_.forward(pass, sequences, h_io, branch, saved.attention);
    attention_norm_.forward(pass, h_io, branch, pass.dropout(probability_), h_io, saved.attention_norm);
    feed_forward_.forward(pass, h_io, branch, saved.feed_forward);
    feed_forward_norm_.forward(pass, h_io, branch, pass.dropout(probability_), h_io, saved.feed_forward_norm);
  }

  // The block's output again, from what its last norm kept.
  void rebuild_output(Pass<X>& pass, const Saved& saved, View<T> h) const { feed_forward_norm_.rebuild(pass, saved.feed_forward_norm, {}, h); }

  // dh_io (N, C): gradient of the output, becomes that of the input where input_wanted. h (N, C): the input again, empty unless needs_input().
  void backward(Pass<X>& pass, const Saved& saved, View<const T> h, View<T> dh_io, bool input_wanted) {
    const auto scope = pass.scope();
    const View<T> d_branch = pass.take(dh_io.rows, dh_io.cols);
    const bool through_attention = input_wanted || trains(attention_);
    const bool through_middle = through_attention || trains(attention_norm_);
    if (!through_middle && !trains(feed_forward_)) return feed_forward_norm_.parameter_backward(pass, saved.feed_forward_norm, dh_io);
    feed_forward_norm_.backward(pass, saved.feed_forward_norm, dh_io, d_branch);
    {
      const auto inner = pass.scope();
      View<T> middle;  // h₁
      if (feed_forward_.needs_input()) {
        middle = pass.take(dh_io.rows, dh_io.cols);
        attention_norm_.rebuild(pass, saved.attention_norm, {}, middle);
      }
      feed_forward_.backward(pass, saved.feed_forward, middle, d_branch,
                             through_middle ? GradientSink<T>::accumulating(dh_io) : GradientSink<T>::none());
    }
    if (!through_middle) return;
    if (!through_attention) return attention_norm_.parameter_backward(pass, saved.attention_norm, dh_io);
    attention_norm_.backward(pass, saved.attention_norm, dh_io, d_branch);
    attention_.backward(pass, saved.attention, h, d_branch, input_wanted ? GradientSink<T>::accumulating(dh_io) : GradientSink<T>::none());
  }

 private:
  SelfAttention<X> attention_;
  LayerNorm<X> attention_norm_;
  FeedForward<X> feed_forward_;
  LayerNorm<X> feed_forward_norm_;
  double probability_ = 0;
};

}  // namespace deltatune
