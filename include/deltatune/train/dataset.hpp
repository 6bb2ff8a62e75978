// Labelled token sequences in memory, and batches of them in a seeded order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/hash.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/nn/packed_batch.hpp"

namespace deltatune {

struct Example {
  std::vector<std::int32_t> ids = {};
  std::vector<std::int32_t> types = {};         // token types, or empty: all 0
  std::int32_t label = 0;                       // a class
  float target = 0;                             // instead of the label, for a model with a single output
  std::vector<std::int32_t> token_labels = {};  // instead of the label, for a language model: see PackedBatch
  std::vector<std::int32_t> source = {};        // of an encoder-decoder: what its encoder reads; ids and token_labels are then the decoder's
  std::vector<float> features = {};             // (C) what the output layer reads of it, where that was computed before: see train/features.hpp
};

class Dataset {
 public:
  // regression: examples carry targets and not labels.
  explicit Dataset(bool regression = false) : regression_(regression) {}

  void add(Example example) { examples_.push_back(std::move(example)); }
  Index size() const { return static_cast<Index>(examples_.size()); }
  Example& operator[](Index i) { return examples_[static_cast<std::size_t>(i)]; }
  const Example& operator[](Index i) const { return examples_[static_cast<std::size_t>(i)]; }

  // Throws Error where some of the examples have a source and others have none.
  DELTATUNE_FUNCTION PackedBatch batch(std::span<const Index> members) const {
    PackedBatch batch;
    add_sources(members, batch);
    for (const Index i : members) {
      const Example& example = (*this)[i];
      batch.add(example.ids);
      std::copy(example.types.begin(), example.types.end(), batch.types.end() - static_cast<std::ptrdiff_t>(example.ids.size()));
      batch.features.insert(batch.features.end(), example.features.begin(), example.features.end());
      if (!example.token_labels.empty()) {
        batch.token_labels.insert(batch.token_labels.end(), example.token_labels.begin(), example.token_labels.end());
      } else if (regression_) {
        batch.targets.push_back(example.target);
      } else {
        batch.labels.push_back(example.label);
      }
    }
    return batch;
  }

  // The most rows, rows of sources, and rows that predict a token, that a batch of `count` examples can have: what a trainer plans for.
  DELTATUNE_FUNCTION PackedBatch largest_batch(Index count) const {
    PackedBatch largest = batch(longest(&Example::ids, count));
    if (!largest.token_labels.empty()) largest.token_labels = largest.ids;
    largest.source.clear();
    add_sources(longest(&Example::source, count), largest);
    return largest;
  }

 private:
  DELTATUNE_FUNCTION std::vector<Index> longest(std::vector<std::int32_t> Example::*tokens, Index count) const {
    std::vector<Index> order(examples_.size());
    std::iota(order.begin(), order.end(), Index{0});
    std::sort(order.begin(), order.end(), [&](Index a, Index b) {
      const std::size_t length_a = ((*this)[a].*tokens).size(), length_b = ((*this)[b].*tokens).size();
      return length_a != length_b ? length_a > length_b : a < b;
    });
    order.resize(static_cast<std::size_t>(std::min(count, size())));
    return order;
  }

  DELTATUNE_FUNCTION void add_sources(std::span<const Index> members, PackedBatch& batch_io) const {
    PackedBatch sources;
    for (const Index i : members) {
      const std::vector<std::int32_t>& source = (*this)[i].source;
      if (source.empty() == (*this)[members.front()].source.empty()) {
        if (!source.empty()) sources.add(source);
        continue;
      }
      throw Error("example " + std::to_string((source.empty() ? i : members.front()) + 1), "has no source, and others of its batch have one",
                  {.remedy = "give Example::source to all examples for an encoder-decoder, and to none for other models"});
    }
    if (sources.count() > 0) batch_io.source.push_back(std::move(sources));
  }

  std::vector<Example> examples_;
  bool regression_;
};

// Of all that a model learns from: equal for equal examples in the same order.
DELTATUNE_FUNCTION std::string content_hash(const Dataset& data) {
  ContentHash hash;
  for (Index i = 0; i < data.size(); ++i) {
    const Example& example = data[i];
    for (const std::vector<std::int32_t>* const list : {&example.ids, &example.types, &example.token_labels}) {
      hash.add(static_cast<std::uint64_t>(list->size()));
      hash.add(*list);
    }
    hash.add(example.label);
    hash.add(example.target);
    if (example.source.empty()) continue;  // without one, the hash is that of earlier versions
    hash.add(static_cast<std::uint64_t>(example.source.size()));
    hash.add(example.source);
  }
  return hash.text();
}

// Batches in a new order each epoch, found from the number of the batch alone: nothing to store, so a run can go on anywhere.
class BatchOrder {
 public:
  BatchOrder(Index examples, Index batch_size, std::uint64_t seed) : examples_(examples), batch_size_(batch_size), seed_(seed) {
    if (examples < 1) throw Error("training data", "is empty");
    if (batch_size < 1) throw Error("batch size", "is not a size", {.expected = "at least 1", .got = std::to_string(batch_size)});
  }

  Index per_epoch() const { return (examples_ + batch_size_ - 1) / batch_size_; }

  // Members of batch number b, counted from 0 over all epochs; the last one of an epoch may be short.
  DELTATUNE_FUNCTION std::span<const Index> members(Index b) {
    const Index epoch = b / per_epoch();
    if (epoch != epoch_) {
      order_ = shuffled_order(seed_, static_cast<std::uint64_t>(epoch), examples_);
      epoch_ = epoch;
    }
    const Index first = b % per_epoch() * batch_size_;
    return std::span<const Index>(order_).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(std::min(batch_size_, examples_ - first)));
  }

 private:
  Index examples_;
  Index batch_size_;
  std::uint64_t seed_;
  Index epoch_ = -1;
  std::vector<Index> order_;
};

}  // namespace deltatune
