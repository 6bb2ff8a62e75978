// Elementwise activations, y = f(u), and their pull-back, du = dy · f'(u).
//
//   gelu      u·Φ(u) = u/2 · (1 + erf(u/√2))                              Hendrycks and Gimpel 2016, arXiv 1606.08415
//   gelu_new  u/2 · (1 + tanh(√(2/π) · (u + 0.044715 u³)))                the same paper's approximation; GPT-2
//   quick_gelu  u·σ(1.702 u)                                              the same paper's other approximation
//   silu      u·σ(u), also called swish                                   Elfwing, Uchibe and Doya 2017, arXiv 1702.03118
//   relu      max(u, 0), with derivative 0 at 0 as in PyTorch
//   leaky_relu  max(u, 0) + min(u, 0)/100, with derivative 1/100 at 0 as in PyTorch
//   tanh, sigmoid  (1 / (1 + e^−u))
#pragma once

#include "deltatune/core/scalar.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

enum class Activation { gelu, gelu_new, quick_gelu, silu, relu, leaky_relu, tanh, sigmoid };

namespace detail {

template <class T>
struct Gelu {
  DELTATUNE_INLINE static T value(T u) { return T(0.5) * u * (T(1) + erf(u * T(0.70710678118654752440))); }
  DELTATUNE_INLINE static T derivative(T u) {
    const T density = T(0.39894228040143267794) * exp(T(-0.5) * u * u);  // φ(u)
    return T(0.5) * (T(1) + erf(u * T(0.70710678118654752440))) + u * density;
  }
};

template <class T>
struct GeluNew {
  DELTATUNE_INLINE static T inner(T u) { return T(0.79788456080286535588) * (u + T(0.044715) * u * u * u); }
  DELTATUNE_INLINE static T value(T u) { return T(0.5) * u * (T(1) + tanh(inner(u))); }
  DELTATUNE_INLINE static T derivative(T u) {
    const T t = tanh(inner(u));
    return T(0.5) * (T(1) + t) + T(0.5) * u * (T(1) - t * t) * T(0.79788456080286535588) * (T(1) + T(3 * 0.044715) * u * u);
  }
};

template <class T>
struct Sigmoid {
  DELTATUNE_INLINE static T value(T u) { return T(1) / (T(1) + exp(-u)); }
  DELTATUNE_INLINE static T derivative(T u) {
    const T s = value(u);
    return s * (T(1) - s);
  }
};

template <class T>
struct Silu {
  DELTATUNE_INLINE static T value(T u) { return u * Sigmoid<T>::value(u); }
  DELTATUNE_INLINE static T derivative(T u) {
    const T s = Sigmoid<T>::value(u);
    return s + u * s * (T(1) - s);
  }
};

template <class T>
struct QuickGelu {
  DELTATUNE_INLINE static T value(T u) { return u * Sigmoid<T>::value(T(1.702) * u); }
  DELTATUNE_INLINE static T derivative(T u) {
    const T s = Sigmoid<T>::value(T(1.702) * u);
    return s + T(1.702) * u * s * (T(1) - s);
  }
};

template <class T>
struct LeakyRelu {
  DELTATUNE_INLINE static T value(T u) { return deltatune::detail::select(T(0) < u, u, T(0.01) * u); }
  DELTATUNE_INLINE static T derivative(T u) { return deltatune::detail::select(T(0) < u, T(1), T(0.01)); }
};

template <class T>
struct Relu {
  DELTATUNE_INLINE static T value(T u) { return deltatune::detail::select(T(0) < u, u, T(0)); }
  DELTATUNE_INLINE static T derivative(T u) { return deltatune::detail::select(T(0) < u, T(1), T(0)); }
};

template <class T>
struct Tanh {
  DELTATUNE_INLINE static T value(T u) { return tanh(u); }
  DELTATUNE_INLINE static T derivative(T u) {
    const T t = tanh(u);
    return T(1) - t * t;
  }
};

template <class F, class T>
struct ActivationForwardRow {
  View<const T> u;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T* DELTATUNE_RESTRICT from = u.row(i);
    T* DELTATUNE_RESTRICT to = y.row(i);
    team.each(u.cols, [=](Index j) { to[j] = F::value(from[j]); });
  }
};

template <class F, class T>
struct ActivationBackwardRow {
  View<const T> u;
  View<T> dy_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T* DELTATUNE_RESTRICT from = u.row(i);
    T* DELTATUNE_RESTRICT to = dy_io.row(i);
    team.each(u.cols, [=](Index j) { to[j] = to[j] * F::derivative(from[j]); });
  }
};

// Calls f with the functor of an activation, so that the choice is made once a pass and not once an element.
template <class T, class F>
void with_activation(Activation activation, const F& f) {
  switch (activation) {
    case Activation::gelu:
      return f(Gelu<T>{});
    case Activation::gelu_new:
      return f(GeluNew<T>{});
    case Activation::quick_gelu:
      return f(QuickGelu<T>{});
    case Activation::silu:
      return f(Silu<T>{});
    case Activation::relu:
      return f(Relu<T>{});
    case Activation::leaky_relu:
      return f(LeakyRelu<T>{});
    case Activation::tanh:
      return f(Tanh<T>{});
    case Activation::sigmoid:
      return f(Sigmoid<T>{});
  }
}

}  // namespace detail

// u (N, F) -> y (N, F).
template <class B, class T>
void activation_forward(typename B::Context& ctx, Activation activation, View<const T> u, View<T> y) {
  detail::with_activation<T>(activation, [&]<class F>(F) { B::for_each_row(ctx, u.rows, u.cols, detail::ActivationForwardRow<F, T>{u, y}); });
}

// dy_io (N, F): holds dy, becomes du.
template <class B, class T>
void activation_backward(typename B::Context& ctx, Activation activation, View<const T> u, View<T> dy_io) {
  detail::with_activation<T>(activation, [&]<class F>(F) { B::for_each_row(ctx, u.rows, u.cols, detail::ActivationBackwardRow<F, T>{u, dy_io}); });
}

}  // namespace deltatune::ops
