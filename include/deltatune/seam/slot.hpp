// What the slots of all seams have in common: named deltas of any type in the order of their attachment, each of which can be switched off,
// visited and taken out alone. Empty, a slot costs one branch.
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
    if constexpr (requires(Erased& delta) { delta.routable(); }) return at(name).delta->routable();
    return false;
  }
  void set_routed(const std::string& name, bool routed) override { at(name).routed = routed; }

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
};

}  // namespace deltatune
