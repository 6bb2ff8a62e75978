// The training step of a sequence classifier: forward, loss, backward, clipping, update. Its stages are free functions too, so that a loop of
// your own can be built from them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/backend/context.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/half.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/clip.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/pass.hpp"
#include "deltatune/train/optimizer/adamw.hpp"
#include "deltatune/train/schedule.hpp"
#include "deltatune/train/trainable.hpp"

namespace deltatune {

// What is minimised: cross-entropy, or the squared error for a model with a single output.
struct LossConfig {
  double label_smoothing = 0;
  std::vector<double> class_weights = {};  // one a class, or empty

  void validate(Index classes) const {
    if (!(label_smoothing >= 0 && label_smoothing < 1))
      throw Error("label smoothing", "is not usable", {.expected = "0 <= value < 1", .got = std::to_string(label_smoothing)});
    if (!class_weights.empty() && static_cast<Index>(class_weights.size()) != classes)
      throw Error("class weights", "do not fit the classes", {.expected = std::to_string(classes), .got = std::to_string(class_weights.size())});
    for (const double weight : class_weights)
      if (!(weight >= 0 && std::isfinite(weight))) throw Error("class weights", "hold a value that is not usable", {.expected = "finite numbers >= 0"});
  }
};

// Σ of the weights of a batch's labels: what the loss is divided by.
inline double label_weight(const PackedBatch& batch, const LossConfig& loss) {
  double total = 0;
  for (const std::int32_t label : batch.labels)
    if (label != ops::kIgnoredLabel) total += loss.class_weights.empty() ? 1.0 : loss.class_weights.at(static_cast<std::size_t>(label));
  return batch.targets.empty() ? total : static_cast<double>(batch.targets.size());
}

// Throws Error unless the batch has a label for each sequence that the model knows.
inline void check_labels(const PackedBatch& batch, Index classes) {
  const std::size_t count = static_cast<std::size_t>(batch.count());
  if (classes == 1) {
    if (batch.targets.size() != count) throw Error("batch", "a model with one output learns from targets, one a sequence");
    return;
  }
  if (batch.labels.size() != count)
    throw Error("batch", "has not one label a sequence", {.expected = std::to_string(count), .got = std::to_string(batch.labels.size())});
  for (const std::int32_t label : batch.labels)
    if (label != ops::kIgnoredLabel && (label < 0 || label >= classes))
      throw Error("batch", "label outside the classes", {.expected = "0 to " + std::to_string(classes - 1), .got = std::to_string(label)});
}

// loss_io (1) += the loss of logits (B, K) against the labels of `batch`; dlogits (B, K) overwritten. class_weights (K) or empty.
template <class X>
void classification_loss(Pass<X>& pass, const DeviceBatch<X>& batch, View<const scalar_of<X>> logits, const LossConfig& loss,
                         View<const scalar_of<X>> class_weights, double total_weight, View<scalar_of<X>> dlogits, View<scalar_of<X>> loss_io) {
  using B = backend_of<X>;
  using T = scalar_of<X>;
  const auto scope = pass.scope();
  const View<T> losses = pass.take(1, logits.rows);
  const double inverse = total_weight > 0 ? 1.0 / total_weight : 0.0;
  if (logits.cols == 1) {
    ops::squared_error<B, T>(pass.ctx, logits, batch.targets(), inverse, losses, dlogits);
  } else {
    ops::cross_entropy<B, T>(pass.ctx, logits, batch.labels(), class_weights, loss.label_smoothing, inverse, losses, dlogits);
  }
  ops::total<B, T>(pass.ctx, losses, loss_io);
}

struct TrainerConfig {
  AdamWConfig optimizer = {};
  Schedule schedule = {};
  LossConfig loss = {};
  double max_gradient_norm = 1.0;  // 0: no clipping
  std::uint64_t seed = 0;          // of dropout
  bool dropout = true;             // with the model's and the deltas' probabilities; false: none at all
  bool graph = false;              // on a backend that records work (Cuda): the work of a batch is queued as one graph; plan() first
};

struct StepReport {
  Index step = 0;  // updates done, this one included
  double loss = 0;
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  Index rows = 0;  // tokens
  double seconds = 0;
};

// Bytes a training run holds, by kind.
struct MemoryReport {
  Index weights = 0;
  Index gradients = 0;
  Index optimizer = 0;
  Index activations = 0;  // what backward reads, at the largest batch planned or seen
  Index scratch = 0;
};

namespace detail {
// B::Graph, where a backend has one.
template <class B>
struct GraphOf {
  struct Type {};
};
template <class B>
  requires requires { typename B::Graph; }
struct GraphOf<B> {
  using Type = typename B::Graph;
};
}  // namespace detail

// Trains what is not frozen at construction. The model stays where it is while the trainer lives.
template <class Model>
class Trainer {
 public:
  using X = typename Model::Tensor;
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = typename Model::Context;

  Trainer(Context& ctx, Model& model, TrainerConfig config)
      : ctx_(&ctx), model_(&model), config_(std::move(config)), saved_(ctx), scratch_(ctx), batch_(ctx), numbers_(ctx, {3}),
        parameters_(ctx, model), optimizer_(ctx, parameters_, config_.optimizer) {
    config_.loss.validate(model.classes());
    if (!config_.loss.class_weights.empty()) {
      std::vector<T> weights;
      for (const double weight : config_.loss.class_weights) weights.push_back(T(weight));
      class_weights_ = X(ctx, {static_cast<Index>(weights.size())});
      B::copy_in(ctx, weights.data(), class_weights_.view().data, class_weights_.bytes());
    }
  }

  Context& context() { return *ctx_; }
  Model& model() { return *model_; }
  AdamW<X>& optimizer() { return optimizer_; }
  const TrainerConfig& config() const { return config_; }
  Index step_count() const { return optimizer_.step_count(); }

  // Makes room for steps and evaluations of batches up to this one's size: from then on nothing is allocated. Runs nothing.
  void plan(const PackedBatch& largest) {
    batch_.upload(largest, model_->embeddings_train());
    const DryRun dry(*ctx_);
    std::vector<T> unused;
    forward_backward(largest, label_weight(largest, config_.loss), 0);
    update(0);
    optimizer_.set_step_count(step_count() - 1);
    evaluate_uploaded(unused);
    saved_.reserve(saved_.peak());
    scratch_.reserve(scratch_.peak());
  }

  // One update from one batch, or from several whose gradients add up to those of the one large batch they make.
  // Throws Error when the loss or the gradient is not finite; the parameters are then as before the step.
  StepReport step(std::span<const PackedBatch> batches) {
    const auto start = std::chrono::steady_clock::now();
    StepReport report;
    double total_weight = 0;
    for (const PackedBatch& batch : batches) {
      check_labels(batch, model_->classes());
      total_weight += label_weight(batch, config_.loss);
      report.rows += batch.rows();
    }
    const double rate = config_.schedule.factor(step_count());
    for (std::size_t i = 0; i < batches.size(); ++i) {
      batch_.upload(batches[i], model_->embeddings_train());
      run([&] {
        if (i == 0) zero();
        forward_backward(batches[i], total_weight, i);
        if (i + 1 == batches.size()) update(rate);
      });
    }
    std::vector<T> host(3);
    B::copy_out(*ctx_, numbers_.view().data, host.data(), numbers_.bytes());
    B::synchronize(*ctx_);  // the only place where a step waits
    report.loss = static_cast<double>(value_of(host[0]));
    report.gradient_norm = static_cast<double>(value_of(host[1]));
    report.step = step_count();
    if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm)) {
      optimizer_.set_step_count(step_count() - 1);  // the update has changed nothing
      throw Error("step " + std::to_string(report.step), std::isfinite(report.loss) ? "the gradient is not finite" : "the loss is not finite",
                  {.got = std::to_string(std::isfinite(report.loss) ? report.gradient_norm : report.loss),
                   .remedy = "lower the learning rate or look for extreme values in weights and data"});
    }
    report.learning_rate = config_.optimizer.learning_rate * rate;
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }
  StepReport step(const PackedBatch& batch) { return step(std::span<const PackedBatch>(&batch, 1)); }

  // Logits (B, K), row-major, without dropout.
  std::vector<T> logits(const PackedBatch& batch) {
    batch_.upload(batch, false);
    std::vector<T> host(static_cast<std::size_t>(batch.count() * model_->classes()));
    evaluate_uploaded(host);
    return host;
  }

  MemoryReport memory() {
    MemoryReport report;
    model_->visit([&](const Parameter<X>& parameter) {
      report.weights += parameter.size() * static_cast<Index>(parameter.rounded() ? sizeof(Bfloat16) : sizeof(T));
      report.gradients += parameter.gradient_bytes();
    });
    report.optimizer = optimizer_.bytes();
    report.activations = saved_.peak();
    report.scratch = scratch_.peak();
    return report;
  }

 private:
  View<T> loss() { return numbers_.view().column_range(0, 1); }
  View<T> norm() { return numbers_.view().column_range(1, 1); }
  View<T> factor() { return numbers_.view().column_range(2, 1); }

  // Queues a piece of work, or runs it.
  template <class Work>
  void run(const Work& work) {
    if constexpr (requires { typename B::Graph; }) {
      if (config_.graph) return graph_.run(*ctx_, work);
    }
    work();
  }

  void zero() {
    ops::zero_gradients<B, T>(*ctx_, parameters_.chunks());
    B::fill(*ctx_, loss(), T(0));
  }

  void forward_backward(const PackedBatch& batch, double total_weight, std::uint64_t micro_step) {
    Pass<X> pass{*ctx_, saved_, scratch_, config_.dropout ? Mode::train : Mode::differentiate, config_.seed, static_cast<std::uint64_t>(step_count()), micro_step};
    const WorkspaceScope<B> all(saved_);
    const View<T> logits = pass.keep(batch.count(), model_->classes());
    const View<T> dlogits = pass.keep(batch.count(), model_->classes());
    model_->forward(pass, batch_, logits, activations_);
    classification_loss<X>(pass, batch_, logits, config_.loss, class_weights_.view(), total_weight, dlogits, loss());
    model_->backward(pass, batch_, activations_, dlogits);
  }

  // Clipping and the optimiser's step; without effect on the parameters when the loss or the gradient is not finite.
  void update(double rate) {
    const WorkspaceScope<B> scope(scratch_);
    const View<T> partial = scratch_.template take<T>(1, parameters_.chunks().count);
    ops::clip_gradients<B, T>(*ctx_, parameters_.chunks(), config_.max_gradient_norm, loss(), partial, norm(), factor());
    optimizer_.step(*ctx_, rate, factor());
  }

  void evaluate_uploaded(std::vector<T>& host) {
    Pass<X> pass{*ctx_, saved_, scratch_};
    const WorkspaceScope<B> all(saved_);
    const View<T> logits = pass.keep(batch_.sequences().count, model_->classes());
    model_->forward(pass, batch_, logits, activations_);
    B::copy_out(*ctx_, logits.data, host.data(), logits.size() * static_cast<Index>(sizeof(T)));
    B::synchronize(*ctx_);
  }

  Context* ctx_;
  Model* model_;
  TrainerConfig config_;
  Workspace<B> saved_;
  Workspace<B> scratch_;
  DeviceBatch<X> batch_;
  X numbers_;  // loss, gradient norm, clipping factor
  X class_weights_;
  TrainableParameters<X> parameters_;
  AdamW<X> optimizer_;
  typename Model::Activations activations_;
  [[no_unique_address]] typename detail::GraphOf<B>::Type graph_;
};

}  // namespace deltatune
