// The parameters of a model that train, with their gradients, as one list for the passes over all of them.
#pragma once

#include <algorithm>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/ops/chunk.hpp"
#include "deltatune/param/visit.hpp"

namespace deltatune {

// The model stays where it is while this lives. Between steps values may move, and parameters may rest, be frozen or go: follow().
template <class X>
class TrainableParameters {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  struct Entry {
    Parameter<X>* parameter;
    Index flat;                // place of its first element among all that train
    const T* value = nullptr;  // where the chunks have its values and gradient; nullptr: it has no chunks at present
    const T* gradient = nullptr;
  };

  // Allocates the gradients. Throws Error when nothing trains.
  template <class Model>
  TrainableParameters(Context& ctx, Model& model) {
    allocate_gradients(model, ctx);
    Index chunks = 0;
    model.visit([&](Parameter<X>& p) {
      if (!p.updated()) return;
      entries_.push_back({&p, size_});
      chunks += (p.size() + ops::ParameterChunk<T>::kElements - 1) / ops::ParameterChunk<T>::kElements;
      size_ += p.size();
    });
    if (entries_.empty()) throw_nothing_trains();
    chunks_ = Tensor<ops::ParameterChunk<T>, B>(ctx, {chunks});
    follow(ctx, model);
  }

  // Before a step: the model's deltas may have been switched off or on, detached or merged, and values may have moved with that. What does not
  // train at present is left alone. Throws Error for a parameter that did not train when this was made.
  template <class Model>
  void follow(Context& ctx, Model& model) {
    std::size_t next = 0;
    bool same = true;
    const auto pass_over = [&](Entry& entry) {
      same = same && entry.value == nullptr;
      entry.value = nullptr;
    };
    model.visit([&](Parameter<X>& p) {
      if (!p.updated()) return;
      while (next < entries_.size() && entries_[next].parameter != &p) pass_over(entries_[next++]);
      if (next == entries_.size() || !p.has_gradient())
        throw Error(p.path(), "trains, but the trainer was made without it", {.remedy = "make a new trainer after attaching, detaching and unfreezing"});
      Entry& entry = entries_[next++];
      same = same && entry.value == p.value().data && entry.gradient == p.gradient().data;
      entry.value = p.value().data;
      entry.gradient = p.gradient().data;
    });
    while (next < entries_.size()) pass_over(entries_[next++]);
    if (!same) list(ctx);
  }

  const std::vector<Entry>& entries() const { return entries_; }
  Index size() const { return size_; }  // elements
  ops::ParameterChunks<T> chunks() const { return {chunks_.view().data, chunk_count_}; }

 private:
  [[noreturn]] static void throw_nothing_trains() { throw Error("training", "nothing trains", {.remedy = "attach a delta or unfreeze parameters first"}); }

  void list(Context& ctx) {
    std::vector<ops::ParameterChunk<T>> chunks;
    for (const Entry& entry : entries_) {
      if (entry.value == nullptr) continue;
      Parameter<X>& p = *entry.parameter;
      const View<const T> mask = p.mask_values();
      for (Index first = 0; first < p.size(); first += ops::ParameterChunk<T>::kElements) {
        const Index count = std::min(ops::ParameterChunk<T>::kElements, p.size() - first);
        chunks.push_back(
            {p.value().data + first, p.gradient().data + first, mask.data, p.mask_span(), first, entry.flat + first, count, p.decays(), p.rate_factor()});
      }
    }
    if (chunks.empty()) throw_nothing_trains();
    chunk_count_ = static_cast<Index>(chunks.size());
    B::copy_in(ctx, chunks.data(), chunks_.view().data, chunk_count_ * static_cast<Index>(sizeof(ops::ParameterChunk<T>)));
  }

  std::vector<Entry> entries_;
  Tensor<ops::ParameterChunk<T>, B> chunks_;
  Index chunk_count_ = 0;
  Index size_ = 0;
};

}  // namespace deltatune
