// (IA)3: learned factors for activations. Liu et al. 2022, arXiv 2205.05638.
//
//   at the output           y = l ∘ (x·Wᵀ + b)       dl += Σ_rows dy∘(x·Wᵀ + b),   what is below gets dy∘l
//   at the input            y = (l ∘ x)·Wᵀ + b       dl += Σ_rows dx'∘x,           dx = dx'∘l;   dx' the gradient of l∘x
//
// Shapes      l (out, 1) at the output, (1, in) at the input
// Start       l = 1: the delta changes nothing
// Parameters  out a site, or in
// Seam        weight; the keys and values at their output, the second layer of the feed-forward part at its input
// Merge       exact: rows of W and the bias, or columns of W, times l
// Files       PEFT: <site>.ia3_l
#pragma once

#include <string>

#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/scale.hpp"
#include "deltatune/seam/weight.hpp"

namespace deltatune {

template <class X>
class Ia3 {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kIsFactor = true;

  struct Saved {
    View<const T> y;  // (N, out) before it was scaled; at the output, while l trains
  };

  // For a site with this path and an (out, in) weight.
  Ia3(Context& ctx, const std::string& site, Index in, Index out, bool at_input)
      : at_input_(at_input), l_(ctx, site + ".ia3_l", at_input ? Shape{1, in} : Shape{out, 1}, [](Index) { return 1.0; }) {}

  bool at_input() const { return at_input_; }
  Parameter<X>& factors() { return *l_; }

  template <class F>
  void visit(const F& f) {
    f(*l_);
  }

  bool needs_input() const { return at_input_ && l_->trains(); }
  bool changes_input() const { return at_input_; }

  void before(Pass<X>& pass, View<const T> x, View<T> x_out) const { ops::scale_columns<B, T>(pass.ctx, x, l_->value(), x_out); }
  void before_backward(Pass<X>& pass, View<const T> x, View<T> dx_io) {
    if (const View<T> dl = l_->gradient()) ops::column_dot<B, T>(pass.ctx, dx_io, x, dl);
    ops::scale_columns<B, T>(pass.ctx, dx_io, l_->value(), dx_io);
  }

  void forward(Pass<X>&, View<const T> /*x*/, View<T> /*y_io*/, Saved&) const {}
  void backward(Pass<X>&, const Saved&, View<const T> /*x*/, View<T> /*dy_io*/, GradientSink<T>&) {}

  void after(Pass<X>& pass, View<T> y_io, Saved& saved) const {
    if (at_input_) return;
    if (l_->trains()) {
      const View<T> y = pass.keep(y_io.rows, y_io.cols);
      ops::copy<B, T>(pass.ctx, y_io, y);
      saved.y = y;
    }
    ops::scale_columns<B, T>(pass.ctx, y_io, l_->value(), y_io);
  }
  void after_backward(Pass<X>& pass, const Saved& saved, View<T> dy_io) {
    if (at_input_) return;
    if (const View<T> dl = l_->gradient()) ops::column_dot<B, T>(pass.ctx, dy_io, saved.y, dl);
    ops::scale_columns<B, T>(pass.ctx, dy_io, l_->value(), dy_io);
  }

  void merge(Context& ctx, View<T> w_io, View<T> b_io) const {
    if (at_input_) return ops::scale_columns<B, T>(ctx, w_io, l_->value(), w_io);
    ops::scale_rows<B, T>(ctx, w_io, l_->value(), w_io);
    if (b_io) ops::scale_columns<B, T>(ctx, b_io, l_->value(), b_io);
  }

 private:
  bool at_input_;
  detail::OwnParameter<X> l_;
};

}  // namespace deltatune
