// The feed-forward sublayer: y = W₂·dropout(f(W₁·x + b₁)) + b₂, or gated (Shazeer 2020, arXiv 2002.05202): W₂·dropout(f(a) ∘ g) + b₂, [a | g] = W₁·x + b₁.
//
// Kept for backward: u = W₁x + b₁ (N, F), or (N, 2F). f(u) is computed again where W₂ or a delta on it reads its input. With set_recompute() u is, too, from
// x: a quarter of the layer's forward products more, and less than half of its memory.
#pragma once

#include <cstdint>
#include <utility>

#include "deltatune/nn/kept.hpp"
#include "deltatune/nn/linear.hpp"
#include "deltatune/ops/activation.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/ops/gated_activation.hpp"
#include "deltatune/param/visit.hpp"

namespace deltatune {

template <class X>
class FeedForward {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    Kept<X> u;  // (N, F), and the columns of low-rank deltas; or empty: to be computed again
    typename Linear<X>::Saved up;
    typename Linear<X>::Saved down;
    DropoutMask dropout;       // behind the activation
    std::uint64_t stream = 0;  // of the first dropout mask
  };

  FeedForward() = default;
  // up: C to F, or C to 2F where the layer is gated; down: F to C.
  FeedForward(Linear<X> up, Linear<X> down, ops::Activation activation, double dropout = 0)
      : up_(std::move(up)), down_(std::move(down)), activation_(activation), dropout_(dropout) {}

  template <class F>
  void visit(const F& f) {
    up_.visit(f);
    down_.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    f(up_);
    f(down_);
  }

  void set_recompute(bool on) { recompute_ = on; }
  bool needs_input() const { return recompute_ || up_.needs_input(); }
  bool mixes_rows() const { return up_.mixes_rows() || down_.mixes_rows(); }
  // Whether a delta stands at the last product. Without any, forward can add to what y holds, and backward leaves dy as it is.
  bool output_has_deltas() const { return down_.has_deltas(); }

  // x (N, C) -> y (N, C). accumulate: y is added to; not where output_has_deltas().
  void forward(Pass<X>& pass, View<const T> x, View<T> y, Saved& saved, bool accumulate = false) const {
    const auto scope = pass.scope();
    saved.stream = pass.next_stream;
    saved.u = {};
    const View<T> u = recompute_         ? up_.take_output(pass, x.rows)
                      : pass.rounds_kept ? saved.u.start(pass, x.rows, up_.out())
                                         : saved.u.start(up_.keep_output(pass, x.rows));
    run_keeping(pass, !recompute_, [&](Pass<X>& p) { up_.forward(p, x, u, saved.up); });
    const View<T> activated = pass.take(x.rows, down_.in());
    saved.dropout = dropout_ > 0 ? pass.dropout(dropout_) : DropoutMask();
    activate(pass, u, saved.dropout, activated);
    saved.u.finish(pass);
    down_.forward(pass, activated, y, saved.down, accumulate);
  }

  // dy_io (N, C): used up. x (N, C): the input again, empty unless needs_input(). dx through the sink.
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T> dx) {
    const auto scope = pass.scope();
    typename Linear<X>::Saved up_again;
    const View<T> u = saved.u ? saved.u.read(pass) : up_.take_output(pass, dy_io.rows);
    if (!saved.u) {
      Pass<X> again = pass.without_keeping(saved.stream);
      up_.forward(again, x, u, up_again);
    }
    View<T> activated;
    if (down_.needs_input()) {
      activated = pass.take(dy_io.rows, down_.in());
      activate(pass, u, saved.dropout, activated);
    }
    const bool below = dx.wanted() || trains(up_);
    const View<T> du = below ? up_.take_output(pass, dy_io.rows) : View<T>();
    const View<T> d_activated = below && gated() ? pass.take(dy_io.rows, down_.in()) : du.column_range(0, up_.out());
    down_.backward(pass, saved.down, activated, dy_io, below ? GradientSink<T>::fresh(d_activated) : GradientSink<T>::none());
    if (!below) return;
    if (saved.dropout.active()) ops::dropout<B, T>(pass.ctx, saved.dropout, d_activated, d_activated);
    if (gated()) {
      ops::gated_activation_backward<B, T>(pass.ctx, activation_, pre_activation(u), d_activated, du.column_range(0, up_.out()));
    } else {
      ops::activation_backward<B, T>(pass.ctx, activation_, pre_activation(u), d_activated);
    }
    up_.backward(pass, saved.u ? saved.up : up_again, x, du, dx);
  }

 private:
  bool gated() const { return up_.out() == 2 * down_.in(); }
  // activated (N, F) from u (N, F) or (N, 2F).
  void activate(Pass<X>& pass, View<const T> u, const DropoutMask& dropout, View<T> activated) const {
    if (gated()) {
      ops::gated_activation_forward<B, T>(pass.ctx, activation_, pre_activation(u), activated);
    } else {
      ops::activation_forward<B, T>(pass.ctx, activation_, pre_activation(u), activated);
    }
    if (dropout.active()) ops::dropout<B, T>(pass.ctx, dropout, activated, activated);
  }
  View<const T> pre_activation(View<const T> u) const { return u.column_range(0, up_.out()); }

  Linear<X> up_;    // C to F or 2F
  Linear<X> down_;  // F to C
  ops::Activation activation_ = ops::Activation::gelu;
  double dropout_ = 0;
  bool recompute_ = false;
};

}  // namespace deltatune
