// What becomes of a language model's scores: y = c·tanh(s·x / c), a scale as in Granite and a soft cap as in Gemma 2 (arXiv 2408.00118).
// Pull-back: dx = s·(1 − (y/c)²)·dy.
#pragma once

#include "deltatune/core/scalar.hpp"
#include "deltatune/ops/scale.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

struct LogitShape {
  double scale = 1;  // s
  double cap = 0;    // c; 0: none, y = s·x

  bool plain() const { return scale == 1 && !(cap > 0); }
};

namespace detail {

template <class T>
struct CapLogitsRow {
  LogitShape shape;
  View<T> x_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    using math::tanh;
    T* x = x_io.row(i);
    const T scale = T(shape.scale), cap = T(shape.cap);
    team.each(x_io.cols, [=](Index j) { x[j] = cap * tanh(scale * x[j] / cap); });
  }
};

template <class T>
struct CapLogitsBackwardRow {
  LogitShape shape;
  View<const T> y;
  View<T> dy_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    T* dy = dy_io.row(i);
    const T scale = T(shape.scale), cap = T(shape.cap);
    const T* from = y.row(i);
    team.each(dy_io.cols, [=](Index j) {
      const T t = from[j] / cap;
      dy[j] = scale * (T(1) - t * t) * dy[j];
    });
  }
};

}  // namespace detail

// x_io (N, V) becomes y.
template <class B, class T>
void shape_logits(typename B::Context& ctx, const LogitShape& shape, View<T> x_io) {
  if (shape.plain()) return;
  if (!(shape.cap > 0)) return scale<B, T>(ctx, T(shape.scale), x_io, x_io);
  B::for_each_row(ctx, x_io.rows, x_io.cols, detail::CapLogitsRow<T>{shape, x_io});
}

// dy_io (N, V) becomes dx. y (N, V): what forward gave, read where there is a cap.
template <class B, class T>
void shape_logits_backward(typename B::Context& ctx, const LogitShape& shape, View<const T> y, View<T> dy_io) {
  if (shape.plain()) return;
  if (!(shape.cap > 0)) return scale<B, T>(ctx, T(shape.scale), dy_io, dy_io);
  B::for_each_row(ctx, dy_io.rows, dy_io.cols, detail::CapLogitsBackwardRow<T>{shape, y, dy_io});
}

}  // namespace deltatune::ops
