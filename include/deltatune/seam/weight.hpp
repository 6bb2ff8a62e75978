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
    entries_.push_back({std::move(name), true, std::move(holder)});
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

  // x (N, in), y_io (N, out).
  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    saved.resize(entries_.size());
    for (std::size_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].enabled) entries_[i].delta->forward(pass, x, y_io, saved[i]);
  }
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) {
    for (std::size_t i = entries_.size(); i-- > 0;)
      if (entries_[i].enabled) entries_[i].delta->backward(pass, saved[i], x, dy_io, dx);
  }

 private:
  struct Erased {
    virtual ~Erased() = default;
    virtual void visit(const std::function<void(Parameter<X>&)>& f) = 0;
    virtual bool needs_input() const = 0;
    virtual void forward(Pass<X>& pass, View<const T> x, View<T> y_io, DeltaSaved& saved) const = 0;
    virtual void backward(Pass<X>& pass, const DeltaSaved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) = 0;
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
    D delta;
  };
  struct Entry {
    std::string name;
    bool enabled;
    std::unique_ptr<Erased> delta;
  };

  std::vector<Entry> entries_;
};

}  // namespace deltatune
