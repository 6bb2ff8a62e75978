// The training loop: batches in seeded order, evaluations, the best result, early stopping.
#pragma once

#include <cmath>
#include <functional>
#include <optional>
#include <vector>

#include "deltatune/train/checkpoint.hpp"
#include "deltatune/train/evaluation.hpp"
#include "deltatune/train/trainer.hpp"

namespace deltatune {

struct FitConfig {
  Index steps = 0;                    // updates
  Index batch_size = 32;              // sequences a batch
  Index accumulation = 1;             // batches an update
  Index evaluate_every = 0;           // updates between evaluations; 0: after each epoch. The last update is always evaluated.
  Index patience = 0;                 // stop after so many evaluations without a better result; 0: never
  std::optional<Metric> metric = {};  // which result is better; none: default_metric()
};

// Updates in one pass over the data.
inline Index steps_per_epoch(Index examples, Index batch_size, Index accumulation) {
  return std::max<Index>(1, BatchOrder(examples, batch_size, 0).per_epoch() / accumulation);
}

// What the caller may do on the way; every member may be empty.
struct FitCallbacks {
  std::function<void(const StepReport&)> after_step;
  std::function<void(const Evaluation&, const Progress&, bool is_best)> after_evaluation;  // is_best: the time to save the adapter
  std::function<void(const Progress&)> at_rest;  // after each update and the evaluation that belongs to it: the time to save a checkpoint
  std::function<bool()> should_stop;             // asked after at_rest: true ends the training there, with what has been done so far
};

namespace detail {
// Whether the result is better than the best so far; of equal ones that with the smaller loss is. What is NaN is worse than everything else.
DELTATUNE_FUNCTION bool is_better(double value, double loss, const Progress& best) {
  if (best.best_step == 0) return true;
  if (std::isnan(value) || std::isnan(best.best_value)) return std::isnan(best.best_value) && !std::isnan(value);
  return value > best.best_value || (value == best.best_value && loss < best.best_loss);
}
}  // namespace detail

// Trains from `progress` (of a new run, or of a checkpoint) to config.steps. evaluation: nullptr for none. Plans the trainer's memory first.
// Throws Error for a metric that the model does not have.
template <class Model>
Progress fit(Trainer<Model>& trainer, const Dataset& training, const Dataset* evaluation, const FitConfig& config, Progress progress,
             const FitCallbacks& callbacks) {
  if (config.steps < 1) throw Error("steps", "nothing to do", {.expected = "at least 1", .got = std::to_string(config.steps)});
  if (config.accumulation < 1) throw Error("accumulation", "is not a count", {.expected = "at least 1", .got = std::to_string(config.accumulation)});
  const MetricKind kind = metric_kind(trainer.model().is_language_model() ? 0 : trainer.model().num_labels());
  const Metric metric = config.metric.value_or(default_metric(kind));
  check_metric(metric, kind);
  BatchOrder order(training.size(), config.batch_size, trainer.config().seed);
  const Index interval = config.evaluate_every > 0 ? config.evaluate_every : steps_per_epoch(training.size(), config.batch_size, config.accumulation);
  trainer.plan(training.largest_batch(config.batch_size));
  if (evaluation != nullptr) trainer.plan(evaluation->largest_batch(config.batch_size));

  std::vector<PackedBatch> batches(static_cast<std::size_t>(config.accumulation));
  const auto out_of_patience = [&] { return config.patience > 0 && progress.evaluations_since_best >= config.patience; };
  while (progress.step < config.steps && !out_of_patience()) {
    for (Index i = 0; i < config.accumulation; ++i)
      batches[static_cast<std::size_t>(i)] = training.batch(order.members(progress.step * config.accumulation + i));
    const StepReport report = trainer.step(batches);
    progress.step = report.step;
    if (callbacks.after_step) callbacks.after_step(report);
    if (evaluation != nullptr && (progress.step % interval == 0 || progress.step == config.steps)) {
      const Evaluation result = evaluate(trainer, *evaluation, config.batch_size);
      const double value = result.value(metric, kind);
      const bool is_best = detail::is_better(value, result.loss, progress);
      if (is_best) {
        progress.best_step = progress.step;
        progress.best_accuracy = result.accuracy;
        progress.best_loss = result.loss;
        progress.best_value = value;
      }
      progress.evaluations_since_best = is_best ? 0 : progress.evaluations_since_best + 1;
      if (callbacks.after_evaluation) callbacks.after_evaluation(result, progress, is_best);
    }
    if (callbacks.at_rest) callbacks.at_rest(progress);
    if (callbacks.should_stop && callbacks.should_stop()) break;
  }
  return progress;
}

}  // namespace deltatune
