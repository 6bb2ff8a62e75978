// By which number the results of a run are compared: which is the best one, and when training stops early.
#pragma once

#include <array>
#include <cmath>
#include <string>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

enum class Metric { accuracy, macro_f1, weighted_f1, matthews, pearson, spearman, loss };

// What a model is asked for has the metrics of classes, of scores (one number per text), or of language.
enum class MetricKind { classes, scores, language };

// num_labels: the model's outputs; 0 for a language model.
constexpr MetricKind metric_kind(Index num_labels) {
  return num_labels == 0 ? MetricKind::language : num_labels == 1 ? MetricKind::scores : MetricKind::classes;
}

// Unless something else is asked for: most right answers, or the smallest loss.
constexpr Metric default_metric(MetricKind kind) { return kind == MetricKind::classes ? Metric::accuracy : Metric::loss; }

namespace detail {
struct NamedMetric {
  std::string_view name;
  Metric metric;
  MetricKind kind;
};
inline constexpr std::array kMetrics{
    NamedMetric{"accuracy", Metric::accuracy, MetricKind::classes},       NamedMetric{"macro_f1", Metric::macro_f1, MetricKind::classes},
    NamedMetric{"weighted_f1", Metric::weighted_f1, MetricKind::classes}, NamedMetric{"matthews", Metric::matthews, MetricKind::classes},
    NamedMetric{"pearson", Metric::pearson, MetricKind::scores},          NamedMetric{"spearman", Metric::spearman, MetricKind::scores}};
}  // namespace detail

// As in files and on the command line: "macro_f1".
DELTATUNE_FUNCTION std::string name_of(Metric metric) {
  for (const detail::NamedMetric& each : detail::kMetrics)
    if (each.metric == metric) return std::string(each.name);
  return "loss";
}

// The metrics of a kind, with ", " between them.
DELTATUNE_FUNCTION std::string metric_names(MetricKind kind) {
  std::string names;
  for (const detail::NamedMetric& each : detail::kMetrics)
    if (each.kind == kind) names += std::string(each.name) + ", ";
  return names + "loss";
}

// Throws Error unless models of the kind have the metric. where: what the message names.
DELTATUNE_FUNCTION void check_metric(Metric metric, MetricKind kind, const std::string& where = "metric") {
  if (metric == Metric::loss) return;
  for (const detail::NamedMetric& each : detail::kMetrics)
    if (each.metric == metric && each.kind == kind) return;
  const char* const model = kind == MetricKind::classes ? "a classifier" : kind == MetricKind::scores ? "a model of scores" : "a language model";
  throw Error(where, std::string("does not fit ") + model, {.expected = metric_names(kind), .got = name_of(metric)});
}

// The metric of that name. Throws Error for one that does not exist, or that models of the kind do not have.
DELTATUNE_FUNCTION Metric metric_of(std::string_view name, MetricKind kind, const std::string& where = "metric") {
  if (name == "loss") return Metric::loss;
  for (const detail::NamedMetric& each : detail::kMetrics) {
    if (each.name != name) continue;
    check_metric(each.metric, kind, where);
    return each.metric;
  }
  throw Error(where, "is not known", {.expected = metric_names(kind), .got = std::string(name)});
}

}  // namespace deltatune
