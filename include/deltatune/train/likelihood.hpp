// How likely a language model finds texts; and, to choose among a few answers, how likely an encoder-decoder finds each of them, as text-to-text classification
// does (Ding et al. 2022, arXiv 2203.06904).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/nn/loss.hpp"
#include "deltatune/nn/model.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/seam/pass.hpp"
#include "deltatune/train/teacher_forcing.hpp"

namespace deltatune {

// Σ log p of the labels of each sequence (B), natural logarithms, given what stands before them and, for an encoder-decoder, the source. 0 for a sequence
// without labels. No more logits exist at once than in language_model_loss(). batch: uploaded with the model's layout. Throws Error for a classifier.
template <TrainableModel Model>
std::vector<double> log_likelihoods(Pass<typename Model::Tensor>& pass, Model& model, const DeviceBatch<typename Model::Tensor>& batch,
                                    typename Model::Activations& kept) {
  using X = typename Model::Tensor;
  using T = scalar_of<X>;
  using B = backend_of<X>;
  if (!model.is_language_model())
    throw Error("log-likelihoods", "are of the texts of a language model", {.remedy = "a classifier's scores are its logits: Trainer::logits()"});
  std::vector<T> host(static_cast<std::size_t>(batch.prediction_count()));
  if (!host.empty()) {
    const auto scope = pass.scope();
    const View<T> loss = pass.take(1, 1), losses = pass.take(1, batch.prediction_count());
    B::fill(pass.ctx, loss, T(0));
    model.loss(pass, batch, {.losses = losses}, loss, kept);
    B::copy_out(pass.ctx, losses.data, host.data(), losses.size() * static_cast<Index>(sizeof(T)));
    B::synchronize(pass.ctx);
  }
  std::vector<double> sums;
  std::size_t next = 0;
  for (const Index count : batch.predictions()) {
    double sum = 0;
    for (Index i = 0; i < count; ++i) sum -= static_cast<double>(value_of(host[next++]));
    sums.push_back(sum);
  }
  return sums;
}

// The same for a batch on the host. Throws Error for labels outside the vocabulary, too.
template <TrainableModel Model>
std::vector<double> log_likelihoods(typename Model::Context& ctx, Model& model, const PackedBatch& batch) {
  using X = typename Model::Tensor;
  if (model.is_language_model()) model.check_labels(batch);
  Workspace<backend_of<X>> saved(ctx), scratch(ctx);
  DeviceBatch<X> device(ctx);
  device.upload(batch, false, model.layout());
  typename Model::Activations kept;
  const WorkspaceScope<backend_of<X>> all(saved);
  Pass<X> pass{ctx, saved, scratch};
  return log_likelihoods(pass, model, device, kept);
}

// Σ log p of each choice as the target of each source (B, K), row-major. sources: B sequences that the encoder of an encoder-decoder reads, once for all
// choices. choices: K targets, the end-of-text token included. `device` is used up. Throws Error for another model, and for an empty choice.
template <TrainableModel Model>
std::vector<double> choice_log_likelihoods(Pass<typename Model::Tensor>& pass, Model& model, const PackedBatch& sources,
                                           std::span<const std::vector<std::int32_t>> choices, DeviceBatch<typename Model::Tensor>& device,
                                           typename Model::Activations& kept) {
  const std::size_t count = static_cast<std::size_t>(sources.count());
  std::vector<double> scores(count * choices.size());
  if (count == 0) return scores;
  for (std::size_t k = 0; k < choices.size(); ++k) {
    const Example example = teacher_forced(sources.ids, choices[k], model.architecture());
    PackedBatch batch;
    for (std::size_t b = 0; b < count; ++b) {
      batch.add(example.ids);
      batch.token_labels.insert(batch.token_labels.end(), choices[k].begin(), choices[k].end());
    }
    batch.source.push_back(sources);
    model.check_labels(batch);
    device.upload(batch, false, model.layout());
    pass.source_is_read = k > 0;
    const std::vector<double> of_choice = log_likelihoods(pass, model, device, kept);
    for (std::size_t b = 0; b < count; ++b) scores[b * choices.size() + k] = of_choice[b];
  }
  pass.source_is_read = false;
  return scores;
}

// The same with memory of its own.
template <TrainableModel Model>
std::vector<double> choice_log_likelihoods(typename Model::Context& ctx, Model& model, const PackedBatch& sources,
                                           std::span<const std::vector<std::int32_t>> choices) {
  using X = typename Model::Tensor;
  Workspace<backend_of<X>> saved(ctx), scratch(ctx);
  DeviceBatch<X> device(ctx);
  typename Model::Activations kept;
  const WorkspaceScope<backend_of<X>> all(saved);
  Pass<X> pass{ctx, saved, scratch};
  return choice_log_likelihoods(pass, model, sources, choices, device, kept);
}

}  // namespace deltatune
