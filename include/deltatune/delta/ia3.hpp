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
#include <utility>

#include "deltatune/delta/output_parts.hpp"
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
    View<const T> y;  // (N, n·w) before it was scaled; at the output, while l trains
  };

  // For a site with this path and an (out, in) weight.
  Ia3(Context& ctx, const std::string& site, Index in, Index out, bool at_input)
      : at_input_(at_input), l_(ctx, site + ".ia3_l", at_input ? Shape{1, in} : Shape{out, 1}, [](Index) { return 1.0; }) {}
  // For parts of its output (delta/adapterhub_ia3.hpp).
  Ia3(Context& ctx, const std::string& site, Index out, OutputParts parts)
      : parts_(std::move(parts)), l_(ctx, site + ".ia3_l", {parts_.chosen_count() * parts_.width(out), 1}, [](Index) { return 1.0; }) {}

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
    View<T> kept;
    if (l_->trains()) saved.y = kept = pass.keep(y_io.rows, l_->size());
    parts_.visit_columns(y_io, [&](Index j, View<T> y) {
      if (kept) ops::copy<B, T>(pass.ctx, y, kept.column_range(j * y.cols, y.cols));
      ops::scale_columns<B, T>(pass.ctx, y, factors_of(j, y.cols), y);
    });
  }
  void after_backward(Pass<X>& pass, const Saved& saved, View<T> dy_io) {
    if (at_input_) return;
    const View<T> dl = l_->gradient();
    parts_.visit_columns(dy_io, [&](Index j, View<T> dy) {
      if (dl) ops::column_dot<B, T>(pass.ctx, dy, saved.y.column_range(j * dy.cols, dy.cols), View<T>(dl.data + j * dy.cols, 1, dy.cols));
      ops::scale_columns<B, T>(pass.ctx, dy, factors_of(j, dy.cols), dy);
    });
  }

  void merge(Context& ctx, View<T> w_io, View<T> b_io) const {
    if (at_input_) return ops::scale_columns<B, T>(ctx, w_io, l_->value(), w_io);
    const Index width = parts_.width(w_io.rows);
    for (Index j = 0; j < parts_.chosen_count(); ++j) {
      const View<T> rows = w_io.row_range(parts_.chosen[static_cast<std::size_t>(j)] * width, width);
      ops::scale_rows<B, T>(ctx, rows, factors_of(j, width), rows);
    }
    if (!b_io) return;
    parts_.visit_columns(b_io, [&](Index j, View<T> b) { ops::scale_columns<B, T>(ctx, b, factors_of(j, b.cols), b); });
  }

 private:
  View<const T> factors_of(Index part, Index width) const { return View<T>(l_->value().data + part * width, 1, width); }

  bool at_input_ = false;
  OutputParts parts_;  // at the output
  detail::OwnParameter<X> l_;
};

}  // namespace deltatune
