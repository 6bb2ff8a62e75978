// The handle on the deltas of one method in a model, whatever seams they plug into: enable, train or not, merge, detach.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/merge_site.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/nn/linear.hpp"
#include "deltatune/seam/input.hpp"
#include "deltatune/seam/kv.hpp"
#include "deltatune/seam/lookup.hpp"
#include "deltatune/seam/parameter.hpp"
#include "deltatune/seam/sublayer.hpp"

namespace deltatune {

// The deltas live in the model's slots; the handle is valid as long as the model lives and stays where it is. Its states, and what each
// call does in them:
//
//   state      the deltas                                        set_enabled   set_routed   merge     unmerge   detach
//   active     apply to all rows                                 yes           -> routed    -> merged  Error    -> detached
//   routed     apply to the sequences that name them             yes           -> active    Error      Error    -> detached
//   merged     are in the base weights, which apply to all rows  Error         Error        Error      -> back  -> detached
//   detached   are gone                                          Error         Error        Error      Error    nothing
//
// Active and routed deltas are switched off and on with set_enabled(); merge() applies what is switched off, too. A call that throws Error
// changes nothing.
//
// Switched off or merged, deltas cost no product, no gradient and no activation: outputs and products are those of a model without them, and
// what other deltas compute has the same bits. Their parameters keep their memory and their masks, and rest until they take part again.
//
// merge() keeps the bits that it replaces, once for each weight, however many attachments are merged into it. unmerge() goes back to the
// state before merge(), and to the bits that the weights had, whatever else was merged or unmerged in between: where several are merged, the
// weights depend on which, not on the order of the calls.
//
// Deltas of one site run in the order of attachment. merge(), unmerge() and set_enabled(true) throw Error where they would change what is
// computed: LoRA cannot stay active under (IA)3 that is merged, and nothing can be merged beside an active DoRA, which reads the weight.
// in_the_way() names the other attachment.
//
// detach() is final. What is merged stays merged, and the kept bits are dropped: merge() and detach() turn an adapted model into a plain
// one. Otherwise nothing is left behind: bits, memory and products are those of a model that never had the deltas. Parameters of the model
// itself that trained for this attachment alone (heads, biases) keep the values they have learned, and train or not as they did before it.
template <class X>
class Attachment {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  explicit Attachment(std::string name) : name_(std::move(name)) {}
  // Two handles would not know of each other's calls.
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;
  Attachment(Attachment&&) noexcept = default;
  Attachment& operator=(Attachment&&) noexcept = default;

  const std::string& name() const { return name_; }
  // Paths of the places that have a delta, in the order of attachment.
  const std::vector<std::string>& paths() const { return paths_; }
  bool enabled() const { return enabled_; }
  bool routed() const { return routed_; }
  // Whether the base weights hold the deltas; after detach() for good.
  bool merged() const { return merged_; }
  bool detached() const { return detached_; }
  // Of a selection there are none.
  bool has_deltas() const { return !slots_.empty(); }

  // For attach(): puts a delta into the slot of a site. Throws Error where the delta does not go with what is merged there.
  template <class D>
  D& add(LinearSite<X>& site, D delta) {
    return note_merge(site.path, site.deltas, std::move(delta), site.weight, &site.bias);
  }
  template <class D>
  D& add(LookupSite<X>& site, D delta) {
    return note_merge<D>(site.path, site.deltas, std::move(delta), site.table, nullptr);
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
    D& placed = note(site.path, site.deltas, std::move(delta));
    site.check_takes_rows();
    return placed;
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
    slot.visit_replaced(name_, [this](Parameter<X>& parameter) {
      parameter.set_replaced(true);
      replaced_.push_back(&parameter);
    });
    return placed;
  }

  // For attach(): the method cannot be merged into the model's weights; reason: completes "cannot be merged: it ...".
  void refuse_merge(const char* reason) { no_merge_ = reason; }
  // For attach(): a parameter of the model trains as long as this is attached.
  void train_beside(Parameter<X>& parameter) { claims_.emplace_back(&parameter, parameter.claim()); }
  // For attach(): arrange(ctx) brings the model's layers in line with what takes part, now and after every change.
  void set_arrange(Context& ctx, std::function<void(Context&)> arrange) {
    ctx_ = &ctx;
    arrange_ = std::move(arrange);
    arrange_(ctx);
  }

  // For attach(): the method changes a table that another layer reads, too. part(ctx): before merge() changes it; join(ctx): after unmerge().
  void set_shared_table(std::function<void(Context&)> part, std::function<void(Context&)> join) {
    part_ = std::move(part);
    join_ = std::move(join);
  }

  // f(Parameter<X>&) for each parameter of the deltas.
  template <class F>
  void visit(const F& f) {
    check_attached();
    visit_deltas(f);
  }

  // Brings what the deltas compute and save up to date with what it is computed from.
  void evaluate(Context& ctx) {
    check_attached();
    if (parameter_slot_ != nullptr) parameter_slot_->evaluate(name_, ctx);
  }

  // Switches the deltas off, or on again.
  void set_enabled(bool enabled) {
    check_attached();
    if (slots_.empty()) throw Error(name_, "has no deltas to switch on or off", {.remedy = "it trains parameters of the model itself"});
    if (merged_) throw Error(name_, "is merged and cannot be switched on or off", {.remedy = "unmerge() it first"});
    if (enabled && !enabled_) check_order(false);
    enabled_ = enabled;
    update();
  }
  // Whether the deltas apply to those sequences alone whose batch names them (PackedBatch::adapters), so that one batch may go through many
  // adapters, in training and in use. An output layer that trains beside them is the model's, and shared. Throws Error where that cannot be.
  void set_routed(bool routed) {
    check_attached();
    if (merged_) throw Error(name_, "is merged: all rows go through it", {.remedy = "unmerge() it first"});
    if (routed && slots_.empty()) throw Error(name_, "has no deltas to route");
    for (Slot<X>* const slot : slots_)
      if (routed && !slot->routable(name_))
        throw Error(name_, "cannot be routed per sequence: one row's output depends on other rows", {.remedy = "route LoRA"});
    for (Slot<X>* const slot : slots_) slot->set_routed(name_, routed);
    routed_ = routed;
    update();
  }
  // Whether the deltas' own parameters train; to train several methods one after the other.
  void set_trainable(bool trainable) {
    visit([&](Parameter<X>& parameter) { parameter.set_mask(trainable ? FreezeMask::trainable() : FreezeMask::frozen()); });
  }

  // Name of an attachment that has to be merged before this one can be, or unmerged before it; "": none.
  std::string in_the_way() {
    std::string other;
    for (detail::MergeSite<X>& site : sites_)
      if (other.empty()) other = site.slot().in_the_way(name_, !merged_);
    return other;
  }

  // Writes the deltas into the base weights and keeps the replaced bits. Throws Error when the method cannot be merged, when another attachment is
  // in the way, and when a merged weight is not finite.
  void merge(Context& ctx) {
    check_attached();
    const std::string remedy = "keep it as an adapter";
    if (merged_) throw Error(name_, "is merged already");
    if (routed_) throw Error(name_, "is routed, and merged all rows would go through it", {.remedy = "call set_routed(false) first"});
    if (!no_merge_.empty()) throw Error(name_, "cannot be merged into the model's weights: it " + no_merge_, {.remedy = remedy});
    const bool computes = parameter_slot_ != nullptr && parameter_slot_->can_merge(name_);
    if (sites_.empty() && !computes) throw Error(name_, "has nothing to merge");
    for (detail::MergeSite<X>& site : sites_) {
      Parameter<X>& weight = site.weight();
      if (!site.slot().can_merge(name_)) throw Error(name_, "cannot be merged into the model's weights: what it does depends on its input", {.remedy = remedy});
      static_cast<void>(weight.value());  // throws where it is rounded
      if (weight.replaced() && std::find(replaced_.begin(), replaced_.end(), &weight) == replaced_.end())
        throw Error(weight.path(), "has values that another delta puts there in every pass", {.remedy = "merge and detach that one first"});
    }
    check_order(true);
    if (computes)
      visit([&](Parameter<X>& parameter) {
        if (!detail::digest_of<X>(ctx, parameter.value()).finite) throw Error(parameter.path(), "is not finite", {.expected = "numbers that can be merged"});
      });
    check_untouched(ctx);
    ctx_ = &ctx;
    if (part_) part_(ctx);
    try {
      if (computes) parameter_slot_->keep_computed(name_, ctx);
      for (detail::MergeSite<X>& site : sites_) site.set_merged(name_, true, ctx);
      for (const Parameter<X>* const parameter : replaced_)
        if (!detail::digest_of<X>(ctx, parameter->value()).finite) throw Error(parameter->path(), "would not be finite after the merge");
    } catch (...) {
      take_out(ctx);
      if (join_) join_(ctx);
      update();
      throw;
    }
    merged_ = true;
    update();
  }

  // Back to the state before merge(), with the bits that the base weights had. Throws Error when they have changed since.
  void unmerge(Context& ctx) {
    check_attached();
    if (!merged_) throw Error(name_, "is not merged");
    if (enabled_) check_order(false);
    check_untouched(ctx);
    take_out(ctx);
    merged_ = false;
    if (join_) join_(ctx);
    update();
  }

  // Takes the deltas out that stand after the sublayers of the first `count` layers. AdapterDrop: Rücklé et al. 2021, arXiv 2010.11918.
  void drop_first_layers(Index count) {
    check_attached();
    for (const Place& place : sublayers_) {
      if (place.layer >= count) continue;
      place.slot->remove(name_);
      std::erase(slots_, place.slot);
      std::erase(paths_, place.path);
    }
    std::erase_if(sublayers_, [&](const Place& place) { return place.layer < count; });
  }

  // Takes the deltas out of the model. Throws Error for what is merged above another merged delta that it cannot go under.
  void detach() {
    if (detached_) return;
    if (merged_) {
      for (detail::MergeSite<X>& site : sites_)
        if (const std::string other = site.slot().merged_before(name_); !other.empty())
          throw Error(name_, "is merged above \"" + other + "\" and cannot become part of the base before it",
                      {.remedy = "detach or unmerge \"" + other + "\" first"});
      check_untouched(*ctx_);
      for (detail::MergeSite<X>& site : sites_) site.settle(name_, *ctx_);
    }
    for (Parameter<X>* const parameter : replaced_) {
      parameter->set_resting(false);
      parameter->set_replaced(false);
    }
    for (Slot<X>* const slot : slots_) slot->remove(name_);
    slots_.clear();
    sublayers_.clear();
    paths_.clear();
    sites_.clear();
    replaced_.clear();
    parameter_slot_ = nullptr;
    for (auto& [parameter, claim] : claims_) parameter->release(std::move(claim));
    claims_.clear();
    detached_ = true;
    if (arrange_) arrange_(*ctx_);
  }

 private:
  struct Place {
    Index layer;
    Slot<X>* slot;
    std::string path;
  };
  template <class S, class D>
  D& note(const std::string& path, S& slot, D delta) {
    D& placed = slot.add(name_, std::move(delta));
    slots_.push_back(&slot);
    if (!path.empty()) paths_.push_back(path);
    return placed;
  }

  template <class D, class S>
  D& note_merge(const std::string& path, S& slot, D delta, Parameter<X>& weight, Parameter<X>* bias) {
    D& placed = note(path, slot, std::move(delta));
    sites_.emplace_back(slot, weight, bias);
    if (const std::string other = slot.in_the_way(name_, false); !other.empty())
      throw Error(name_, "cannot be attached to " + path + " while \"" + other + "\" is merged there", {.remedy = "detach or unmerge \"" + other + "\" first"});
    return placed;
  }

  template <class F>
  void visit_deltas(const F& f) {
    for (Slot<X>* const slot : slots_) slot->visit_delta(name_, [&f](Parameter<X>& parameter) { f(parameter); });
  }

  void check_attached() const {
    if (detached_) throw Error(name_, "is detached from its model", {.remedy = "attach it anew"});
  }
  // Throws Error if outputs would change when the deltas became merged, or active.
  void check_order(bool merging) {
    for (detail::MergeSite<X>& site : sites_) {
      const std::string other = site.slot().in_the_way(name_, merging);
      if (other.empty()) continue;
      const bool merged = site.slot().is_merged(other);
      throw Error(name_,
                  std::string(merging ? "cannot be merged" : "cannot run") + " beside \"" + other + "\", which is " + (merged ? "merged" : "not merged") +
                      ": outputs would change",
                  {.remedy = (merged ? "detach or unmerge \"" : "merge or switch off \"") + other + "\" first"});
    }
  }
  void check_untouched(Context& ctx) {
    for (detail::MergeSite<X>& site : sites_) site.check_untouched(ctx);
  }
  // The base weights without these deltas.
  void take_out(Context& ctx) {
    for (detail::MergeSite<X>& site : sites_) site.set_merged(name_, false, ctx);
    if (parameter_slot_ != nullptr) parameter_slot_->drop_computed(name_);
  }
  // Slots, parameters and layers follow the state.
  void update() {
    const bool active = enabled_ && !merged_;
    for (Slot<X>* const slot : slots_) slot->set_enabled(name_, active);
    visit_deltas([&](Parameter<X>& parameter) { parameter.set_resting(!active); });
    for (Parameter<X>* const parameter : replaced_)
      if (parameter->derived()) parameter->set_resting(!active);
    if (arrange_) arrange_(*ctx_);
  }

  std::string name_;
  std::vector<std::string> paths_;
  std::vector<Slot<X>*> slots_;
  std::vector<Place> sublayers_;
  std::vector<detail::MergeSite<X>> sites_;
  std::vector<Parameter<X>*> replaced_;  // of the model: values that a delta puts there
  std::vector<std::pair<Parameter<X>*, typename Parameter<X>::Claim>> claims_;
  std::string no_merge_;
  std::function<void(Context&)> part_, join_;
  ParameterSlot<X>* parameter_slot_ = nullptr;
  Context* ctx_ = nullptr;
  std::function<void(Context&)> arrange_;  // or empty
  bool enabled_ = true;
  bool routed_ = false;
  bool merged_ = false;
  bool detached_ = false;
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
