// A batch of sequences: rows of all of them one after another, no padding. First on the host, then where the model reads it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/ops/embedding.hpp"
#include "deltatune/tensor/sequence.hpp"
#include "deltatune/tensor/tensor_trait.hpp"

namespace deltatune {

// On the host. Labels are one a sequence: a class, or a number for a model with a single output; either may be absent.
struct PackedBatch {
  std::vector<std::int32_t> ids;        // (N) tokens
  std::vector<std::int32_t> positions;  // (N) place in the sequence as the model counts it
  std::vector<std::int32_t> types;      // (N) token type (segment)
  std::vector<Index> offsets{0};        // (B + 1)
  std::vector<std::int32_t> labels;     // (B) or empty
  std::vector<float> targets;           // (B) or empty

  Index rows() const { return static_cast<Index>(ids.size()); }
  Index count() const { return static_cast<Index>(offsets.size()) - 1; }

  // Adds one sequence; its positions count from 0 and all its tokens have type 0.
  void add(std::span<const std::int32_t> tokens) {
    if (tokens.empty()) throw Error("batch", "a sequence without tokens", {.remedy = "a tokenizer adds at least its special tokens"});
    ids.insert(ids.end(), tokens.begin(), tokens.end());
    for (std::size_t t = 0; t < tokens.size(); ++t) positions.push_back(static_cast<std::int32_t>(t));
    types.resize(ids.size(), 0);
    offsets.push_back(rows());
  }
};

// Where the model reads it. Buffers grow to the largest batch seen (or planned for) and are used again.
template <class X>
class DeviceBatch {
 public:
  using B = backend_of<X>;
  using Context = context_of<X>;

  explicit DeviceBatch(Context& ctx) : ctx_(&ctx) {}

  // grouped: also groups the rows by token, position and type, which the gradients of embeddings need.
  void upload(const PackedBatch& batch, bool grouped) {
    const Index rows = batch.rows();
    std::vector<std::int32_t>& row_sequence = host_row_sequence_;
    row_sequence.resize(batch.ids.size());
    Index longest = 0;
    for (Index b = 0; b < batch.count(); ++b) {
      const Index first = batch.offsets[static_cast<std::size_t>(b)];
      const Index last = batch.offsets[static_cast<std::size_t>(b) + 1];
      longest = std::max(longest, last - first);
      std::fill(row_sequence.begin() + first, row_sequence.begin() + last, static_cast<std::int32_t>(b));
    }
    ids_.assign(*ctx_, batch.ids);
    positions_.assign(*ctx_, batch.positions);
    types_.assign(*ctx_, batch.types);
    offsets_.assign(*ctx_, batch.offsets);
    row_sequence_.assign(*ctx_, row_sequence);
    labels_.assign(*ctx_, batch.labels);
    targets_.assign(*ctx_, batch.targets);
    sequences_ = {offsets_.data(), row_sequence_.data(), batch.count(), rows, longest};
    if (grouped) {
      id_groups_.assign(*ctx_, batch.ids);
      position_groups_.assign(*ctx_, batch.positions);
      type_groups_.assign(*ctx_, batch.types);
    }
  }

  const Sequences& sequences() const { return sequences_; }
  const std::int32_t* ids() const { return ids_.data(); }
  const std::int32_t* positions() const { return positions_.data(); }
  const std::int32_t* types() const { return types_.data(); }
  const std::int32_t* labels() const { return labels_.data(); }  // nullptr when there are none
  const float* targets() const { return targets_.data(); }       // nullptr when there are none
  ops::RowGroups id_groups() const { return id_groups_.groups(); }
  ops::RowGroups position_groups() const { return position_groups_.groups(); }
  ops::RowGroups type_groups() const { return type_groups_.groups(); }

 private:
  // An array whose capacity only grows.
  template <class E>
  class Buffer {
   public:
    void assign(Context& ctx, const std::vector<E>& host) {
      size_ = static_cast<Index>(host.size());
      if (size_ > storage_.size()) storage_ = Tensor<E, B>(ctx, {size_});
      B::copy_in(ctx, host.data(), storage_.view().data, size_ * static_cast<Index>(sizeof(E)));
    }
    const E* data() const { return size_ == 0 ? nullptr : storage_.view().data; }

   private:
    Tensor<E, B> storage_;
    Index size_ = 0;
  };

  class Groups {
   public:
    void assign(Context& ctx, const std::vector<std::int32_t>& ids) {
      order_.resize(ids.size());
      std::iota(order_.begin(), order_.end(), Index{0});
      std::sort(order_.begin(), order_.end(), [&](Index a, Index b) {
        return std::pair(ids[static_cast<std::size_t>(a)], a) < std::pair(ids[static_cast<std::size_t>(b)], b);
      });
      starts_.clear();
      group_ids_.clear();
      for (std::size_t i = 0; i < order_.size(); ++i) {
        const std::int32_t id = ids[static_cast<std::size_t>(order_[i])];
        if (group_ids_.empty() || group_ids_.back() != id) {
          group_ids_.push_back(id);
          starts_.push_back(static_cast<Index>(i));
        }
      }
      const Index count = static_cast<Index>(starts_.size());
      starts_.push_back(static_cast<Index>(ids.size()));
      // Room for the worst case, every row another id, so that a later batch of this size fits.
      starts_.resize(ids.size() + 1, static_cast<Index>(ids.size()));
      group_ids_.resize(ids.size(), 0);
      device_starts_.assign(ctx, starts_);
      device_order_.assign(ctx, order_);
      device_ids_.assign(ctx, group_ids_);
      groups_ = {device_starts_.data(), device_order_.data(), device_ids_.data(), count};
    }
    ops::RowGroups groups() const { return groups_; }

   private:
    std::vector<Index> starts_, order_;
    std::vector<std::int32_t> group_ids_;
    Buffer<Index> device_starts_, device_order_;
    Buffer<std::int32_t> device_ids_;
    ops::RowGroups groups_;
  };

  Context* ctx_;
  std::vector<std::int32_t> host_row_sequence_;
  Buffer<std::int32_t> ids_, positions_, types_, row_sequence_, labels_;
  Buffer<Index> offsets_;
  Buffer<float> targets_;
  Groups id_groups_, position_groups_, type_groups_;
  Sequences sequences_;
};

}  // namespace deltatune
