// A Transformer block with the normalisation inside of each branch (GPT-2):
//   h₁ = h + dropout(attention(LN₁(h))),   h₂ = h₁ + dropout(ffn(LN₂(h₁)))
// with a slot for deltas before each sum (seam/sublayer.hpp).
//
// Kept for backward, in units of N·C: x̂ of both norms 2, qkv 3, FFN pre-activation F/C. What a norm handed on is rebuilt from its x̂ where a
// trainable part reads it. h itself is never read again, but by deltas that ask for it.
#pragma once

#include <utility>

#include "deltatune/nn/attention.hpp"
#include "deltatune/nn/feed_forward.hpp"
#include "deltatune/nn/norm.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/sublayer.hpp"

namespace deltatune {

// out = h + delta(dropout(branch(LN(h)))). Branch: SelfAttention or FeedForward.
template <class X, class Branch>
class PreNormSublayer {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    typename LayerNorm<X>::Saved norm;
    typename Branch::Saved branch;
    typename SublayerSlot<X>::Saved deltas;
    DropoutMask dropout;
    Demand demand;
    View<T> residual;  // (M, C): h where a delta reads it again
  };

  PreNormSublayer() = default;
  PreNormSublayer(LayerNorm<X> norm, Branch branch, SublayerSite<X> site, double probability)
      : norm_(std::move(norm)), branch_(std::move(branch)), site_(std::move(site)), probability_(probability) {}

  template <class F>
  void visit(const F& f) {
    norm_.visit(f);
    branch_.visit(f);
    site_.deltas.visit(f);
  }
  SublayerSite<X>& site() { return site_; }
  Branch& branch() { return branch_; }
  const Branch& branch() const { return branch_; }

  // Whether something behind the branch's first rows reads other rows of its sequence.
  bool mixes_rows() const { return branch_.mixes_rows() || site_.deltas.mixes_rows(); }

  // h (N, C) -> h_io (M, C), what is demanded of the output: h itself where that is all.
  // run(branch, x, y, saved): the branch, from x (N, C) to y (M, C).
  template <class Run>
  void forward(Pass<X>& pass, const Demand& demand, View<const T> h, View<T> h_io, Saved& saved, const Run& run) const {
    const auto scope = pass.scope();
    const View<T> x = pass.take(h.rows, h.cols);
    const View<T> y = pass.take(h_io.rows, h_io.cols);
    norm_.forward(pass, h, {}, {}, x, saved.norm);
    run(branch_, x, y, saved.branch);
    if (demand) ops::gather_rows<B, T>(pass.ctx, h, demand.rows, h_io);
    const DemandScope<X> rows(pass, demand);
    saved.demand = demand;
    saved.dropout = pass.dropout(probability_);
    saved.residual = {};
    if (!site_.deltas.active()) return add(pass, saved.dropout, y, h_io);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, y, y);
    if (site_.deltas.needs_residual()) {
      saved.residual = pass.keep(h_io.rows, h_io.cols);
      ops::copy<B, T>(pass.ctx, h_io, saved.residual);
    }
    site_.deltas.forward(pass, {}, h_io, y, saved.deltas);
    if (site_.deltas.completes()) return ops::copy<B, T>(pass.ctx, y, h_io);
    add(pass, {}, y, h_io);
  }

  // d_out_io (M, C): gradient of the output, used up. dh (N, C): gradient of the input where input_wanted; d_out_io itself without a demand.
  void backward(Pass<X>& pass, const Saved& saved, View<T> d_out_io, View<T> dh, bool input_wanted) {
    const bool into_norm = input_wanted || trains(norm_);
    const bool into_branch = into_norm || trains(branch_);
    if (!into_branch && !trains(site_.deltas)) return;
    const auto scope = pass.scope();
    const View<T> dy = pass.take(d_out_io.rows, d_out_io.cols);
    end_backward(pass, saved, d_out_io, dy);
    if (!into_branch) return;
    View<T> x;
    if (branch_.needs_input()) {
      x = pass.take(saved.norm.normalized.rows(), d_out_io.cols);
      norm_.rebuild(pass, saved.norm, {}, x);
    }
    const View<T> dx = into_norm ? pass.take(saved.norm.normalized.rows(), d_out_io.cols) : View<T>();
    branch_.backward(pass, saved.branch, x, dy, into_norm ? GradientSink<T>::fresh(dx) : GradientSink<T>::none());
    if (!into_norm) return;
    if (!input_wanted) return norm_.parameter_backward(pass, saved.norm, dx);
    norm_.backward(pass, saved.norm, dx, {});
    if (saved.demand) ops::scatter_rows<B, T>(pass.ctx, d_out_io, saved.demand.rows, dh);
    ops::axpy<B, T>(pass.ctx, T(1), dx, dh);
  }

 private:
  static void add(Pass<X>& pass, const DropoutMask& dropout, View<const T> y, View<T> h_io) {
    if (dropout.active()) return ops::dropout<B, T>(pass.ctx, dropout, y, h_io, true);
    ops::axpy<B, T>(pass.ctx, T(1), y, h_io);
  }

  // From the sum to the branch's output: dy (N, C), overwritten; dh_io becomes the gradient of the residual.
  void end_backward(Pass<X>& pass, const Saved& saved, View<T> dh_io, View<T> dy) {
    const DemandScope<X> rows(pass, saved.demand);
    if (!site_.deltas.active() && saved.dropout.active()) return ops::dropout<B, T>(pass.ctx, saved.dropout, dh_io, dy);
    ops::copy<B, T>(pass.ctx, dh_io, dy);
    if (!site_.deltas.active()) return;
    if (site_.deltas.completes()) B::fill(pass.ctx, dh_io, T(0));
    GradientSink<T> d_residual = GradientSink<T>::accumulating(dh_io);
    site_.deltas.backward(pass, {}, saved.deltas, saved.residual, dy, d_residual);
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, dy, dy);
  }

  LayerNorm<X> norm_;
  Branch branch_;
  SublayerSite<X> site_;
  double probability_ = 0;
};

template <class X>
class PreNormBlock {
 public:
  using T = scalar_of<X>;
  using AttentionPart = PreNormSublayer<X, SelfAttention<X>>;
  using FeedForwardPart = PreNormSublayer<X, FeedForward<X>>;

  struct Saved {
    typename AttentionPart::Saved attention;
    typename FeedForwardPart::Saved feed_forward;
  };

  PreNormBlock() = default;
  PreNormBlock(AttentionPart attention, FeedForwardPart feed_forward) : attention_(std::move(attention)), feed_forward_(std::move(feed_forward)) {}

  template <class F>
  void visit(const F& f) {
    attention_.visit(f);
    feed_forward_.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    attention_.branch().visit_linears(f);
    feed_forward_.branch().visit_linears(f);
  }
  // f(SublayerSite<X>&) for both.
  template <class F>
  void visit_sublayers(const F& f) {
    f(attention_.site());
    f(feed_forward_.site());
  }
  SelfAttention<X>& attention() { return attention_.branch(); }
  const SelfAttention<X>& attention() const { return attention_.branch(); }
  FeedForward<X>& feed_forward() { return feed_forward_.branch(); }

  // Whether something behind the queries reads other rows of its sequence: forward then takes no demand.
  bool mixes_rows() const { return attention_.mixes_rows() || feed_forward_.mixes_rows(); }

  // h_io (N, C): the block's input, becomes its output. cache: of one sequence, whose next rows h_io holds; only in evaluation.
  void forward(Pass<X>& pass, const Sequences& sequences, View<T> h_io, Saved& saved, KvCache<X>* cache = nullptr) const {
    forward(pass, sequences, {}, h_io, h_io, saved, cache);
  }
  // h (N, C) -> out (M, C): what is demanded of it; h itself where that is all.
  void forward(Pass<X>& pass, const Sequences& sequences, const Demand& demand, View<const T> h, View<T> out, Saved& saved, KvCache<X>* cache = nullptr) const {
    attention_.forward(pass, demand, h, out, saved.attention, [&](const SelfAttention<X>& attention, View<const T> x, View<T> y, auto& kept) {
      attention.forward(pass, sequences, demand, x, y, kept, cache);
    });
    const DemandScope<X> rows(pass, demand);
    feed_forward_.forward(pass, {}, out, out, saved.feed_forward,
                          [&](const FeedForward<X>& feed_forward, View<const T> x, View<T> y, auto& kept) { feed_forward.forward(pass, x, y, kept); });
  }

  // dh_io (N, C): gradient of the output, becomes that of the input where input_wanted.
  void backward(Pass<X>& pass, const Saved& saved, View<T> dh_io, bool input_wanted) { backward(pass, saved, dh_io, dh_io, input_wanted); }
  // d_out_io (M, C): gradient of what was demanded, used up. dh (N, C): gradient of the input, where input_wanted.
  void backward(Pass<X>& pass, const Saved& saved, View<T> d_out_io, View<T> dh, bool input_wanted) {
    const bool through_middle = input_wanted || trains(attention_);
    {
      const DemandScope<X> rows(pass, saved.attention.demand);
      feed_forward_.backward(pass, saved.feed_forward, d_out_io, d_out_io, through_middle);
    }
    if (through_middle) attention_.backward(pass, saved.attention, d_out_io, dh, input_wanted);
  }

 private:
  AttentionPart attention_;
  FeedForwardPart feed_forward_;
};

}  // namespace deltatune
