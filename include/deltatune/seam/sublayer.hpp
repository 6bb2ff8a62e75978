// The sublayer seam: deltas between a sublayer's output and the residual sum, after attention, cross-attention and the feed-forward part of each block.
//
//   BERT   out = LN(residual + h),   GPT-2   out = residual + h;   h: the sublayer's output, after its dropout
//
//   struct MyDelta {
//     struct Saved {...};                          // trivially copyable, at most kDeltaSavedBytes
//     template <class F> void visit(const F& f);   // f(Parameter<X>&) for each of its parameters
//     bool needs_residual() const;                 // whether backward reads the residual
//     bool completes() const;                      // true: the delta writes the sublayer's output into h_io; residual add and norm are skipped
//     void forward(Pass<X>&, const ResidualNorm<X>&, View<const T> residual, View<T> h_io, Saved&) const;      // both (N, C)
//     void backward(Pass<X>&, const ResidualNorm<X>&, const Saved&, View<const T> residual, View<T> dh_io, GradientSink<T>& d_residual);
//   };
//
// Optional, of a delta whose row of h depends on other rows of its sequence (pass.sequences says which): else a layer may run on some rows only.
//     bool mixes_rows() const;
//
// backward accumulates into the gradients of its own parameters, contributes to d_residual where it is wanted, and leaves in dh_io the gradient of
// the h_io that it received.
#pragma once

#include <string>
#include <utility>

#include "deltatune/seam/pass.hpp"
#include "deltatune/seam/slot.hpp"

namespace deltatune {

// The norm after the residual sum, for deltas that use it themselves; absent where the block normalises first (GPT-2). Gradients that reach it
// through a delta are the delta's to accumulate.
template <class X>
struct ResidualNorm {
  View<const scalar_of<X>> scale;  // (C)
  View<const scalar_of<X>> shift;  // (C)
  double epsilon = 0;
  View<scalar_of<X>> d_scale;  // (C), in backward and where it trains: accumulated into
  View<scalar_of<X>> d_shift;

  explicit operator bool() const { return static_cast<bool>(scale); }
};

template <class D, class X>
concept SublayerDelta = kIsDeltaSaved<typename D::Saved> &&
    requires(D delta, const D& constant, Pass<X>& pass, const ResidualNorm<X>& norm, View<const scalar_of<X>> residual, View<scalar_of<X>> h,
             typename D::Saved& saved, GradientSink<scalar_of<X>>& d_residual) {
  delta.visit(detail::IgnoreParameter{});
  { constant.needs_residual() } -> std::same_as<bool>;
  { constant.completes() } -> std::same_as<bool>;
  constant.forward(pass, norm, residual, h, saved);
  delta.backward(pass, norm, saved, residual, h, d_residual);
};

namespace detail {

template <class X>
struct ErasedSublayerDelta : ErasedDelta<X> {
  using T = scalar_of<X>;

  virtual bool needs_residual() const = 0;
  virtual bool completes() const = 0;
  virtual void forward(Pass<X>& pass, const ResidualNorm<X>& norm, View<const T> residual, View<T> h_io, DeltaSaved& saved) const = 0;
  virtual void backward(Pass<X>& pass, const ResidualNorm<X>& norm, const DeltaSaved& saved, View<const T> residual, View<T> dh_io,
                        GradientSink<T>& d_residual) = 0;
};

template <class X, SublayerDelta<X> D>
struct SublayerDeltaHolder final : DeltaHolder<X, D, ErasedSublayerDelta<X>> {
  using T = scalar_of<X>;
  using DeltaHolder<X, D, ErasedSublayerDelta<X>>::DeltaHolder, DeltaHolder<X, D, ErasedSublayerDelta<X>>::delta;

  bool needs_residual() const override { return delta.needs_residual(); }
  bool completes() const override { return delta.completes(); }
  void forward(Pass<X>& pass, const ResidualNorm<X>& norm, View<const T> residual, View<T> h_io, DeltaSaved& saved) const override {
    delta.forward(pass, norm, residual, h_io, saved.emplace<typename D::Saved>());
  }
  void backward(Pass<X>& pass, const ResidualNorm<X>& norm, const DeltaSaved& saved, View<const T> residual, View<T> dh_io,
                GradientSink<T>& d_residual) override {
    delta.backward(pass, norm, saved.get<typename D::Saved>(), residual, dh_io, d_residual);
  }
};

}  // namespace detail

// The deltas after one sublayer.
template <class X>
class SublayerSlot : public SeamSlot<X, detail::ErasedSublayerDelta<X>> {
 public:
  using typename SeamSlot<X, detail::ErasedSublayerDelta<X>>::T, typename SeamSlot<X, detail::ErasedSublayerDelta<X>>::Saved;

  template <SublayerDelta<X> D>
  D& add(std::string name, D delta) {
    return this->template insert<detail::SublayerDeltaHolder<X, D>>(std::move(name), std::move(delta));
  }

  bool active() const {
    return this->any([](const auto&) { return true; });
  }
  bool needs_residual() const {
    return this->any([](const auto& delta) { return delta.needs_residual(); });
  }
  bool completes() const {
    return this->any([](const auto& delta) { return delta.completes(); });
  }

  void forward(Pass<X>& pass, const ResidualNorm<X>& norm, View<const T> residual, View<T> h_io, Saved& saved) const {
    saved.resize(this->entries_.size());
    this->visit_enabled([&](std::size_t i, const auto& delta) { delta.forward(pass, norm, residual, h_io, saved[i]); });
  }
  void backward(Pass<X>& pass, const ResidualNorm<X>& norm, const Saved& saved, View<const T> residual, View<T> dh_io, GradientSink<T>& d_residual) {
    this->visit_reversed([&](std::size_t i, auto& delta) { delta.backward(pass, norm, saved[i], residual, dh_io, d_residual); });
  }
};

enum class Sublayer { attention, cross_attention, feed_forward };

// The place after one sublayer, as attach sees it.
template <class X>
struct SublayerSite {
  std::string path;      // "bert.encoder.layer.0.attention.output"
  std::string adapters;  // the same as AdapterHub names it: "bert.encoder.layer.0.attention.output.adapters"
  Index layer = 0;       // counted over both stacks of an encoder-decoder, the encoder's first
  Sublayer sublayer = Sublayer::attention;
  Index width = 0;  // C
  SublayerSlot<X> deltas;
};

}  // namespace deltatune
