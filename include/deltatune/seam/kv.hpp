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
//     RowDistances distances() const;              // optional: what a bias by distance makes of the rows; else RowDistances::none
//   };
//
// In cross-attention, x is what the queries are made of, and the rows stand in front of those of the encoder's output.
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

// What a bias by distance (T5's) makes of P rows in front of the tokens.
enum class RowDistances {
  none,     // they have no distance and no bias
  real,     // they are the P rows before the first token, as PEFT's are
  shifted,  // they are the first P keys, and every token is P keys later than its query takes it to be, as in AdapterHub
};

namespace detail {

template <class X>
struct ErasedKvDelta : ErasedDelta<X> {
  using T = scalar_of<X>;

  virtual Index rows() const = 0;
  virtual RowDistances distances() const = 0;
  virtual void forward(Pass<X>& pass, View<const T> x, View<T> kv, DeltaSaved& saved) const = 0;
  virtual void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<const T> dkv, GradientSink<T>& dx) = 0;
};

template <class X, KvDelta<X> D>
struct KvDeltaHolder final : DeltaHolder<X, D, ErasedKvDelta<X>> {
  using T = scalar_of<X>;
  using DeltaHolder<X, D, ErasedKvDelta<X>>::DeltaHolder, DeltaHolder<X, D, ErasedKvDelta<X>>::delta;

  Index rows() const override { return delta.rows(); }
  RowDistances distances() const override {
    if constexpr (requires(const D& d) { d.distances(); }) return delta.distances();
    return RowDistances::none;
  }
  void forward(Pass<X>& pass, View<const T> x, View<T> kv, DeltaSaved& saved) const override { delta.forward(pass, x, kv, saved.emplace<typename D::Saved>()); }
  void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<const T> dkv, GradientSink<T>& dx) override {
    delta.backward(pass, saved.get<typename D::Saved>(), x, dkv, dx);
  }
};

}  // namespace detail

// The deltas of one attention layer.
template <class X>
class KvSlot : public SeamSlot<X, detail::ErasedKvDelta<X>> {
 public:
  using typename SeamSlot<X, detail::ErasedKvDelta<X>>::T, typename SeamSlot<X, detail::ErasedKvDelta<X>>::Saved;

  template <KvDelta<X> D>
  D& add(std::string name, D delta) {
    return this->template insert<detail::KvDeltaHolder<X, D>>(std::move(name), std::move(delta));
  }

  // Of all deltas that take part.
  Index rows() const {
    Index rows = 0;
    this->visit_enabled([&](std::size_t, const auto& delta) { rows += delta.rows(); });
    return rows;
  }

  // Of the deltas that take part, whether all of them have these.
  bool all_have(RowDistances distances) const {
    return !this->any([&](const auto& delta) { return delta.distances() != distances; });
  }

  // place(first, kv): puts the rows kv (B·P, 2·Ckv) of one delta before those of the tokens, from row `first` of each sequence on.
  template <class Place>
  void forward(Pass<X>& pass, Index sequences, Index columns, View<const T> x, Saved& saved, const Place& place) const {
    saved.resize(this->entries_.size());
    Index first = 0;
    this->visit_enabled([&](std::size_t i, const auto& delta) {
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
    this->visit_enabled([&](std::size_t i, auto& delta) {
      const auto scope = pass.scope();
      const View<T> dkv = pass.take(sequences * delta.rows(), columns);
      fetch(first, dkv);
      delta.backward(pass, saved[i], x, dkv, dx);
      first += delta.rows();
    });
  }
};

enum class AttentionKind {
  self,          // of a decoder, or of the only stack
  encoder_self,  // of an encoder-decoder's encoder
  cross,
};

// One attention layer, as attach sees it.
template <class X>
struct KvSite {
  std::string path;       // "bert.encoder.layer.0.attention.self"
  Index input_width = 0;  // C
  Index width = 0;        // Ckv: columns of the keys, and of the values
  AttentionKind kind = AttentionKind::self;
  Index layer = 0;        // of its stack
  bool by_place = false;  // a query sees the keys around it, among which rows in front of the tokens have no place
  bool biased = false;    // scores have a bias by distance
  bool slides = false;    // a query sees the keys of a window alone, rows in front of the tokens as if they were tokens (transformers' cache)
  KvSlot<X> deltas;

  // Throws Error where no delta can stand, or where those that stand here don't go together.
  void check_takes_rows() const {
    if (by_place)
      throw Error(path, "has a window around each query, in which rows in front of the tokens have no place", {.remedy = "use another method than prefixes"});
    if (biased && !deltas.all_have(RowDistances::none) && !deltas.all_have(RowDistances::real) && !deltas.all_have(RowDistances::shifted))
      throw Error(path, "has a bias by distance and several prefixes, which go by different distances", {.remedy = "attach prefixes of one kind"});
  }
};

}  // namespace deltatune
