// The training step: loss, backward, clipping, update. Its stages are functions of the model and the ops, so that a loop of your own can be
// built from them.
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
#include "deltatune/nn/model.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/clip.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/pass.hpp"
#include "deltatune/train/optimizer/adamw.hpp"
#include "deltatune/train/schedule.hpp"
#include "deltatune/train/trainable.hpp"

namespace deltatune {

struct TrainerConfig {
  AdamWConfig optimizer = {};
  Schedule schedule = {};
  LossConfig loss = {};
  double max_gradient_norm = 1.0;  // 0: no clipping
  std::uint64_t seed = 0;          // of dropout
  bool dropout = true;             // with the model's and the deltas' probabilities; false: none at all
  bool round_kept = false;         // the base model's activations for backward are kept in bfloat16: half the memory; gradients are rounded, the loss isn't
  bool graph = false;              // on a backend that records work (Cuda): the work of a batch is queued as one graph; plan() first
};

struct StepReport {
  Index step = 0;  // updates done, this one included
  double loss = 0;
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  Index rows = 0;  // tokens, those of sources too
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

// Trains what is not frozen at construction. The model stays where it is while the trainer lives; deltas may be switched off and on, merged and
// detached between steps.
template <TrainableModel Model>
class Trainer {
 public:
  using X = typename Model::Tensor;
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = typename Model::Context;

  Trainer(Context& ctx, Model& model, TrainerConfig config)
      : ctx_(&ctx),
        model_(&model),
        config_(std::move(config)),
        saved_(ctx),
        scratch_(ctx),
        batch_(ctx),
        numbers_(ctx, {3}),
        parameters_(ctx, model),
        optimizer_(ctx, parameters_, config_.optimizer) {
    config_.loss.validate(model.num_labels());
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
    batch_.upload(largest, model_->embeddings_train(), model_->layout());
    const DryRun dry(*ctx_);
    std::vector<T> unused;
    forward_backward(1.0, 0);
    penalise(0);
    update(0);
    optimizer_.set_step_count(step_count() - 1);
    if (model_->has_classifier()) {
      evaluate_uploaded(unused);
    } else {
      loss_of_uploaded();
    }
    saved_.reserve(saved_.peak());
    scratch_.reserve(scratch_.peak());
  }

  // One update from one batch, or from several whose gradients add up to those of the one large batch they make.
  // Throws Error when the loss or the gradient is not finite; the parameters are then as before the step.
  StepReport step(std::span<const PackedBatch> batches) {
    const auto start = std::chrono::steady_clock::now();
    StepReport report;
    double total_weight = 0;
    parameters_.follow(*ctx_, *model_);
    for (const PackedBatch& batch : batches) {
      model_->check_labels(batch);
      total_weight += label_weight(batch, config_.loss, model_->layout());
      report.rows += batch.rows();
      for (const PackedBatch& source : batch.source) report.rows += source.rows();
    }
    const double rate = config_.schedule.factor(step_count());
    for (std::size_t i = 0; i < batches.size(); ++i) {
      batch_.upload(batches[i], model_->embeddings_train(), model_->layout());
      run([&] {
        if (i == 0) zero();
        forward_backward(total_weight, i);
        if (i + 1 < batches.size()) return;
        penalise(i);
        update(rate);
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
    model_->derived().after_step(*ctx_, {.step = report.step, .total = config_.schedule.total, .gradient_scale = static_cast<double>(value_of(host[2]))});
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }
  StepReport step(const PackedBatch& batch) { return step(std::span<const PackedBatch>(&batch, 1)); }

  // Logits (B, K), row-major, without dropout.
  std::vector<T> logits(const PackedBatch& batch) {
    batch_.upload(batch, false, model_->layout());
    std::vector<T> host(static_cast<std::size_t>(batch.count() * model_->num_labels()));
    evaluate_uploaded(host);
    return host;
  }

  // The loss of a batch without dropout, times label_weight(): of several batches they add up.
  double loss(const PackedBatch& batch) {
    model_->check_labels(batch);
    batch_.upload(batch, false, model_->layout());
    return loss_of_uploaded();
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
  View<T> loss_value() { return numbers_.view().column_range(0, 1); }
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
    B::fill(*ctx_, loss_value(), T(0));
  }

  Objective<X> objective(double total_weight) { return {config_.loss.label_smoothing, class_weights_.view(), total_weight}; }

  void forward_backward(double total_weight, std::uint64_t micro_step) {
    Pass<X> pass{*ctx_,     saved_, scratch_, config_.dropout ? Mode::train : Mode::differentiate, config_.seed, static_cast<std::uint64_t>(step_count()),
                 micro_step};
    pass.rounds_kept = config_.round_kept;
    const WorkspaceScope<B> all(saved_);
    model_->loss(pass, batch_, objective(total_weight), loss_value(), activations_);
    model_->backward(pass, batch_, activations_);
  }

  // The terms that deltas add to the loss, once an update.
  void penalise(std::uint64_t micro_step) {
    Pass<X> pass{*ctx_,     saved_, scratch_, config_.dropout ? Mode::train : Mode::differentiate, config_.seed, static_cast<std::uint64_t>(step_count()),
                 micro_step};
    model_->derived().penalty(pass, loss_value());
  }

  // Clipping and the optimiser's step; without effect on the parameters when the loss or the gradient is not finite.
  void update(double rate) {
    const WorkspaceScope<B> scope(scratch_);
    const View<T> partial = scratch_.template take<T>(1, parameters_.chunks().count);
    ops::clip_gradients<B, T>(*ctx_, parameters_.chunks(), config_.max_gradient_norm, loss_value(), partial, norm(), factor());
    optimizer_.step(*ctx_, rate, factor());
  }

  void evaluate_uploaded(std::vector<T>& host) {
    Pass<X> pass{*ctx_, saved_, scratch_};
    const WorkspaceScope<B> all(saved_);
    const View<T> logits = pass.keep(batch_.sequences().count, model_->num_labels());
    model_->forward(pass, batch_, logits, activations_);
    B::copy_out(*ctx_, logits.data, host.data(), logits.size() * static_cast<Index>(sizeof(T)));
    B::synchronize(*ctx_);
  }

  double loss_of_uploaded() {
    Pass<X> pass{*ctx_, saved_, scratch_};
    const WorkspaceScope<B> all(saved_);
    B::fill(*ctx_, loss_value(), T(0));
    model_->loss(pass, batch_, objective(1.0), loss_value(), activations_);
    T host{};
    B::copy_out(*ctx_, loss_value().data, &host, static_cast<Index>(sizeof(T)));
    B::synchronize(*ctx_);
    return static_cast<double>(value_of(host));
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
