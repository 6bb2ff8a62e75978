// Runs a loaded model over batches, without dropout.
#pragma once

#include "deltatune/nn/packed_batch.hpp"
#include "model_io.hpp"

namespace deltatune::cli {

class Classifier {
 public:
  Classifier(Context& ctx, Model& model) : ctx_(ctx), model_(model), saved_(ctx), scratch_(ctx), device_batch_(ctx) {}

  // (B, K), row-major.
  std::vector<float> logits(const PackedBatch& batch) {
    device_batch_.upload(batch, false);
    const WorkspaceScope<Backend> all(saved_);
    Pass<X> pass{ctx_, saved_, scratch_};
    const View<float> logits = pass.keep(batch.count(), model_.classes());
    model_.forward(pass, device_batch_, logits, activations_);
    return download_floats<X>(ctx_, logits);
  }

 private:
  Context& ctx_;
  Model& model_;
  Workspace<Backend> saved_, scratch_;
  DeviceBatch<X> device_batch_;
  Model::Activations activations_;
};

}  // namespace deltatune::cli
