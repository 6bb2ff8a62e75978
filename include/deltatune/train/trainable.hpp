// The parameters of a model that train, with their gradients, as one list for the passes over all of them.
#pragma once

#include <algorithm>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/ops/chunk.hpp"
#include "deltatune/param/visit.hpp"

namespace deltatune {

// The model, its masks and its parameters stay as they are while this lives.
template <class X>
class TrainableParameters {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  struct Entry {
    Parameter<X>* parameter;
    Index flat;  // place of its first element among all that train
  };

  // Allocates the gradients. Throws Error when nothing trains.
  template <class Model>
  TrainableParameters(Context& ctx, Model& model) {
    allocate_gradients(model, ctx);
    std::vector<ops::ParameterChunk<T>> chunks;
    model.visit([&](Parameter<X>& p) {
      if (!p.updated()) return;
      entries_.push_back({&p, size_});
      const View<const T> mask = p.mask_values();
      for (Index first = 0; first < p.size(); first += ops::ParameterChunk<T>::kElements) {
        const Index count = std::min(ops::ParameterChunk<T>::kElements, p.size() - first);
        chunks.push_back({p.value().data + first, p.gradient().data + first, mask.data, p.mask_span(), first, size_ + first, count, p.decays(), p.rate_factor()});
      }
      size_ += p.size();
    });
    if (entries_.empty()) throw Error("training", "nothing trains", {.remedy = "attach a delta or unfreeze parameters first"});
    chunks_ = Tensor<ops::ParameterChunk<T>, B>(ctx, {static_cast<Index>(chunks.size())});
    B::copy_in(ctx, chunks.data(), chunks_.view().data, chunks_.bytes());
  }

  const std::vector<Entry>& entries() const { return entries_; }
  Index size() const { return size_; }  // elements
  ops::ParameterChunks<T> chunks() const { return {chunks_.view().data, chunks_.size()}; }

 private:
  std::vector<Entry> entries_;
  Tensor<ops::ParameterChunk<T>, B> chunks_;
  Index size_ = 0;
};

}  // namespace deltatune
