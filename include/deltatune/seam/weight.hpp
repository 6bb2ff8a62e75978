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
//     void merge(Context&, View<T> w_io) const;              // optional: W (out, in) becomes the adapted weight
//   };
//
// A delta of the form y += s·(x·Aᵀ)·Bᵀ may let the layer multiply with A, which stands under W in one matrix then: y and u = x·Aᵀ come from one
// product, and dx = [dy | du]·[W; A] does. Optional, all four or none:
//     Index low_rank() const;                                // rows of A that it gives away; 0: none, it runs products of its own
//     void place(Context&, View<T> rows);                    // A moves there, (low_rank(), in), with its values
//     void forward(Pass<X>&, View<const T> x, View<const T> u, View<T> y_io, Saved&) const;      // u (N, low_rank())
//     void backward(Pass<X>&, const Saved&, View<const T> x, View<T> dy_io, View<T> du);         // du written instead of added to dx
// backward accumulates into the gradients of its own parameters, contributes to dx where it is wanted, and leaves in dy_io the gradient of
// the y_io that it received. Deltas of a site run in the order of attachment, backward in reverse; the frozen product comes last.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune {

inline constexpr std::size_t kDeltaSavedBytes = 256;

namespace detail {
struct IgnoreParameter {
  template <class P>
  void operator()(P&) const {}
};
}  // namespace detail

template <class D, class X>
concept WeightDelta = std::is_trivially_copyable_v<typename D::Saved> && sizeof(typename D::Saved) <= kDeltaSavedBytes &&
                      requires(D delta, const D& constant, Pass<X>& pass, View<const scalar_of<X>> x, View<scalar_of<X>> y, typename D::Saved& saved,
                               GradientSink<scalar_of<X>>& dx) {
                        delta.visit(detail::IgnoreParameter{});
                        { constant.needs_input() } -> std::same_as<bool>;
                        constant.forward(pass, x, y, saved);
                        delta.backward(pass, saved, x, y, dx);
                      };

template <class D, class X>
concept LowRankDelta = WeightDelta<D, X> && requires(D delta, const D& constant, context_of<X>& ctx, Pass<X>& pass, View<const scalar_of<X>> x,
                                                     View<scalar_of<X>> y, typename D::Saved& saved) {
  { constant.low_rank() } -> std::same_as<Index>;
  delta.place(ctx, y);
  constant.forward(pass, x, x, y, saved);
  delta.backward(pass, saved, x, y, y);
};

// What one delta keeps between forward and backward, without its type.
class DeltaSaved {
 public:
  template <class S>
  S& emplace() {
    return *new (storage_) S();
  }
  template <class S>
  const S& get() const {
    return *std::launder(reinterpret_cast<const S*>(storage_));
  }

 private:
  alignas(std::max_align_t) std::byte storage_[kDeltaSavedBytes];
};

// The deltas of one site. Empty, it costs one branch.
template <class X>
class WeightSlot {
 public:
  using T = scalar_of<X>;
  using Saved = std::vector<DeltaSaved>;

  bool empty() const { return entries_.empty(); }

  // Takes the delta in under the name of its attachment; the reference stays valid until remove().
  template <WeightDelta<X> D>
  D& add(std::string name, D delta) {
    for (const Entry& entry : entries_)
      if (entry.name == name) throw Error(name, "is already attached here", {.remedy = "detach it first or choose another name"});
    auto holder = std::make_unique<Holder<D>>(std::move(delta));
    D& reference = holder->delta;
    entries_.push_back({std::move(name), true, 0, 0, std::move(holder)});
    return reference;
  }
  void remove(const std::string& name) {
    std::erase_if(entries_, [&](const Entry& entry) { return entry.name == name; });
  }
  void set_enabled(const std::string& name, bool enabled) {
    for (Entry& entry : entries_)
      if (entry.name == name) entry.enabled = enabled;
  }

  template <class F>
  void visit(const F& f) {
    const std::function<void(Parameter<X>&)> erased = [&f](Parameter<X>& parameter) { f(parameter); };
    for (Entry& entry : entries_) entry.delta->visit(erased);
  }

  bool needs_input() const {
    return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.enabled && entry.delta->needs_input(); });
  }

  // Rows of A that the deltas give away together.
  Index low_rank() const {
    Index rows = 0;
    for (const Entry& entry : entries_) rows += entry.delta->low_rank();
    return rows;
  }
  // Gives every such delta its rows of `factors` (all A of a layer), from `first` on; returns the row after the last.
  Index place(context_of<X>& ctx, View<T> factors, Index first) {
    for (Entry& entry : entries_) {
      entry.rank = entry.delta->low_rank();
      entry.first = first;
      if (entry.rank > 0) entry.delta->place(ctx, factors.row_range(first, entry.rank));
      first += entry.rank;
    }
    return first;
  }
  // Rows that are placed and take part.
  Index placed_rows() const {
    Index rows = 0;
    for (const Entry& entry : entries_) rows += entry.enabled ? entry.rank : 0;
    return rows;
  }

  // x (N, in), y_io (N, out). u: x·Aᵀ for all placed rows of the layer, or empty: every delta runs products of its own.
  void forward(Pass<X>& pass, View<const T> x, View<const T> u, View<T> y_io, Saved& saved) const {
    saved.resize(entries_.size());
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const Entry& entry = entries_[i];
      if (!entry.enabled) continue;
      if (u && entry.rank > 0) {
        entry.delta->forward(pass, x, u.column_range(entry.first, entry.rank), y_io, saved[i]);
      } else {
        entry.delta->forward(pass, x, y_io, saved[i]);
      }
    }
  }
  // du: where forward had u; the placed deltas write their columns of it, the others contribute to dx.
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, View<T> du, GradientSink<T>& dx) {
    for (std::size_t i = entries_.size(); i-- > 0;) {
      const Entry& entry = entries_[i];
      if (!entry.enabled) continue;
      if (du && entry.rank > 0) {
        entry.delta->backward(pass, saved[i], x, dy_io, du.column_range(entry.first, entry.rank));
      } else {
        entry.delta->backward(pass, saved[i], x, dy_io, dx);
      }
    }
  }

 private:
  struct Erased {
    virtual ~Erased() = default;
    virtual void visit(const std::function<void(Parameter<X>&)>& f) = 0;
    virtual bool needs_input() const = 0;
    virtual void forward(Pass<X>& pass, View<const T> x, View<T> y_io, DeltaSaved& saved) const = 0;
    virtual void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) = 0;
    // Of deltas without low-rank factors the last three are never called.
    virtual Index low_rank() const = 0;
    virtual void place(context_of<X>& ctx, View<T> rows) = 0;
    virtual void forward(Pass<X>& pass, View<const T> x, View<const T> u, View<T> y_io, DeltaSaved& saved) const = 0;
    virtual void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<T> dy_io, View<T> du) = 0;
  };
  template <class D>
  struct Holder final : Erased {
    explicit Holder(D d) : delta(std::move(d)) {}
    void visit(const std::function<void(Parameter<X>&)>& f) override { delta.visit(f); }
    bool needs_input() const override { return delta.needs_input(); }
    void forward(Pass<X>& pass, View<const T> x, View<T> y_io, DeltaSaved& saved) const override {
      delta.forward(pass, x, y_io, saved.emplace<typename D::Saved>());
    }
    void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) override {
      delta.backward(pass, saved.get<typename D::Saved>(), x, dy_io, dx);
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
      if constexpr (LowRankDelta<D, X>) delta.forward(pass, x, u, y_io, saved.emplace<typename D::Saved>());
    }
    void backward([[maybe_unused]] Pass<X>& pass, [[maybe_unused]] const DeltaSaved& saved, [[maybe_unused]] View<const T> x,
                  [[maybe_unused]] View<T> dy_io, [[maybe_unused]] View<T> du) override {
      if constexpr (LowRankDelta<D, X>) delta.backward(pass, saved.get<typename D::Saved>(), x, dy_io, du);
    }
    D delta;
  };
  struct Entry {
    std::string name;
    bool enabled;
    Index rank;   // placed rows, 0 for none
    Index first;  // the first of them among all of the layer
    std::unique_ptr<Erased> delta;
  };

  std::vector<Entry> entries_;
};

}  // namespace deltatune
