// Keys and values that attention layers have seen, for inference token by token, of many sequences at once.
//
// A cache has slots of the same number of rows. A sequence lives in one slot from its first row to its last, and its rows are never moved: a pass names the
// slots of its sequences, and one that has ended is named no more, until clear() leaves its slot to another. A text that begins like the one before may keep
// those rows: drop_last() forgets the others. A slot of a layer begins with the rows of the layer's prefixes.
//
// Of an encoder-decoder, cross-attention has a cache of its own, with slots of source texts: the first pass of a text fills one, later passes append nothing
// to it, and several beams may read the same.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/tensor/sequence.hpp"
#include "deltatune/tensor/tensor_trait.hpp"

namespace deltatune {

// Where the sequences of a pass lie in the caches of all layers with the same number of prefix rows.
template <class X>
class KvPlaces {
 public:
  using B = backend_of<X>;

  // slot_rows: those of prefixes included.
  KvPlaces(context_of<X>& ctx, Index slots, Index slot_rows, Index prefix)
      : offsets_(ctx, {slots}), lengths_(ctx, {slots}), slot_rows_(slot_rows), prefix_(prefix) {}

  // lengths (B): rows of each sequence, without those of prefixes. begins: whether the pass has its first ones.
  void set(context_of<X>& ctx, std::span<const Index> slots, const std::vector<Index>& lengths, bool begins) {
    std::vector<Index> offsets, all;
    for (const Index slot : slots) offsets.push_back(slot * slot_rows_);
    for (const Index length : lengths) all.push_back(prefix_ + length);
    const Index count = static_cast<Index>(slots.size()), bytes = static_cast<Index>(sizeof(Index)) * count;
    if (count > offsets_.size()) {  // several beams read one source
      offsets_ = Tensor<Index, B>(ctx, {count});
      lengths_ = Tensor<Index, B>(ctx, {count});
    }
    B::copy_in(ctx, offsets.data(), offsets_.view().data, bytes);
    B::copy_in(ctx, all.data(), lengths_.view().data, bytes);
    sequences_ = {.offsets = offsets_.view().data, .count = count, .lengths = lengths_.view().data};
    for (const Index length : all) {
      sequences_.rows += length;
      sequences_.max_length = std::max(sequences_.max_length, length);
    }
    begins_ = begins;
  }
  const Sequences& sequences() const { return sequences_; }
  bool begins() const { return begins_; }
  Index prefix() const { return prefix_; }
  Index slot_rows() const { return slot_rows_; }

 private:
  Tensor<Index, B> offsets_, lengths_;  // of which a pass uses the first B
  Sequences sequences_;
  Index slot_rows_, prefix_;
  bool begins_ = true;
};

// Of one layer.
template <class X>
class KvCache {
 public:
  // columns: keys and values, 2Ckv.
  KvCache(context_of<X>& ctx, Index rows, Index columns, std::shared_ptr<const KvPlaces<X>> places) : rows_(ctx, {rows, columns}), places_(std::move(places)) {}

  // [key | value] of all slots.
  View<scalar_of<X>> rows() { return rows_.view(); }
  // Whether the pass has the first rows of its sequences.
  bool begins() const { return places_->begins(); }
  // The rows of the pass's sequences, the new ones last. Throws Error where the layer has another number of prefix rows by now.
  const Sequences& sequences(Index prefix) const {
    if (prefix != places_->prefix())
      throw Error("key-value cache", "was made for other deltas",
                  {.expected = std::to_string(places_->prefix()) + " prefix rows", .got = std::to_string(prefix), .remedy = "make a new cache"});
    return places_->sequences();
  }
  // Gives a slot the first rows of another, so many besides those of prefixes.
  void copy_slot(context_of<X>& ctx, Index from, Index to, Index count) {
    const Index slot_rows = places_->slot_rows(), copied = places_->prefix() + count;
    ops::copy<backend_of<X>, scalar_of<X>>(ctx, rows_.view().row_range(from * slot_rows, copied), rows_.view().row_range(to * slot_rows, copied));
  }

 private:
  X rows_;
  std::shared_ptr<const KvPlaces<X>> places_;
};

// Of all layers of a stack.
template <class X>
class KvCaches {
 public:
  // rows: of a sequence at most, besides those of prefixes.
  KvCaches(Index slots, Index rows) : capacity_(rows), used_(static_cast<std::size_t>(slots), 0) {}

  // columns: keys and values, 2Ckv. prefix: rows of the layer's prefixes.
  void add_layer(context_of<X>& ctx, Index columns, Index prefix) {
    const Index slots = static_cast<Index>(used_.size()), slot_rows = capacity_ + prefix;
    auto places = std::find_if(places_.begin(), places_.end(), [&](const auto& known) { return known->prefix() == prefix; });
    if (places == places_.end()) places = places_.insert(places_.end(), std::make_shared<KvPlaces<X>>(ctx, slots, slot_rows, prefix));
    layers_.emplace_back(ctx, slots * slot_rows, columns, *places);
  }

  std::vector<KvCache<X>>& layers() { return layers_; }
  // Of the sequence in a slot, without those of prefixes.
  Index rows(Index slot) const { return used_.at(static_cast<std::size_t>(slot)); }
  void clear(Index slot) { used_.at(static_cast<std::size_t>(slot)) = 0; }
  // Forgets the last rows of a slot.
  void drop_last(Index slot, Index count) { used_.at(static_cast<std::size_t>(slot)) -= count; }
  // Another slot goes on as this one does: beams that fork.
  void copy_slot(context_of<X>& ctx, Index from, Index to) {
    used_.at(static_cast<std::size_t>(to)) = rows(from);
    for (KvCache<X>& layer : layers_) layer.copy_slot(ctx, from, to, rows(from));
  }
  // Whether the pass has the first rows of its sequences.
  bool begins() const { return begins_; }

  // The next pass is for the sequences in these slots, with so many rows of each. Throws Error where they have no room, and where some begin and some go on.
  void append(context_of<X>& ctx, std::span<const Index> slots, std::span<const Index> counts) {
    std::vector<Index> lengths;
    for (std::size_t b = 0; b < slots.size(); ++b) {
      const Index before = rows(slots[b]);
      if ((before == 0) != (rows(slots[0]) == 0)) throw Error("key-value cache", "was given sequences of which some begin and some go on");
      lengths.push_back(before + counts[b]);
      if (lengths[b] > capacity_)
        throw Error("key-value cache", "is full",
                    {.expected = "at most " + std::to_string(capacity_) + " rows per sequence", .got = std::to_string(lengths[b])});
    }
    begins_ = rows(slots[0]) == 0;
    for (std::size_t b = 0; b < slots.size(); ++b) used_[static_cast<std::size_t>(slots[b])] = lengths[b];
    for (const auto& places : places_) places->set(ctx, slots, lengths, begins_);
  }

 private:
  Index capacity_;
  std::vector<Index> used_;  // per slot
  bool begins_ = true;
  std::vector<KvCache<X>> layers_;
  std::vector<std::shared_ptr<KvPlaces<X>>> places_;
};

}  // namespace deltatune
