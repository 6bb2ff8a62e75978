// (IA)3 on parts of a fused weight, as AdapterHub has it on GPT-2: factors for query, key or value alone. Liu et al. 2022, arXiv
// 2205.05638.
//
//   y_p = l_p ∘ (x·W_pᵀ + b_p) for the chosen parts p of the output;   dl_p += Σ_rows dy_p∘(x·W_pᵀ + b_p),   what is below gets dy_p∘l_p
//
// Shapes      l (n·w, 1): n chosen parts of width w
// Start       l = 1: the delta changes nothing
// Parameters  n·w a site
// Seam        weight, after the bias; for whole outputs see delta/ia3.hpp
// Merge       exact: rows of W and of the bias times l
// Files       AdapterHub: <site>.loras.NAME.lora_B
#pragma once

#include <string>
#include <utility>

#include "deltatune/delta/adapterhub_lora.hpp"
#include "deltatune/ops/scale.hpp"

namespace deltatune {

template <class X>
class AdapterHubIa3 {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kIsFactor = true;

  struct Saved {
    View<const T> y;  // (N, n·w) before it was scaled, while l trains
  };

  AdapterHubIa3(Context& ctx, const std::string& site, Index out, OutputParts parts)
      : parts_(std::move(parts)), l_(ctx, site + ".ia3_l", {parts_.chosen_count() * parts_.width(out), 1}, [](Index) { return 1.0; }) {}

  template <class F>
  void visit(const F& f) {
    f(*l_);
  }

  bool needs_input() const { return false; }
  void forward(Pass<X>&, View<const T> /*x*/, View<T> /*y_io*/, Saved&) const {}
  void backward(Pass<X>&, const Saved&, View<const T> /*x*/, View<T> /*dy_io*/, GradientSink<T>&) {}

  void after(Pass<X>& pass, View<T> y_io, Saved& saved) const {
    View<T> kept;
    if (l_->trains()) saved.y = kept = pass.keep(y_io.rows, l_->size());
    parts_.visit_columns(y_io, [&](Index j, View<T> y) {
      if (kept) ops::copy<B, T>(pass.ctx, y, kept.column_range(j * y.cols, y.cols));
      ops::scale_columns<B, T>(pass.ctx, y, factors(j, y.cols), y);
    });
  }
  void after_backward(Pass<X>& pass, const Saved& saved, View<T> dy_io) {
    const View<T> dl = l_->gradient();
    parts_.visit_columns(dy_io, [&](Index j, View<T> dy) {
      if (dl) ops::column_dot<B, T>(pass.ctx, dy, saved.y.column_range(j * dy.cols, dy.cols), View<T>(dl.data + j * dy.cols, 1, dy.cols));
      ops::scale_columns<B, T>(pass.ctx, dy, factors(j, dy.cols), dy);
    });
  }

  void merge(Context& ctx, View<T> w_io, View<T> b_io) const {
    const Index width = parts_.width(w_io.rows);
    for (Index j = 0; j < parts_.chosen_count(); ++j) {
      const Index first = parts_.chosen[static_cast<std::size_t>(j)] * width;
      const View<T> rows = w_io.row_range(first, width);
      ops::scale_rows<B, T>(ctx, rows, factors(j, width), rows);
      if (!b_io) continue;
      const View<T> columns = b_io.column_range(first, width);
      ops::scale_columns<B, T>(ctx, columns, factors(j, width), columns);
    }
  }

 private:
  View<const T> factors(Index j, Index width) const { return View<T>(l_->value().data + j * width, 1, width); }

  OutputParts parts_;
  detail::OwnParameter<X> l_;
};

}  // namespace deltatune
