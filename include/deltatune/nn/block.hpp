// A Transformer block with the normalisation after each residual sum (BERT):
//   h₁ = LN₁(h + dropout(attention(h))),   h₂ = LN₂(h₁ + dropout(ffn(h₁)))
// with a slot for deltas before each sum (seam/sublayer.hpp).
//
// Kept for backward, in units of N·C: x̂ of both norms 2, qkv 3, FFN pre-activation F/C. h and h₁ are rebuilt from x̂ where a trainable part
// reads them; the caller rebuilds h, since the norm that made it belongs to what lies below.
#pragma once

#include <utility>

#include "deltatune/nn/attention.hpp"
#include "deltatune/nn/feed_forward.hpp"
#include "deltatune/nn/norm.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/sublayer.hpp"

namespace deltatune {

// The end of a sublayer: out = LN(residual + delta(dropout(branch))).
template <class X>
class PostNormResidual {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    typename LayerNorm<X>::Saved norm;
    typename SublayerSlot<X>::Saved deltas;
    DropoutMask dropout;  // where deltas stand between it and the norm, which else applies it
    View<T> out;          // (N, C) where a delta takes the norm's place
  };

  PostNormResidual() = default;
  PostNormResidual(SublayerSite<X> site, LayerNorm<X> norm, double probability) : site_(std::move(site)), norm_(std::move(norm)), probability_(probability) {}

  template <class F>
  void visit(const F& f) {
    norm_.visit(f);
    site_.deltas.visit(f);
  }
  SublayerSite<X>& site() { return site_; }
  bool needs_residual() const { return site_.deltas.needs_residual(); }
  bool mixes_rows() const { return site_.deltas.mixes_rows(); }

  // h_io (N, C): the residual, becomes the output. branch_io (N, C): used up.
  void forward(Pass<X>& pass, View<T> branch_io, View<T> h_io, Saved& saved) const {
    const DropoutMask dropout = pass.dropout(probability_);
    saved.out = {};
    if (!site_.deltas.active()) return norm_.forward(pass, h_io, branch_io, dropout, h_io, saved.norm);
    saved.dropout = dropout;
    if (dropout.active()) ops::dropout<B, T>(pass.ctx, dropout, branch_io, branch_io);
    site_.deltas.forward(pass, norm_.residual_norm(), h_io, branch_io, saved.deltas);
    if (!site_.deltas.completes()) return norm_.forward(pass, h_io, branch_io, {}, h_io, saved.norm);
    saved.out = pass.keep(h_io.rows, h_io.cols);
    ops::copy<B, T>(pass.ctx, branch_io, saved.out);
    ops::copy<B, T>(pass.ctx, branch_io, h_io);
  }

  // The output again.
  void rebuild(Pass<X>& pass, const Saved& saved, View<T> h) const {
    if (saved.out) return ops::copy<B, T>(pass.ctx, saved.out, h);
    norm_.rebuild(pass, saved.norm, {}, h);
  }

  // dh_io (N, C): holds the gradient of the output, becomes that of the residual. d_branch (N, C): overwritten.
  // residual (N, C): again, empty unless needs_residual().
  void backward(Pass<X>& pass, const Saved& saved, View<const T> residual, View<T> dh_io, View<T> d_branch) {
    if (saved.out) {
      ops::copy<B, T>(pass.ctx, dh_io, d_branch);
      B::fill(pass.ctx, dh_io, T(0));
    } else {
      norm_.backward(pass, saved.norm, dh_io, d_branch);
    }
    if (!site_.deltas.active()) return;
    GradientSink<T> d_residual = GradientSink<T>::accumulating(dh_io);
    site_.deltas.backward(pass, norm_.residual_norm_in_backward(), saved.deltas, residual, d_branch, d_residual);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, d_branch, d_branch);
  }
  // Where nothing below the norm trains.
  void parameter_backward(Pass<X>& pass, const Saved& saved, View<const T> dh) {
    if (!saved.out) norm_.parameter_backward(pass, saved.norm, dh);
  }
  bool delta_trains() { return deltatune::trains(site_.deltas); }

 private:
  SublayerSite<X> site_;
  LayerNorm<X> norm_;
  double probability_ = 0;
};

template <class X>
class PostNormBlock {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    typename SelfAttention<X>::Saved attention;
    typename PostNormResidual<X>::Saved attention_end;
    typename FeedForward<X>::Saved feed_forward;
    typename PostNormResidual<X>::Saved feed_forward_end;
  };

  PostNormBlock() = default;
  PostNormBlock(SelfAttention<X> attention, PostNormResidual<X> attention_end, FeedForward<X> feed_forward, PostNormResidual<X> feed_forward_end)
      : attention_(std::move(attention)),
        attention_end_(std::move(attention_end)),
        feed_forward_(std::move(feed_forward)),
        feed_forward_end_(std::move(feed_forward_end)) {}

  template <class F>
  void visit(const F& f) {
    attention_.visit(f);
    attention_end_.visit(f);
    feed_forward_.visit(f);
    feed_forward_end_.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    attention_.visit_linears(f);
    feed_forward_.visit_linears(f);
  }
  // f(SublayerSite<X>&) for both.
  template <class F>
  void visit_sublayers(const F& f) {
    f(attention_end_.site());
    f(feed_forward_end_.site());
  }
  SelfAttention<X>& attention() { return attention_; }
  const SelfAttention<X>& attention() const { return attention_; }
  FeedForward<X>& feed_forward() { return feed_forward_; }

  // Whether backward reads h.
  bool needs_input() const { return attention_.needs_input() || attention_end_.needs_residual(); }
  // Whether something behind the queries reads other rows of its sequence: forward then takes no demand.
  bool mixes_rows() const { return attention_.mixes_rows() || attention_end_.mixes_rows() || feed_forward_.mixes_rows() || feed_forward_end_.mixes_rows(); }

  // h_io (N, C): the block's input, becomes its output.
  void forward(Pass<X>& pass, const Sequences& sequences, View<T> h_io, Saved& saved) const { forward(pass, sequences, {}, h_io, h_io, saved); }
  // h (N, C) -> out (M, C): what is demanded of it; h itself where that is all.
  void forward(Pass<X>& pass, const Sequences& sequences, const Demand& demand, View<const T> h, View<T> out, Saved& saved) const {
    const auto scope = pass.scope();
    const View<T> branch = pass.take(out.rows, out.cols);
    attention_.forward(pass, sequences, demand, h, branch, saved.attention);
    if (demand) ops::gather_rows<B, T>(pass.ctx, h, demand.rows, out);
    const DemandScope<X> rows(pass, demand);
    attention_end_.forward(pass, branch, out, saved.attention_end);
    feed_forward_.forward(pass, out, branch, saved.feed_forward);
    feed_forward_end_.forward(pass, branch, out, saved.feed_forward_end);
  }

  // The block's output again, from what its last norm kept.
  void rebuild_output(Pass<X>& pass, const Saved& saved, View<T> h) const { feed_forward_end_.rebuild(pass, saved.feed_forward_end, h); }

  // dh_io (N, C): gradient of the output, becomes that of the input where input_wanted. h (N, C): the input again, empty unless needs_input().
  void backward(Pass<X>& pass, const Saved& saved, View<const T> h, View<T> dh_io, bool input_wanted) { backward(pass, saved, h, dh_io, dh_io, input_wanted); }
  // d_out_io (M, C): gradient of what was demanded, used up. dh (N, C): gradient of the input, where input_wanted.
  void backward(Pass<X>& pass, const Saved& saved, View<const T> h, View<T> d_out_io, View<T> dh, bool input_wanted) {
    const Demand& demand = saved.attention.demand;
    const auto scope = pass.scope();
    const View<T> d_branch = pass.take(d_out_io.rows, d_out_io.cols);
    const bool through_attention = input_wanted || trains(attention_) || attention_end_.delta_trains();
    const bool through_middle = through_attention || trains(attention_end_);
    if (!through_middle && !trains(feed_forward_) && !feed_forward_end_.delta_trains())
      return feed_forward_end_.parameter_backward(pass, saved.feed_forward_end, d_out_io);
    {
      const auto inner = pass.scope();
      const DemandScope<X> rows(pass, demand);
      View<T> middle;  // h₁
      if (feed_forward_.needs_input() || feed_forward_end_.needs_residual()) {
        middle = pass.take(d_out_io.rows, d_out_io.cols);
        attention_end_.rebuild(pass, saved.attention_end, middle);
      }
      feed_forward_end_.backward(pass, saved.feed_forward_end, middle, d_out_io, d_branch);
      if (!through_middle && !trains(feed_forward_)) return;
      feed_forward_.backward(pass, saved.feed_forward, middle, d_branch, through_middle ? GradientSink<T>::accumulating(d_out_io) : GradientSink<T>::none());
    }
    if (!through_middle) return;
    if (!through_attention) return attention_end_.parameter_backward(pass, saved.attention_end, d_out_io);
    {
      const auto inner = pass.scope();
      const DemandScope<X> rows(pass, demand);
      View<const T> residual = h;
      if (demand && attention_end_.needs_residual()) {
        const View<T> read = pass.take(d_out_io.rows, d_out_io.cols);
        ops::gather_rows<B, T>(pass.ctx, h, demand.rows, read);
        residual = read;
      }
      attention_end_.backward(pass, saved.attention_end, residual, d_out_io, d_branch);
    }
    if (!input_wanted && !trains(attention_)) return;
    if (input_wanted && demand) ops::scatter_rows<B, T>(pass.ctx, d_out_io, demand.rows, dh);
    attention_.backward(pass, saved.attention, h, d_branch, input_wanted ? GradientSink<T>::accumulating(dh) : GradientSink<T>::none());
  }

 private:
  SelfAttention<X> attention_;
  PostNormResidual<X> attention_end_;
  FeedForward<X> feed_forward_;
  PostNormResidual<X> feed_forward_end_;
};

}  // namespace deltatune
