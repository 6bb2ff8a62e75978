// How good a model is over a data set: a classifier's answers, how near scores are, a language model's loss.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "deltatune/train/class_counts.hpp"
#include "deltatune/train/correlation.hpp"
#include "deltatune/train/dataset.hpp"
#include "deltatune/train/metric.hpp"
#include "deltatune/train/trainer.hpp"

namespace deltatune {

// Class probabilities from one row of logits.
template <class T>
std::vector<double> softmax(std::span<const T> logits) {
  std::vector<double> p(logits.size());
  const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  std::transform(logits.begin(), logits.end(), p.begin(), [largest](T z) { return std::exp(static_cast<double>(z) - largest); });
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

struct Evaluation {
  Index examples = 0;
  double accuracy = 0;  // 0 for a language model, or one with a single output: nothing to be right about
  double loss = 0;      // mean cross-entropy of examples, of a language model of tokens; or mean squared error
  std::vector<std::int32_t> predictions = {};
  ClassCounts classes = {};          // of a classifier
  double pearson = 0, spearman = 0;  // of a model with a single output

  double perplexity() const { return std::exp(loss); }

  // The larger the better: the loss counts negatively. Throws Error for a metric that models of this kind do not have.
  double value(Metric metric, MetricKind kind) const {
    check_metric(metric, kind);
    switch (metric) {
      case Metric::accuracy:
        return accuracy;
      case Metric::macro_f1:
        return classes.macro_f1();
      case Metric::weighted_f1:
        return classes.weighted_f1();
      case Metric::matthews:
        return classes.matthews();
      case Metric::pearson:
        return pearson;
      case Metric::spearman:
        return spearman;
      case Metric::loss:
        break;
    }
    return -loss;
  }
};

// Runs batches through `logits`, a function from a PackedBatch to its row-major logits (Trainer::logits is one). Without dropout. Throws Error for a label
// that is no class.
template <class Logits>
Evaluation evaluate(const Dataset& data, Index batch_size, Index classes, const Logits& logits) {
  Evaluation result;
  result.examples = data.size();
  if (classes > 1) result.classes = ClassCounts(static_cast<std::size_t>(classes));
  std::vector<double> answers, targets;  // of a single output
  std::vector<Index> members;
  for (Index first = 0; first < data.size(); first += batch_size) {
    members.resize(static_cast<std::size_t>(std::min(batch_size, data.size() - first)));
    std::iota(members.begin(), members.end(), first);
    const auto scores = logits(data.batch(members));
    using T = typename std::remove_cvref_t<decltype(scores)>::value_type;
    for (std::size_t i = 0; i < members.size(); ++i) {
      const std::span<const T> row = std::span<const T>(scores).subspan(i * static_cast<std::size_t>(classes), static_cast<std::size_t>(classes));
      const Example& example = data[members[i]];
      if (classes == 1) {
        answers.push_back(static_cast<double>(row[0]));
        targets.push_back(static_cast<double>(example.target));
        result.loss += std::pow(answers.back() - targets.back(), 2.0);
        continue;
      }
      if (example.label < 0 || example.label >= classes)
        throw Error("example " + std::to_string(members[i]), "label outside the classes",
                    {.expected = "0 to " + std::to_string(classes - 1), .got = std::to_string(example.label)});
      const std::int32_t answer = static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
      result.predictions.push_back(answer);
      result.classes.add(example.label, answer);
      result.loss -= std::log(std::max(softmax(row)[static_cast<std::size_t>(example.label)], 1e-300));
    }
  }
  result.loss /= static_cast<double>(std::max<Index>(1, data.size()));
  result.accuracy = result.classes.accuracy();
  result.pearson = pearson_correlation(answers, targets);
  result.spearman = spearman_correlation(answers, targets);
  return result;
}

// A language model's loss a predicted token, without dropout.
template <class Model>
Evaluation evaluate_language_model(Trainer<Model>& trainer, const Dataset& data, Index batch_size) {
  Evaluation result;
  result.examples = data.size();
  double predicted = 0;
  std::vector<Index> members;
  for (Index first = 0; first < data.size(); first += batch_size) {
    members.resize(static_cast<std::size_t>(std::min(batch_size, data.size() - first)));
    std::iota(members.begin(), members.end(), first);
    const PackedBatch batch = data.batch(members);
    result.loss += trainer.loss(batch);
    predicted += label_weight(batch, {}, trainer.model().layout());
  }
  result.loss /= std::max(1.0, predicted);
  return result;
}

// With the trainer's model, whichever it is.
template <class Model>
Evaluation evaluate(Trainer<Model>& trainer, const Dataset& data, Index batch_size) {
  if (trainer.model().is_language_model()) return evaluate_language_model(trainer, data, batch_size);
  return evaluate(data, batch_size, trainer.model().num_labels(), [&trainer](const PackedBatch& batch) { return trainer.logits(batch); });
}

}  // namespace deltatune
