// What the slots of all seams have in common: named deltas of any type in the order of their attachment, each of which can be switched off,
// merged, visited and taken out alone. Empty, a slot costs one branch. What may follow what: attach/attachment.hpp.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/function_ref.hpp"
#include "deltatune/param/parameter.hpp"

namespace deltatune {

inline constexpr std::size_t kDeltaSavedBytes = 512;

template <class X>
using ParameterVisitor = FunctionRef<void(Parameter<X>&)>;

// What one delta keeps between forward and backward, without its type.
class DeltaSaved {
 public:
  template <class S>
  S& emplace() {
    return *new (storage_) S();
  }
  template <class S>
  S& get() {
    return *std::launder(reinterpret_cast<S*>(storage_));
  }
  template <class S>
  const S& get() const {
    return *std::launder(reinterpret_cast<const S*>(storage_));
  }

 private:
  alignas(std::max_align_t) std::byte storage_[kDeltaSavedBytes];
};

// S: what a delta may keep. One block a delta of the slot.
using SlotSaved = std::vector<DeltaSaved>;

template <class S>
inline constexpr bool kIsDeltaSaved = std::is_trivially_copyable_v<S> && sizeof(S) <= kDeltaSavedBytes;

// Of weight and sublayer deltas: its output in a row may depend on other rows of the same sequence.
template <class D>
concept RowMixingDelta = requires(const D& constant) {
  { constant.mixes_rows() } -> std::same_as<bool>;
};

// How a delta that merges into a weight goes together with the others of its site, which run in this order: sums and others by attachment, then
// what changes the layer's input or output.
struct MergeTraits {
  bool sum = false;           // adds to y what depends on x alone: sums may be merged in any order
  bool factor = false;        // scales columns of x or y: the same
  bool outermost = false;     // runs around the others: it changes the layer's input or output
  bool reads_weight = false;  // computes with the weight itself, so that nothing may be merged under it

  bool commutes(const MergeTraits& other) const { return (sum && other.sum) || (factor && other.factor); }
};

// Of weight and lookup deltas, all optional and false where absent.
template <class D>
MergeTraits merge_traits_of() {
  MergeTraits traits;
  if constexpr (requires { D::kIsSum; }) traits.sum = D::kIsSum;
  if constexpr (requires { D::kIsFactor; }) traits.factor = D::kIsFactor;
  if constexpr (requires { D::kReadsWeight; }) traits.reads_weight = D::kReadsWeight;
  return traits;
}

namespace detail {
struct IgnoreParameter {
  template <class P>
  void operator()(P&) const {}
};
}  // namespace detail

// A slot as an attachment sees it.
template <class X>
class AnySlot {
 public:
  AnySlot() = default;
  AnySlot(AnySlot&&) noexcept = default;
  AnySlot& operator=(AnySlot&&) noexcept = default;
  virtual ~AnySlot() = default;

  // Each throws Error when the slot holds no delta of that name.
  virtual void remove(const std::string& name) = 0;
  virtual void set_enabled(const std::string& name, bool enabled) = 0;
  virtual void visit_delta(const std::string& name, const ParameterVisitor<X>& f) = 0;
  // Whether the delta can run, and runs, on the rows alone that the batch sends through it.
  virtual bool routable(const std::string& name) = 0;
  virtual void set_routed(const std::string& name, bool routed) = 0;

  // Slots of weights and tables; the others have nothing to merge. A merged delta takes no part in passes: it is in w_io (and b_io, or empty).
  virtual bool can_merge(const std::string& /*name*/) { return false; }
  virtual void set_merged(const std::string& /*name*/, bool /*merged*/) {}
  virtual bool has_merged() const { return false; }
  virtual bool is_merged(const std::string& /*name*/) { return false; }
  // All that are merged, in the order in which they would run; and one, merged or not.
  virtual void merge_all(context_of<X>&, View<scalar_of<X>> /*w_io*/, View<scalar_of<X>> /*b_io*/) {}
  virtual void merge(const std::string& /*name*/, context_of<X>&, View<scalar_of<X>> /*w_io*/, View<scalar_of<X>> /*b_io*/) {}
  // Name of a delta for which outputs would change if this one became merged, or active, beside it; "": none.
  virtual std::string in_the_way(const std::string& /*name*/, bool /*merged*/) { return {}; }
  // Name of a merged delta that this merged one cannot go in front of; "": none.
  virtual std::string merged_before(const std::string& /*name*/) { return {}; }
};

// Erased: the delta's virtual interface, which has visit(f) at least.
template <class X, class Erased>
class Slot : public AnySlot<X> {
 public:
  bool empty() const { return entries_.empty(); }
  bool has(const std::string& name) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.name == name; });
  }
  bool is_routed(const std::string& name) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.name == name && entry.routed; });
  }

  void remove(const std::string& name) override {
    set_enabled(name, false);
    std::erase_if(entries_, [&](const Entry& entry) { return entry.name == name; });
  }
  void set_enabled(const std::string& name, bool enabled) override { at(name).enabled = enabled; }
  void visit_delta(const std::string& name, const ParameterVisitor<X>& f) override { at(name).delta->visit(f); }
  bool routable(const std::string& name) override {
    if constexpr (requires(Erased & delta) { delta.routable(); }) return at(name).delta->routable();
    return false;
  }
  void set_routed(const std::string& name, bool routed) override { at(name).routed = routed; }

  bool can_merge(const std::string& name) override {
    if constexpr (kMerges) return at(name).delta->can_merge();
    return false;
  }
  void set_merged(const std::string& name, bool merged) override { at(name).merged = merged; }
  bool is_merged(const std::string& name) override { return at(name).merged; }
  bool has_merged() const override {
    return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.merged; });
  }
  void merge_all([[maybe_unused]] context_of<X>& ctx, [[maybe_unused]] View<scalar_of<X>> w_io, [[maybe_unused]] View<scalar_of<X>> b_io) override {
    if constexpr (kMerges) {
      for (const bool outermost : {false, true})
        for (Entry& entry : entries_)
          if (entry.merged && entry.delta->merge_traits().outermost == outermost) entry.delta->merge(ctx, w_io, b_io);
    }
  }
  void merge([[maybe_unused]] const std::string& name, [[maybe_unused]] context_of<X>& ctx, [[maybe_unused]] View<scalar_of<X>> w_io,
             [[maybe_unused]] View<scalar_of<X>> b_io = {}) override {
    if constexpr (kMerges) at(name).delta->merge(ctx, w_io, b_io);
  }
  std::string in_the_way([[maybe_unused]] const std::string& name, [[maybe_unused]] bool merged) override {
    if constexpr (kMerges) {
      for (const Entry& other : entries_) {
        const Entry& entry = at(name);
        if (&other == &entry) continue;
        if (merged && other.enabled && changes_under(other, entry)) return other.name;
        if (merged && other.merged && (changes_above(other, entry) || changes_above(entry, other))) return other.name;
        if (!merged && other.merged && changes_under(entry, other)) return other.name;
      }
    }
    return {};
  }
  std::string merged_before([[maybe_unused]] const std::string& name) override {
    if constexpr (kMerges) {
      const Entry& entry = at(name);
      for (const Entry& other : entries_)
        if (&other != &entry && other.merged && runs_before(other, entry)) return other.name;
    }
    return {};
  }

  template <class F>
  void visit(const F& f) {
    if (entries_.empty()) return;
    const ParameterVisitor<X> erased(f);
    for (Entry& entry : entries_) entry.delta->visit(erased);
  }

 protected:
  struct Entry {
    std::string name;
    bool enabled;
    std::unique_ptr<Erased> delta;
    bool routed = false;
    bool merged = false;
  };

  // Takes a delta in under the name of its attachment; the reference stays valid until remove().
  template <class Holder, class D>
  auto& insert(std::string name, D delta) {
    if (has(name)) throw Error(name, "is already attached here", {.remedy = "detach it first or choose another name"});
    auto holder = std::make_unique<Holder>(std::move(delta));
    auto& reference = holder->delta;
    entries_.push_back({std::move(name), true, std::move(holder)});
    return reference;
  }
  Entry& at(const std::string& name) {
    for (Entry& entry : entries_)
      if (entry.name == name) return entry;
    throw Error(name, "is not attached here");
  }
  template <class P>
  bool any(const P& predicate) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.enabled && predicate(*entry.delta); });
  }

  std::vector<Entry> entries_;

 private:
  static constexpr bool kMerges = requires(const Erased& delta) { delta.merge_traits(); };

  // Whether a comes before b, and would do something else behind it.
  bool runs_before(const Entry& a, const Entry& b) const {
    const MergeTraits of_a = a.delta->merge_traits(), of_b = b.delta->merge_traits();
    if (of_a.commutes(of_b)) return false;
    return of_a.outermost == of_b.outermost ? &a < &b : of_b.outermost;
  }
  // Whether an active delta gives something else when another one is merged.
  bool changes_under(const Entry& active, const Entry& merged) const { return active.delta->merge_traits().reads_weight || runs_before(active, merged); }
  // Whether b gives something else where both are merged.
  bool changes_above(const Entry& a, const Entry& b) const { return b.delta->merge_traits().reads_weight && runs_before(a, b); }
};

}  // namespace deltatune
