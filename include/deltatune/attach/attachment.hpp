// The handle on the deltas of one method in a model, whatever seams they plug into: enable, train or not, merge, detach.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/nn/linear.hpp"
#include "deltatune/seam/input.hpp"
#include "deltatune/seam/kv.hpp"
#include "deltatune/seam/lookup.hpp"
#include "deltatune/seam/parameter.hpp"
#include "deltatune/seam/sublayer.hpp"

namespace deltatune {

// The deltas live in the model's slots; the handle is valid as long as the model lives, stays where it is, and has them.
template <class X>
class Attachment {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  explicit Attachment(std::string name) : name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  // Paths of the places that have a delta, in the order of attachment.
  const std::vector<std::string>& paths() const { return paths_; }
  bool merged() const { return merged_; }
  // Of a selection there are none.
  bool has_deltas() const { return !slots_.empty(); }

  // For attach(): puts a delta into the slot of a site and takes note of it.
  template <class D>
  D& add(LinearSite<X>& site, D delta) {
    D& placed = note(site.path, site.deltas, std::move(delta));
    merges_.push_back({&site.weight, [&site](const std::string& name) { return site.deltas.can_merge(name); },
                       [&site](const std::string& name, Context& ctx) { site.deltas.merge(name, ctx, site.weight.value(), site.bias.value()); }});
    merges_.push_back({&site.bias, {}, {}});
    return placed;
  }
  template <class D>
  D& add(LookupSite<X>& site, D delta) {
    D& placed = note(site.path, site.deltas, std::move(delta));
    merges_.push_back({&site.table, [&site](const std::string& name) { return site.deltas.can_merge(name); },
                       [&site](const std::string& name, Context& ctx) { site.deltas.merge(name, ctx, site.table.value()); }});
    return placed;
  }
  template <class D>
  D& add(SublayerSite<X>& site, D delta) {
    refuse_merge("adds a layer of its own");
    sublayers_.push_back({site.layer, &site.deltas, site.path});
    return note(site.path, site.deltas, std::move(delta));
  }
  template <class D>
  D& add(KvSite<X>& site, D delta) {
    refuse_merge("adds keys and values of its own");
    return note(site.path, site.deltas, std::move(delta));
  }
  template <class D>
  D& add(InputSite<X>& site, D delta) {
    refuse_merge("adds rows of its own");
    return note(site.path, site.deltas, std::move(delta));
  }
  // What the method computes or shares once a pass.
  template <class D>
  D& add(ParameterSlot<X>& slot, D delta) {
    D& placed = note("", slot, std::move(delta));
    parameter_slot_ = &slot;
    return placed;
  }

  // For attach(): the method cannot be merged into the model's weights; why: goes on after "it".
  void refuse_merge(const char* why) { no_merge_ = why; }

  // For attach(): the method changes a table that another layer reads, too. part(ctx): before merge() changes it; join(ctx): after unmerge().
  void set_shared_table(std::function<void(Context&)> part, std::function<void(Context&)> join) {
    part_ = std::move(part);
    join_ = std::move(join);
  }

  // f(Parameter<X>&) for each parameter of the deltas.
  template <class F>
  void visit(const F& f) {
    for (AnySlot<X>* const slot : slots_) slot->visit_delta(name_, [&f](Parameter<X>& parameter) { f(parameter); });
  }

  // Brings what the deltas compute and save up to date with what it is computed from.
  void evaluate(Context& ctx) {
    if (parameter_slot_ != nullptr) parameter_slot_->evaluate(name_, ctx);
  }

  void set_enabled(bool enabled) {
    for (AnySlot<X>* const slot : slots_) slot->set_enabled(name_, enabled);
  }
  // Whether the deltas apply to those sequences alone whose batch names them (PackedBatch::adapters), so that one batch may go through many
  // adapters, in training and in use. An output layer that trains beside them is the model's, and shared. Throws Error where that cannot be.
  void set_routed(bool routed) {
    if (routed && merged_) throw Error(name_, "is merged: all rows go through it", {.remedy = "unmerge() it first"});
    if (routed && slots_.empty()) throw Error(name_, "has no deltas to route");
    for (AnySlot<X>* const slot : slots_)
      if (routed && !slot->routable(name_))
        throw Error(name_, "cannot be routed: what it does is not a sum that rows take part in one by one", {.remedy = "route LoRA"});
    for (AnySlot<X>* const slot : slots_) slot->set_routed(name_, routed);
    routed_ = routed;
  }
  // Whether the deltas' own parameters train; to train several methods one after the other.
  void set_trainable(bool trainable) {
    visit([&](Parameter<X>& parameter) { parameter.set_mask(trainable ? FreezeMask::trainable() : FreezeMask::frozen()); });
  }

  // Writes the deltas into the base weights and keeps the replaced bits; the deltas rest until unmerge(). Throws Error when the method cannot be
  // merged, and when a merged weight is not finite; the base is then as it was.
  void merge(Context& ctx) {
    if (merged_) throw Error(name_, "is merged already");
    if (routed_) throw Error(name_, "is routed, and merged all rows would go through it", {.remedy = "call set_routed(false) first"});
    const std::string remedy = "keep it as an adapter";
    const bool computes = parameter_slot_ != nullptr && parameter_slot_->can_merge(name_);
    if (!no_merge_.empty()) throw Error(name_, "cannot be merged into the model's weights: it " + no_merge_, {.remedy = remedy});
    for (const MergeTarget& target : merges_)
      if (target.can_merge && !target.can_merge(name_))
        throw Error(name_, "cannot be merged into the model's weights: what it does depends on its input", {.remedy = remedy});
    if (computes)
      visit([&](Parameter<X>& parameter) {
        if (!finite(ctx, parameter.value())) throw Error(parameter.path(), "is not finite", {.expected = "numbers that can be merged"});
      });
    if (merges_.empty() && !computes) throw Error(name_, "has nothing to merge");
    if (part_) part_(ctx);
    for (const MergeTarget& target : merges_) {
      const View<T> value = target.parameter->value();
      X kept;
      if (value) {
        kept = X(ctx, target.parameter->shape());
        ops::copy<B, T>(ctx, value, kept.view());
      }
      kept_.push_back(std::move(kept));
    }
    for (const MergeTarget& target : merges_)
      if (target.merge) target.merge(name_, ctx);
    if (computes) parameter_slot_->merge(name_, ctx);
    merged_ = true;
    for (const MergeTarget& target : merges_)
      if (target.parameter->value() && !finite(ctx, target.parameter->value())) {
        unmerge(ctx);
        throw Error(target.parameter->path(), "would not be finite after the merge", {.remedy = "the adapter holds NaN or infinite values"});
      }
    for (AnySlot<X>* const slot : slots_)
      if (!computes || slot != parameter_slot_) slot->set_enabled(name_, false);
  }

  // The base weights get back the bits they had before merge().
  void unmerge(Context& ctx) {
    for (std::size_t i = 0; i < kept_.size(); ++i)
      if (kept_[i]) ops::copy<B, T>(ctx, kept_[i].view(), merges_[i].parameter->value());
    kept_.clear();
    merged_ = false;
    if (join_) join_(ctx);
    if (parameter_slot_ != nullptr) parameter_slot_->unmerge(name_);
    set_enabled(true);
  }

  // Takes the deltas out that stand after the sublayers of the first `count` layers. AdapterDrop: Rücklé et al. 2021, arXiv 2010.11918.
  void drop_first_layers(Index count) {
    for (const Place& place : sublayers_) {
      if (place.layer >= count) continue;
      place.slot->remove(name_);
      std::erase(slots_, place.slot);
      std::erase(paths_, place.path);
    }
    std::erase_if(sublayers_, [&](const Place& place) { return place.layer < count; });
  }

  // Takes the deltas out of the model. Weights stay as they are: merged ones stay merged.
  void detach() {
    for (AnySlot<X>* const slot : slots_) slot->remove(name_);
    slots_.clear();
    sublayers_.clear();
    paths_.clear();
    merges_.clear();
    kept_.clear();
  }

 private:
  struct Place {
    Index layer;
    AnySlot<X>* slot;
    std::string path;
  };
  struct MergeTarget {
    Parameter<X>* parameter;
    std::function<bool(const std::string&)> can_merge;  // empty: another entry speaks for it
    std::function<void(const std::string&, Context&)> merge;
  };

  template <class S, class D>
  D& note(const std::string& path, S& slot, D delta) {
    D& placed = slot.add(name_, std::move(delta));
    slots_.push_back(&slot);
    if (!path.empty()) paths_.push_back(path);
    return placed;
  }

  static bool finite(Context& ctx, View<const T> values) {
    using math::isfinite;
    std::vector<T> row(static_cast<std::size_t>(values.cols));
    for (Index i = 0; i < values.rows; ++i) {
      B::copy_out(ctx, values.row(i), row.data(), values.cols * static_cast<Index>(sizeof(T)));
      B::synchronize(ctx);
      for (const T& x : row)
        if (!isfinite(x)) return false;
    }
    return true;
  }

  std::string name_;
  std::vector<std::string> paths_;
  std::vector<AnySlot<X>*> slots_;
  std::vector<Place> sublayers_;
  std::vector<MergeTarget> merges_;
  std::vector<X> kept_;  // one an entry of merges_ while merged
  std::string no_merge_;
  std::function<void(Context&)> part_, join_;
  ParameterSlot<X>* parameter_slot_ = nullptr;
  bool merged_ = false;
  bool routed_ = false;
};

// f() works on what is attached; where it throws, that is taken out of the model again.
template <class X, class F>
void or_detach(Attachment<X>& attachment, const F& f) {
  try {
    f();
  } catch (...) {
    attachment.detach();
    throw;
  }
}

}  // namespace deltatune
