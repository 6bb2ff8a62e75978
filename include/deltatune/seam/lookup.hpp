// The weight seam of an embedding table: deltas that change what is looked up.
//
//   struct MyDelta {
//     struct Saved {...};                          // trivially copyable, at most kDeltaSavedBytes
//     template <class F> void visit(const F& f);   // f(Parameter<X>&) for each of its parameters
//     void forward(Pass<X>&, const std::int32_t* ids, View<T> y_io, Saved&) const;               // y_io (N, C) += its part; a negative id: nothing
//     void backward(Pass<X>&, const Saved&, const RowGroups& groups, View<const T> dy);     // groups: rows of dy by id
//     void merge(Context&, View<T> table_io) const;                                              // optional; table (V, C)
//     static constexpr bool kIsSum, kReadsWeight;                                                // optional: see seam/weight.hpp
//   };
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "deltatune/seam/pass.hpp"
#include "deltatune/seam/slot.hpp"
#include "deltatune/tensor/row_groups.hpp"

namespace deltatune {

template <class D, class X>
concept LookupDelta = kIsDeltaSaved<typename D::Saved> &&
    requires(D delta, const D& constant, Pass<X>& pass, const std::int32_t* ids, const RowGroups& groups, View<scalar_of<X>> y, typename D::Saved& saved) {
  delta.visit(detail::IgnoreParameter{});
  constant.forward(pass, ids, y, saved);
  delta.backward(pass, saved, groups, y);
};

namespace detail {

template <class X>
struct ErasedLookupDelta : ErasedDelta<X> {
  using T = scalar_of<X>;

  virtual void forward(Pass<X>& pass, const std::int32_t* ids, View<T> y_io, DeltaSaved& saved) const = 0;
  virtual void backward(Pass<X>& pass, const DeltaSaved& saved, const RowGroups& groups, View<const T> dy) = 0;
};

template <class X, LookupDelta<X> D>
struct LookupDeltaHolder final : DeltaHolder<X, D, ErasedLookupDelta<X>> {
  using T = scalar_of<X>;
  using DeltaHolder<X, D, ErasedLookupDelta<X>>::DeltaHolder, DeltaHolder<X, D, ErasedLookupDelta<X>>::delta;

  void forward(Pass<X>& pass, const std::int32_t* ids, View<T> y_io, DeltaSaved& saved) const override {
    delta.forward(pass, ids, y_io, saved.emplace<typename D::Saved>());
  }
  void backward(Pass<X>& pass, const DeltaSaved& saved, const RowGroups& groups, View<const T> dy) override {
    delta.backward(pass, saved.get<typename D::Saved>(), groups, dy);
  }
  bool can_merge() const override {
    return requires(const D& d, context_of<X>& ctx, View<T> table) { d.merge(ctx, table); };
  }
  void merge([[maybe_unused]] context_of<X>& ctx, [[maybe_unused]] View<T> table_io, View<T> /*none*/) const override {
    if constexpr (requires { delta.merge(ctx, table_io); }) delta.merge(ctx, table_io);
  }
};

}  // namespace detail

// The deltas of one table.
template <class X>
class LookupSlot : public SeamSlot<X, detail::ErasedLookupDelta<X>> {
 public:
  using typename SeamSlot<X, detail::ErasedLookupDelta<X>>::T, typename SeamSlot<X, detail::ErasedLookupDelta<X>>::Saved;

  template <LookupDelta<X> D>
  D& add(std::string name, D delta) {
    return this->template insert<detail::LookupDeltaHolder<X, D>>(std::move(name), std::move(delta));
  }

  void forward(Pass<X>& pass, const std::int32_t* ids, View<T> y_io, Saved& saved) const {
    saved.resize(this->entries_.size());
    this->visit_enabled([&](std::size_t i, const auto& delta) { delta.forward(pass, ids, y_io, saved[i]); });
  }
  void backward(Pass<X>& pass, const Saved& saved, const RowGroups& groups, View<const T> dy) {
    this->visit_reversed([&](std::size_t i, auto& delta) { delta.backward(pass, saved[i], groups, dy); });
  }
};

// One table of embeddings, as attach sees it.
template <class X>
struct LookupSite {
  std::string path;    // "bert.embeddings.word_embeddings"
  Parameter<X> table;  // (V, C)
  LookupSlot<X> deltas;
  Index skipped_id = -1;  // the padding id, whose row gets no gradient; -1: none
};

}  // namespace deltatune
