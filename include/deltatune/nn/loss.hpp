// What is minimised: cross-entropy, or the squared error for a model with a single output; of the scores of a classifier or of a language model.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/nn/linear.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/ops/logit_shape.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune {

struct LossConfig {
  double label_smoothing = 0;
  std::vector<double> class_weights = {};  // one a class, or empty

  // classes: of a classifier; 0 for a language model.
  void validate(Index classes) const {
    if (!(label_smoothing >= 0 && label_smoothing < 1))
      throw Error("label smoothing", "is not usable", {.expected = "0 <= value < 1", .got = std::to_string(label_smoothing)});
    if (!class_weights.empty() && static_cast<Index>(class_weights.size()) != classes)
      throw Error("class weights", "do not fit the classes", {.expected = std::to_string(classes), .got = std::to_string(class_weights.size())});
    for (const double weight : class_weights)
      if (!(weight >= 0 && std::isfinite(weight))) throw Error("class weights", "hold a value that is not usable", {.expected = "finite numbers >= 0"});
  }
};

// The same for one batch, where the model reads it.
template <class X>
struct Objective {
  double label_smoothing = 0;
  View<const scalar_of<X>> class_weights = {};  // (K) or empty
  double total_weight = 1;                      // label_weight() of all batches of the step: what the loss is divided by
  View<scalar_of<X>> losses = {};               // (1, M): of a language model, where the loss of each prediction goes, too; empty: nowhere

  double inverse() const { return total_weight > 0 ? 1.0 / total_weight : 0.0; }
};

// Σ of the weights of a batch's labels. layout: the model's, since what stands behind rows of a prompt can be predicted from them.
DELTATUNE_FUNCTION double label_weight(const PackedBatch& batch, const LossConfig& loss, const InputLayout& layout = {}) {
  double total = 0;
  if (!batch.token_labels.empty()) {
    detail::visit_predictions(batch, !batch.source.empty(), [&](Index, std::int32_t) { ++total; });
    for (Index b = 0; layout.front > 0 && batch.source.empty() && b < batch.count(); ++b)
      total += batch.token_labels[static_cast<std::size_t>(batch.offsets[static_cast<std::size_t>(b)])] != ops::kIgnoredLabel ? 1 : 0;
    return total;
  }
  for (const std::int32_t label : batch.labels)
    if (label != ops::kIgnoredLabel) total += loss.class_weights.empty() ? 1.0 : loss.class_weights.at(static_cast<std::size_t>(label));
  return batch.targets.empty() ? total : static_cast<double>(batch.targets.size());
}

// Throws Error unless the batch has a label for each sequence that a classifier knows.
DELTATUNE_FUNCTION void check_labels(const PackedBatch& batch, Index classes) {
  const std::size_t count = static_cast<std::size_t>(batch.count());
  if (classes == 1) {
    if (batch.targets.size() != count) throw Error("batch", "needs one target per sequence, since the model has a single output");
    return;
  }
  if (batch.labels.size() != count)
    throw Error("batch", "needs one label per sequence", {.expected = std::to_string(count), .got = std::to_string(batch.labels.size())});
  for (const std::int32_t label : batch.labels)
    if (label != ops::kIgnoredLabel && (label < 0 || label >= classes))
      throw Error("batch", "label outside the classes", {.expected = "0 to " + std::to_string(classes - 1), .got = std::to_string(label)});
}
// The same for a language model: one label a token.
DELTATUNE_FUNCTION void check_token_labels(const PackedBatch& batch, Index vocab_size) {
  if (batch.token_labels.size() != batch.ids.size())
    throw Error("batch", "needs one label per token", {.expected = std::to_string(batch.ids.size()), .got = std::to_string(batch.token_labels.size())});
  for (const std::int32_t label : batch.token_labels)
    if (label != ops::kIgnoredLabel && (label < 0 || label >= vocab_size))
      throw Error("batch", "label outside the vocabulary", {.expected = "0 to " + std::to_string(vocab_size - 1), .got = std::to_string(label)});
}

// loss_io (1) += the loss of logits (B, K) against the labels of `batch`; dlogits (B, K) overwritten, may be logits.
template <class X>
void classification_loss(Pass<X>& pass, const DeviceBatch<X>& batch, View<const scalar_of<X>> logits, const Objective<X>& objective, View<scalar_of<X>> dlogits,
                         View<scalar_of<X>> loss_io) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  const auto scope = pass.scope();
  const View<T> losses = pass.take(1, logits.rows);
  if (logits.cols == 1) {
    ops::squared_error<B, T>(pass.ctx, logits, batch.targets(), objective.inverse(), losses, dlogits);
  } else {
    ops::cross_entropy<B, T>(pass.ctx, logits, batch.labels(), objective.class_weights, objective.label_smoothing, objective.inverse(), losses, dlogits);
  }
  ops::total<B, T>(pass.ctx, losses, loss_io);
}

// Rows of logits that exist at a time: 64 MB of them, and no fewer than 256, because reading a large table for fewer costs more than multiplying by it.
template <class T>
constexpr Index logits_rows(Index vocab_size) {
  return std::max<Index>(256, (64 << 20) / (vocab_size * static_cast<Index>(sizeof(T))));
}

// The loss of a language model, forward and backward at once, so that all logits never exist: chunks of about equally many rows, at most max_rows, go
// through the head, are scored, and go back through it.
//   logits = shape(head(x) + b);   loss_io (1) += their cross-entropy against labels (M);   dx = their gradient through the head, whose own is accumulated
// x (M, C); head: C inputs, V outputs. dx (M, C): overwritten; dtable_io (V, C): accumulates the gradient of a table that the head shares; either is
// empty where nobody wants it. bias (V): b, frozen, or empty.
template <class X>
void language_model_loss(Pass<X>& pass, View<const scalar_of<X>> x, Linear<X>& head, typename Linear<X>::Saved& saved, const std::int32_t* labels,
                         const Objective<X>& objective, View<scalar_of<X>> dx, View<scalar_of<X>> dtable_io, View<scalar_of<X>> loss_io,
                         const ops::LogitShape& shape, Index max_rows, View<const scalar_of<X>> bias = {}) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  const Index chunks = std::max<Index>(1, (x.rows + max_rows - 1) / max_rows);
  const Index chunk = (x.rows + chunks - 1) / chunks;
  const bool learns = dx || dtable_io || (pass.mode != Mode::evaluate && trains(head));
  const auto scope = pass.scope();
  const View<T> all_logits = pass.take(chunk, head.out());
  const View<T> all_gradients = shape.cap > 0 && learns ? pass.take(chunk, head.out()) : all_logits;  // a cap's pull-back reads the logits
  const View<T> all_losses = objective.losses ? objective.losses : pass.take(1, x.rows);
  for (Index first = 0; first < x.rows; first += chunk) {
    const Index rows = std::min(chunk, x.rows - first);
    const View<const T> from = x.row_range(first, rows);
    const View<T> logits = all_logits.row_range(0, rows), d_logits = all_gradients.row_range(0, rows);
    const WorkspaceScope<B> kept(pass.saved);  // by deltas of the head, until they have run backward
    head.forward(pass, from, logits, saved);
    if (bias) ops::add_bias<B, T>(pass.ctx, bias, logits);
    ops::shape_logits<B, T>(pass.ctx, shape, logits);
    ops::cross_entropy<B, T>(pass.ctx, logits, labels + first, {}, objective.label_smoothing, objective.inverse(), all_losses.column_range(first, rows),
                             d_logits);
    if (!learns) continue;
    ops::shape_logits_backward<B, T>(pass.ctx, shape, logits, d_logits);
    head.backward(pass, saved, from, d_logits, dx ? GradientSink<T>::fresh(dx.row_range(first, rows)) : GradientSink<T>::none(), dtable_io);
  }
  ops::total<B, T>(pass.ctx, all_losses, loss_io);
}

}  // namespace deltatune
