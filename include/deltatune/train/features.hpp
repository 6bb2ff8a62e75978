// Feature-based training: where the output layer alone trains, what it reads of each example is computed once and serves all epochs.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "deltatune/io/parameter_io.hpp"
#include "deltatune/train/dataset.hpp"

namespace deltatune {

// Computes the features of every example, without dropout, `batch_size` at a time. From then on batches of `data` carry them, and steps and
// evaluations of a classifier run its output layers alone. Steps that train anything below refuse such batches. Throws Error for any other model.
template <class Model>
void compute_features(typename Model::Context& ctx, Model& model, Dataset& data, Index batch_size) {
  if (!model.has_classifier())
    throw Error("features", "are what the output layer of a classifier reads, and this model has none", {.remedy = "train on the tokens"});
  using X = typename Model::Tensor;
  Workspace<backend_of<X>> saved(ctx), scratch(ctx);
  DeviceBatch<X> device(ctx);
  typename Model::Activations kept;
  std::vector<Index> members;
  for (Index first = 0; first < data.size(); first += batch_size) {
    members.resize(static_cast<std::size_t>(std::min(batch_size, data.size() - first)));
    std::iota(members.begin(), members.end(), first);
    PackedBatch batch = data.batch(members);
    batch.features = {};
    device.upload(batch, false, model.layout());
    const WorkspaceScope<backend_of<X>> all(saved);
    Pass<X> pass{ctx, saved, scratch};
    const View<scalar_of<X>> rows = pass.keep(batch.count(), model.architecture().hidden_size);
    model.features(pass, device, rows, kept);
    const std::vector<float> host = download_floats<X>(ctx, rows);
    for (std::size_t i = 0; i < members.size(); ++i)
      data[members[i]].features.assign(host.begin() + static_cast<std::ptrdiff_t>(i) * rows.cols,
                                       host.begin() + static_cast<std::ptrdiff_t>(i + 1) * rows.cols);
  }
}

}  // namespace deltatune
