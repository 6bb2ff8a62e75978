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

// What a slot asks of a delta, whatever its seam; the seam's own interface comes on top.
template <class X>
struct ErasedDelta {
  virtual ~ErasedDelta() = default;
  virtual void visit(const ParameterVisitor<X>& f) = 0;
  virtual bool needs_input() const = 0;
  virtual bool mixes_rows() const = 0;
  virtual MergeTraits merge_traits() const = 0;
  // Each of some seams only.
  virtual bool routable() const { return false; }
  virtual bool can_merge() const { return false; }
  virtual void merge(context_of<X>&, View<scalar_of<X>> /*w_io*/, View<scalar_of<X>> /*b_io*/) const {}
  virtual void rest() {}  // from now on it takes no part
};

// A delta behind its seam's interface.
template <class X, class D, class Interface>
struct DeltaHolder : Interface {
  explicit DeltaHolder(D d) : delta(std::move(d)) {}
  void visit(const ParameterVisitor<X>& f) override { delta.visit(f); }
  bool needs_input() const override {
    if constexpr (requires { delta.needs_input(); }) return delta.needs_input();
    return false;
  }
  bool mixes_rows() const override {
    if constexpr (RowMixingDelta<D>) return delta.mixes_rows();
    return false;
  }
  MergeTraits merge_traits() const override { return merge_traits_of<D>(); }

  D delta;
};

}  // namespace detail

// A slot as an attachment sees it. What takes a name throws Error where the slot holds no delta of that name.
template <class X>
class Slot {
 public:
  bool empty() const { return entries_.empty(); }
  bool has(const std::string& name) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.name == name; });
  }
  bool is_routed(const std::string& name) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.name == name && entry.routed; });
  }

  void remove(const std::string& name) {
    set_enabled(name, false);
    std::erase_if(entries_, [&](const Entry& entry) { return entry.name == name; });
  }
  void set_enabled(const std::string& name, bool enabled) {
    Entry& entry = at(name);
    if (entry.enabled && !enabled) entry.delta->rest();
    entry.enabled = enabled;
  }
  void visit_delta(const std::string& name, const ParameterVisitor<X>& f) { at(name).delta->visit(f); }
  // Whether the delta can run, and runs, on the rows alone that the batch sends through it.
  bool routable(const std::string& name) { return has_routes_ && at(name).delta->routable(); }
  void set_routed(const std::string& name, bool routed) { at(name).routed = routed; }
  // For a layer whose rows are not those of the batch.
  void forbid_routes() { has_routes_ = false; }

  // Deltas of weights, tables and parameters; the others have nothing to merge. A merged delta takes no part in passes: it is in w_io (and b_io, or empty).
  bool can_merge(const std::string& name) { return at(name).delta->can_merge(); }
  void set_merged(const std::string& name, bool merged) { at(name).merged = merged; }
  bool is_merged(const std::string& name) { return at(name).merged; }
  bool has_merged() const {
    return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.merged; });
  }
  // All that are merged, in the order in which they would run; and one, merged or not.
  void merge_all(context_of<X>& ctx, View<scalar_of<X>> w_io, View<scalar_of<X>> b_io) {
    for (const bool outermost : {false, true})
      for (Entry& entry : entries_)
        if (entry.merged && entry.delta->merge_traits().outermost == outermost) entry.delta->merge(ctx, w_io, b_io);
  }
  void merge(const std::string& name, context_of<X>& ctx, View<scalar_of<X>> w_io, View<scalar_of<X>> b_io) { at(name).delta->merge(ctx, w_io, b_io); }
  // Name of a delta for which outputs would change if this one became merged, or active, beside it; "": none.
  std::string in_the_way(const std::string& name, bool merged) {
    const Entry& entry = at(name);
    for (const Entry& other : entries_) {
      if (&other == &entry) continue;
      if (merged && other.enabled && changes_under(other, entry)) return other.name;
      if (merged && other.merged && (changes_above(other, entry) || changes_above(entry, other))) return other.name;
      if (!merged && other.merged && changes_under(entry, other)) return other.name;
    }
    return {};
  }
  // Name of a merged delta that this merged one cannot go in front of; "": none.
  std::string merged_before(const std::string& name) {
    const Entry& entry = at(name);
    for (const Entry& other : entries_)
      if (&other != &entry && other.merged && runs_before(other, entry)) return other.name;
    return {};
  }

  // Whether backward of one of them reads the layer's input; whether one of them mixes rows.
  bool needs_input() const {
    return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.enabled && entry.delta->needs_input(); });
  }
  bool mixes_rows() const {
    return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.enabled && entry.delta->mixes_rows(); });
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
    std::unique_ptr<detail::ErasedDelta<X>> delta;
    bool routed = false;
    bool merged = false;
  };

  // Takes a delta in under the name of its attachment; the reference stays valid until remove().
  template <class Holder, class D>
  D& insert(std::string name, D delta) {
    if (has(name)) throw Error(name, "is already attached here", {.remedy = "detach it first or choose another name"});
    auto holder = std::make_unique<Holder>(std::move(delta));
    D& reference = holder->delta;
    entries_.push_back({std::move(name), true, std::move(holder)});
    return reference;
  }
  Entry& at(const std::string& name) {
    for (Entry& entry : entries_)
      if (entry.name == name) return entry;
    throw Error(name, "is not attached here");
  }

  std::vector<Entry> entries_;

 private:
  // Whether a comes before b, and would do something else behind it.
  static bool runs_before(const Entry& a, const Entry& b) {
    const MergeTraits of_a = a.delta->merge_traits(), of_b = b.delta->merge_traits();
    if (of_a.commutes(of_b)) return false;
    return of_a.outermost == of_b.outermost ? &a < &b : of_b.outermost;
  }
  // Whether an active delta gives something else when another one is merged.
  static bool changes_under(const Entry& active, const Entry& merged) { return active.delta->merge_traits().reads_weight || runs_before(active, merged); }
  // Whether b gives something else where both are merged.
  static bool changes_above(const Entry& a, const Entry& b) { return b.delta->merge_traits().reads_weight && runs_before(a, b); }

  bool has_routes_ = true;
};

// The slot of one seam. Interface: what its layer calls, an ErasedDelta<X>.
template <class X, class Interface>
class SeamSlot : public Slot<X> {
 public:
  using T = scalar_of<X>;
  using Saved = SlotSaved;

 protected:
  Interface& delta_at(std::size_t i) const { return static_cast<Interface&>(*this->entries_[i].delta); }

  // f(i, delta) for those that take part.
  template <class F>
  void visit_enabled(const F& f) const {
    for (std::size_t i = 0; i < this->entries_.size(); ++i)
      if (this->entries_[i].enabled) f(i, delta_at(i));
  }
  template <class F>
  void visit_reversed(const F& f) const {
    for (std::size_t i = this->entries_.size(); i-- > 0;)
      if (this->entries_[i].enabled) f(i, delta_at(i));
  }
  template <class P>
  bool any(const P& predicate) const {
    bool found = false;
    visit_enabled([&](std::size_t, Interface& delta) { found = found || predicate(delta); });
    return found;
  }
};

}  // namespace deltatune
