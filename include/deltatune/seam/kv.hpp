// The kv seam: keys and values that every query of a sequence sees before those of its own tokens. An attention layer has a slot for them.
//
//   struct MyDelta {
//     struct Saved {...};                          // trivially copyable, at most kDeltaSavedBytes
//     template <class F> void visit(const F& f);   // f(Parameter<X>&) for each of its parameters
//     Index rows() const;                          // P, how many it adds to each sequence
//     bool needs_input() const;                    // whether backward reads x
//     void forward(Pass<X>&, View<const T> x, View<T> kv, Saved&) const;         // x (N, C) the layer's input; kv (B·P, 2·Ckv): [key | value] rows of
//                                                                                // the first sequence, then of the second, ...
//     void backward(Pass<X>&, const Saved&, View<const T> x, View<const T> dkv, GradientSink<T>& dx);
//   };
//
// backward accumulates into the gradients of its own parameters and contributes to dx where it is wanted. Which sequence a row of x belongs to
// says pass.sequences.
#pragma once

#include <string>
#include <utility>

#include "deltatune/core/error.hpp"
#include "deltatune/seam/pass.hpp"
#include "deltatune/seam/slot.hpp"

namespace deltatune {

template <class D, class X>
concept KvDelta = kIsDeltaSaved<typename D::Saved> && requires(D delta, const D& constant, Pass<X>& pass, View<const scalar_of<X>> x, View<scalar_of<X>> kv,
                                                               typename D::Saved& saved, GradientSink<scalar_of<X>>& dx) {
  delta.visit(detail::IgnoreParameter{});
  { constant.rows() } -> std::same_as<Index>;
  { constant.needs_input() } -> std::same_as<bool>;
  constant.forward(pass, x, kv, saved);
  delta.backward(pass, saved, x, x, dx);
};

namespace detail {

template <class X>
struct ErasedKvDelta {
  using T = scalar_of<X>;

  virtual ~ErasedKvDelta() = default;
  virtual void visit(const ParameterVisitor<X>& f) = 0;
  virtual Index rows() const = 0;
  virtual bool needs_input() const = 0;
  virtual void forward(Pass<X>& pass, View<const T> x, View<T> kv, DeltaSaved& saved) const = 0;
  virtual void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<const T> dkv, GradientSink<T>& dx) = 0;
};

template <class X, KvDelta<X> D>
struct KvDeltaHolder final : ErasedKvDelta<X> {
  using T = scalar_of<X>;

  explicit KvDeltaHolder(D d) : delta(std::move(d)) {}
  void visit(const ParameterVisitor<X>& f) override { delta.visit(f); }
  Index rows() const override { return delta.rows(); }
  bool needs_input() const override { return delta.needs_input(); }
  void forward(Pass<X>& pass, View<const T> x, View<T> kv, DeltaSaved& saved) const override { delta.forward(pass, x, kv, saved.emplace<typename D::Saved>()); }
  void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<const T> dkv, GradientSink<T>& dx) override {
    delta.backward(pass, saved.get<typename D::Saved>(), x, dkv, dx);
  }

  D delta;
};

}  // namespace detail

// The deltas of one attention layer.
template <class X>
class KvSlot : public Slot<X, detail::ErasedKvDelta<X>> {
 public:
  using T = scalar_of<X>;
  using Saved = SlotSaved;

  template <KvDelta<X> D>
  D& add(std::string name, D delta) {
    return this->template insert<detail::KvDeltaHolder<X, D>>(std::move(name), std::move(delta));
  }

  // Of all deltas that take part.
  Index rows() const {
    Index rows = 0;
    visit_enabled([&](std::size_t, const auto& delta) { rows += delta.rows(); });
    return rows;
  }
  bool needs_input() const {
    return this->any([](const auto& delta) { return delta.needs_input(); });
  }

  // place(first, kv): puts the rows kv (B·P, 2·Ckv) of one delta before those of the tokens, from row `first` of each sequence on.
  template <class Place>
  void forward(Pass<X>& pass, Index sequences, Index columns, View<const T> x, Saved& saved, const Place& place) const {
    saved.resize(this->entries_.size());
    Index first = 0;
    visit_enabled([&](std::size_t i, const auto& delta) {
      const auto scope = pass.scope();
      const View<T> kv = pass.take(sequences * delta.rows(), columns);
      delta.forward(pass, x, kv, saved[i]);
      place(first, kv);
      first += delta.rows();
    });
  }
  // fetch(first, dkv): the gradient of what place() took.
  template <class Fetch>
  void backward(Pass<X>& pass, Index sequences, Index columns, const Saved& saved, View<const T> x, const Fetch& fetch, GradientSink<T>& dx) {
    Index first = 0;
    visit_enabled([&](std::size_t i, auto& delta) {
      const auto scope = pass.scope();
      const View<T> dkv = pass.take(sequences * delta.rows(), columns);
      fetch(first, dkv);
      delta.backward(pass, saved[i], x, dkv, dx);
      first += delta.rows();
    });
  }

 private:
  template <class F>
  void visit_enabled(const F& f) const {
    for (std::size_t i = 0; i < this->entries_.size(); ++i)
      if (this->entries_[i].enabled) f(i, *this->entries_[i].delta);
  }
};

// One attention layer, as attach sees it.
template <class X>
struct KvSite {
  std::string path;       // "bert.encoder.layer.0.attention.self"
  Index input_width = 0;  // C
  Index width = 0;        // Ckv: columns of the keys, and of the values
  bool by_place = false;  // scores follow the places of the keys, which rows in front of the tokens do not have
  KvSlot<X> deltas;

  // Throws Error where no delta can stand.
  void check_takes_rows() const {
    if (by_place)
      throw Error(path, "has a window or a bias by distance, in which rows in front of the tokens have no place",
                  {.remedy = "use another method than prefixes"});
  }
};

}  // namespace deltatune
