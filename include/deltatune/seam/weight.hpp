// The weight seam: deltas that change what one weight matrix does. Linear has a slot for them at each of its sites.
//
// A weight delta is a plain struct. y_io arrives holding x·Wᵀ and leaves holding the adapted product; the bias is added after.
//
//   struct MyDelta {
//     struct Saved {...};                                    // trivially copyable, at most kDeltaSavedBytes: views into the workspace, masks
//     template <class F> void visit(const F& f);             // f(Parameter<X>&) for each of its parameters
//     bool needs_input() const;                              // whether backward reads x
//     void forward(Pass<X>&, View<const T> x, View<T> y_io, Saved&) const;       // x (N, in), y_io (N, out)
//     void backward(Pass<X>&, const Saved&, View<const T> x, View<T> dy_io, GradientSink<T>& dx);
//     void merge(Context&, View<T> w_io, View<T> b_io) const;  // optional: W (out, in) and b become the adapted ones; b_io may be empty
//   };
//
// backward accumulates into the gradients of its own parameters, contributes to dx where it is wanted, and leaves in dy_io the gradient of
// the y_io that it received. Deltas of a site run in the order of attachment, backward in reverse; the frozen product comes last.
//
// Optional: how merging goes together with other deltas of the site (MergeTraits of seam/slot.hpp). Without them it takes part in no other order than
// that of attachment.
//     static constexpr bool kIsSum = true;        // y += what depends on x alone
//     static constexpr bool kIsFactor = true;     // scales columns of x or y
//     static constexpr bool kReadsWeight = true;  // computes with the site's weight
//
// Optional, of a delta that changes what the product reads, all three or none:
//     bool changes_input() const;
//     void before(Pass<X>&, View<const T> x, View<T> x_out) const;               // x_out (N, in): read instead of x; also called in backward
//     void before_backward(Pass<X>&, View<const T> x, View<T> dx_io);            // dx_io: gradient of x_out, becomes that of x
// Optional, of a delta that changes the output with its bias, both or none:
//     void after(Pass<X>&, View<T> y_io, Saved&) const;
//     void after_backward(Pass<X>&, const Saved&, View<T> dy_io);
//
// Optional, of a delta whose row of y depends on other rows of its sequence (pass.sequences says which): else a layer may run on some rows only.
//     bool mixes_rows() const;
//
// A delta of the form y += s·(x·Aᵀ)·Bᵀ may let the layer multiply with A, which stands under W in one matrix then: y and u = x·Aᵀ come from one
// product, and dx = [dy | du]·[W; A] does. Optional, all four or none:
//     Index low_rank() const;                                // rows of A that it gives away; 0: none, it runs products of its own
//     void place(Context&, View<T> rows);                    // A moves there, (low_rank(), in), with its values
//     void forward(Pass<X>&, View<const T> x, View<const T> u, View<T> y_io, Saved&) const;      // u (N, low_rank())
//     void backward(Pass<X>&, const Saved&, View<const T> x, View<T> dy_io, View<T> du);         // du written instead of added to dx
#pragma once

#include <string>
#include <utility>

#include "deltatune/seam/pass.hpp"
#include "deltatune/seam/slot.hpp"

namespace deltatune {

template <class D, class X>
concept WeightDelta = kIsDeltaSaved<typename D::Saved> && requires(D delta, const D& constant, Pass<X>& pass, View<const scalar_of<X>> x, View<scalar_of<X>> y,
                                                                   typename D::Saved& saved, GradientSink<scalar_of<X>>& dx) {
  delta.visit(detail::IgnoreParameter{});
  { constant.needs_input() } -> std::same_as<bool>;
  constant.forward(pass, x, y, saved);
  delta.backward(pass, saved, x, y, dx);
};

template <class D, class X>
concept InputChangingDelta = WeightDelta<D, X> && requires(D delta, const D& constant, Pass<X>& pass, View<const scalar_of<X>> x, View<scalar_of<X>> y) {
  { constant.changes_input() } -> std::same_as<bool>;
  constant.before(pass, x, y);
  delta.before_backward(pass, x, y);
};

template <class D, class X>
concept OutputChangingDelta = WeightDelta<D, X> && requires(D delta, const D& constant, Pass<X>& pass, View<scalar_of<X>> y, typename D::Saved& saved) {
  constant.after(pass, y, saved);
  delta.after_backward(pass, saved, y);
};

template <class D, class X>
concept LowRankDelta = WeightDelta<D, X> &&
    requires(D delta, const D& constant, context_of<X>& ctx, Pass<X>& pass, View<const scalar_of<X>> x, View<scalar_of<X>> y, typename D::Saved& saved) {
  { constant.low_rank() } -> std::same_as<Index>;
  delta.place(ctx, y);
  constant.forward(pass, x, x, y, saved);
  delta.backward(pass, saved, x, y, y);
};

template <class D, class X>
concept MergeableDelta = requires(const D& constant, context_of<X>& ctx, View<scalar_of<X>> y) {
  constant.merge(ctx, y, y);
};

namespace detail {

template <class X>
struct ErasedWeightDelta : ErasedDelta<X> {
  using T = scalar_of<X>;

  virtual void start(DeltaSaved& saved) const = 0;
  virtual void forward(Pass<X>& pass, View<const T> x, View<T> y_io, DeltaSaved& saved) const = 0;
  virtual void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) = 0;
  // Optional hooks: no-ops for a delta that does not implement them.
  virtual bool changes_input() const { return false; }
  virtual void before(Pass<X>&, View<const T> /*x*/, View<T> /*x_out*/) const {}
  virtual void before_backward(Pass<X>&, View<const T> /*x*/, View<T> /*dx_io*/) {}
  virtual void after(Pass<X>&, View<T> /*y_io*/, DeltaSaved&) const {}
  virtual void after_backward(Pass<X>&, const DeltaSaved&, View<T> /*dy_io*/) {}
  virtual Index low_rank() const { return 0; }
  virtual void place(context_of<X>&, View<T> /*rows*/) {}
  virtual void forward(Pass<X>&, View<const T> /*x*/, View<const T> /*u*/, View<T> /*y_io*/, DeltaSaved&) const {}
  virtual void backward(Pass<X>&, const DeltaSaved&, View<const T> /*x*/, View<T> /*dy_io*/, View<T> /*du*/) {}

  Index rank = 0;   // placed rows, 0 for none
  Index first = 0;  // the first of them among all of the layer
};

template <class X, WeightDelta<X> D>
struct WeightDeltaHolder final : DeltaHolder<X, D, ErasedWeightDelta<X>> {
  using T = scalar_of<X>;
  using S = typename D::Saved;
  using DeltaHolder<X, D, ErasedWeightDelta<X>>::DeltaHolder, DeltaHolder<X, D, ErasedWeightDelta<X>>::delta;

  void start(DeltaSaved& saved) const override { saved.template emplace<S>(); }
  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, DeltaSaved& saved) const override { delta.forward(pass, x, y_io, saved.template get<S>()); }
  void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) override {
    delta.backward(pass, saved.template get<S>(), x, dy_io, dx);
  }
  bool can_merge() const override { return MergeableDelta<D, X>; }
  MergeTraits merge_traits() const override {
    MergeTraits traits = merge_traits_of<D>();
    traits.outermost = InputChangingDelta<D, X> || OutputChangingDelta<D, X>;
    return traits;
  }
  void merge([[maybe_unused]] context_of<X>& ctx, [[maybe_unused]] View<T> w_io, [[maybe_unused]] View<T> b_io) const override {
    if constexpr (MergeableDelta<D, X>) delta.merge(ctx, w_io, b_io);
  }
  bool routable() const override { return !this->mixes_rows() && !InputChangingDelta<D, X> && !OutputChangingDelta<D, X>; }
  bool changes_input() const override {
    if constexpr (InputChangingDelta<D, X>) return delta.changes_input();
    return false;
  }
  void before([[maybe_unused]] Pass<X>& pass, [[maybe_unused]] View<const T> x, [[maybe_unused]] View<T> x_out) const override {
    if constexpr (InputChangingDelta<D, X>) delta.before(pass, x, x_out);
  }
  void before_backward([[maybe_unused]] Pass<X>& pass, [[maybe_unused]] View<const T> x, [[maybe_unused]] View<T> dx_io) override {
    if constexpr (InputChangingDelta<D, X>) delta.before_backward(pass, x, dx_io);
  }
  void after([[maybe_unused]] Pass<X>& pass, [[maybe_unused]] View<T> y_io, [[maybe_unused]] DeltaSaved& saved) const override {
    if constexpr (OutputChangingDelta<D, X>) delta.after(pass, y_io, saved.template get<S>());
  }
  void after_backward([[maybe_unused]] Pass<X>& pass, [[maybe_unused]] const DeltaSaved& saved, [[maybe_unused]] View<T> dy_io) override {
    if constexpr (OutputChangingDelta<D, X>) delta.after_backward(pass, saved.template get<S>(), dy_io);
  }
  Index low_rank() const override {
    if constexpr (LowRankDelta<D, X>) return delta.low_rank();
    return 0;
  }
  void place([[maybe_unused]] context_of<X>& ctx, [[maybe_unused]] View<T> rows) override {
    if constexpr (LowRankDelta<D, X>) delta.place(ctx, rows);
  }
  void forward([[maybe_unused]] Pass<X>& pass, [[maybe_unused]] View<const T> x, [[maybe_unused]] View<const T> u, [[maybe_unused]] View<T> y_io,
               [[maybe_unused]] DeltaSaved& saved) const override {
    if constexpr (LowRankDelta<D, X>) delta.forward(pass, x, u, y_io, saved.template get<S>());
  }
  void backward([[maybe_unused]] Pass<X>& pass, [[maybe_unused]] const DeltaSaved& saved, [[maybe_unused]] View<const T> x, [[maybe_unused]] View<T> dy_io,
                [[maybe_unused]] View<T> du) override {
    if constexpr (LowRankDelta<D, X>) delta.backward(pass, saved.template get<S>(), x, dy_io, du);
  }
};

}  // namespace detail

// The deltas of one site.
template <class X>
class WeightSlot : public SeamSlot<X, detail::ErasedWeightDelta<X>> {
 public:
  using typename SeamSlot<X, detail::ErasedWeightDelta<X>>::T, typename SeamSlot<X, detail::ErasedWeightDelta<X>>::Saved;

  template <WeightDelta<X> D>
  D& add(std::string name, D delta) {
    return this->template insert<detail::WeightDeltaHolder<X, D>>(std::move(name), std::move(delta));
  }

  bool changes_input() const {
    return this->any([](const auto& delta) { return delta.changes_input(); });
  }

  // Rows of A that the deltas give away together: those that take part for all rows of a batch, or the others.
  Index low_rank(bool taking_part) const {
    Index rows = 0;
    for (std::size_t i = 0; i < this->entries_.size(); ++i) rows += takes_part(i) == taking_part ? this->delta_at(i).low_rank() : 0;
    return rows;
  }
  // Gives each of these its rows of `factors` (all A of a layer), from `first` on; returns the row after the last.
  Index place(context_of<X>& ctx, View<T> factors, bool taking_part, Index first) {
    for (std::size_t i = 0; i < this->entries_.size(); ++i) {
      if (takes_part(i) != taking_part) continue;
      auto& delta = this->delta_at(i);
      delta.rank = delta.low_rank();
      delta.first = first;
      if (delta.rank > 0) delta.place(ctx, factors.row_range(first, delta.rank));
      first += delta.rank;
    }
    return first;
  }
  // Whether each of these has its rows there already.
  bool placed(bool taking_part, Index& first_io) const {
    bool all = true;
    for (std::size_t i = 0; i < this->entries_.size(); ++i) {
      if (takes_part(i) != taking_part) continue;
      const auto& delta = this->delta_at(i);
      all = all && delta.rank == delta.low_rank() && (delta.rank == 0 || delta.first == first_io);
      first_io += delta.low_rank();
    }
    return all;
  }

  // What the product of this site reads, from x into x_out, where changes_input().
  void before(Pass<X>& pass, View<const T> x, View<T> x_out) const {
    View<const T> from = x;
    this->visit_enabled([&](std::size_t, const auto& delta) {
      if (!delta.changes_input()) return;
      delta.before(pass, from, x_out);
      from = x_out;
    });
  }
  void before_backward(Pass<X>& pass, View<const T> x, View<T> dx_io) {
    const auto scope = pass.scope();
    this->visit_reversed([&](std::size_t i, auto& delta) {
      if (delta.changes_input()) delta.before_backward(pass, input_of(pass, i, x), dx_io);
    });
  }

  // x (N, in), y_io (N, out). u: x·Aᵀ for all placed rows of the layer, or empty: every delta runs products of its own.
  void forward(Pass<X>& pass, View<const T> x, View<const T> u, View<T> y_io, Saved& saved) const {
    saved.resize(this->entries_.size());
    this->visit_enabled([&](std::size_t i, const auto& delta) {
      if (this->entries_[i].routed)  // what it keeps for each of its routes stands behind the rest
        return visit_routes(pass, i, [&](const Route& route) {
          delta.start(saved.emplace_back());
          delta.forward(pass, x.row_range(route.first, route.rows), y_io.row_range(route.first, route.rows), saved.back());
        });
      delta.start(saved[i]);
      if (u && delta.rank > 0) {
        delta.forward(pass, x, u.column_range(delta.first, delta.rank), y_io, saved[i]);
      } else {
        delta.forward(pass, x, y_io, saved[i]);
      }
    });
  }
  // y_io (N, out): with the bias.
  void after(Pass<X>& pass, View<T> y_io, Saved& saved) const {
    this->visit_enabled([&](std::size_t i, const auto& delta) {
      if (takes_part(i)) delta.after(pass, y_io, saved[i]);
    });
  }
  void after_backward(Pass<X>& pass, const Saved& saved, View<T> dy_io) {
    this->visit_reversed([&](std::size_t i, auto& delta) {
      if (takes_part(i)) delta.after_backward(pass, saved[i], dy_io);
    });
  }
  // du: where forward had u; the placed deltas write their columns of it, the others contribute to dx.
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, View<T> du, GradientSink<T>& dx) {
    if (saved.size() > this->entries_.size() && dx.wanted() && dx.next_beta() == T(0))
      backend_of<X>::fill(pass.ctx, dx.view(), T(0));  // routes add to some rows
    std::size_t next = saved.size();
    this->visit_reversed([&](std::size_t i, auto& delta) {
      if (this->entries_[i].routed) {
        visit_routes(pass, i, [&](const Route&) { --next; });
        std::size_t at = next;
        return visit_routes(pass, i, [&](const Route& route) {
          GradientSink<T> dx_part = dx.wanted() ? GradientSink<T>::accumulating(dx.view().row_range(route.first, route.rows)) : GradientSink<T>::none();
          const View<const T> x_part = x ? x.row_range(route.first, route.rows) : x;
          delta.backward(pass, saved[at++], x_part, dy_io.row_range(route.first, route.rows), dx_part);
        });
      }
      if (du && delta.rank > 0) {
        delta.backward(pass, saved[i], x, dy_io, du.column_range(delta.first, delta.rank));
      } else {
        delta.backward(pass, saved[i], x, dy_io, dx);
      }
    });
  }

 private:
  bool takes_part(std::size_t i) const { return this->entries_[i].enabled && !this->entries_[i].routed; }
  // f(route) for the rows that the batch sends through delta i.
  template <class F>
  void visit_routes(const Pass<X>& pass, std::size_t i, const F& f) const {
    if (pass.routes == nullptr) return;
    for (const Route& route : *pass.routes)
      if (route.adapter == this->entries_[i].name) f(route);
  }

  // What delta i was given by those before it.
  View<const T> input_of(Pass<X>& pass, std::size_t i, View<const T> x) const {
    View<const T> from = x;
    this->visit_enabled([&](std::size_t j, const auto& delta) {
      if (j >= i || !delta.changes_input()) return;
      const View<T> to = pass.take(x.rows, x.cols);
      delta.before(pass, from, to);
      from = to;
    });
    return from;
  }
};

}  // namespace deltatune
