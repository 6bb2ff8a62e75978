// Multi-head self-attention with its projections: qkv = x·[Wq;Wk;Wv]ᵀ + b in one product, attention, output projection.
//
// Kept for backward: qkv (N, 3C) and lse (N, H); the attention's output (N, C) only when the output projection reads its input.
#pragma once

#include <cmath>
#include <utility>

#include "deltatune/nn/linear.hpp"
#include "deltatune/ops/attention.hpp"
#include "deltatune/param/visit.hpp"

namespace deltatune {

template <class X>
class SelfAttention {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    AttentionPlan plan;
    View<T> qkv;      // (N, 3C), and the columns of low-rank deltas
    View<T> lse;      // (N, H)
    View<T> context;  // (N, C), or empty
    typename Linear<X>::Saved projection;
    typename Linear<X>::Saved output;
  };

  SelfAttention() = default;
  // projection: three sites query, key, value, each C to C; output: C to C. probability: dropout of the attention probabilities.
  SelfAttention(Linear<X> projection, Linear<X> output, Index heads, double probability)
      : projection_(std::move(projection)), output_(std::move(output)), heads_(heads), probability_(probability) {}

  template <class F>
  void visit(const F& f) {
    projection_.visit(f);
    output_.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    f(projection_);
    f(output_);
  }

  bool needs_input() const { return projection_.needs_input(); }

  // x (N, C) -> y (N, C).
  void forward(Pass<X>& pass, const Sequences& sequences, View<const T> x, View<T> y, Saved& saved) const {
    const Index width = output_.in();
    saved.plan = AttentionPlan{.queries = sequences,
                               .keys = sequences,
                               .heads = heads_,
                               .kv_heads = heads_,
                               .head_width = width / heads_,
                               .scale = 1.0 / std::sqrt(static_cast<double>(width / heads_)),
                               .dropout = pass.dropout(probability_)};
    saved.qkv = projection_.keep_output(pass, x.rows);
    saved.lse = pass.keep(x.rows, heads_);
    projection_.forward(pass, x, saved.qkv, saved.projection);
    const auto scope = pass.scope();
    saved.context = output_.needs_input() ? pass.keep(x.rows, width) : View<T>();
    const View<T> context = saved.context ? saved.context : pass.take(x.rows, width);
    ops::attention_forward<B, T>(pass.ctx,
                                 {.plan = saved.plan,
                                  .q = saved.qkv.column_range(0, width),
                                  .k = saved.qkv.column_range(width, width),
                                  .v = saved.qkv.column_range(2 * width, width),
                                  .o = context,
                                  .lse = saved.lse},
                                 pass.scratch);
    output_.forward(pass, context, y, saved.output);
  }

  // dy_io (N, C): used up. x (N, C): the input again, empty unless needs_input(). dx through the sink.
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T> dx) {
    const Index width = output_.in();
    const auto scope = pass.scope();
    const bool below = dx.wanted() || trains(projection_);
    const View<T> d_context = below ? pass.take(dy_io.rows, width) : View<T>();
    output_.backward(pass, saved.output, saved.context, dy_io, below ? GradientSink<T>::fresh(d_context) : GradientSink<T>::none());
    if (!below) return;
    const View<T> d_qkv = projection_.take_output(pass, dy_io.rows);
    ops::attention_backward<B, T>(pass.ctx,
                                  {.plan = saved.plan,
                                   .q = saved.qkv.column_range(0, width),
                                   .k = saved.qkv.column_range(width, width),
                                   .v = saved.qkv.column_range(2 * width, width),
                                   .lse = saved.lse,
                                   .d_o = d_context,
                                   .dq = d_qkv.column_range(0, width),
                                   .dk = d_qkv.column_range(width, width),
                                   .dv = d_qkv.column_range(2 * width, width)},
                                  pass.scratch);
    projection_.backward(pass, saved.projection, x, d_qkv, dx);
  }

 private:
  Linear<X> projection_;
  Linear<X> output_;
  Index heads_ = 0;
  double probability_ = 0;
};

}  // namespace deltatune
