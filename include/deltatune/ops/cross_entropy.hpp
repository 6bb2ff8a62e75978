// Losses over rows of class scores, forward and gradient in one pass.
//
// Cross-entropy with label smoothing ε (Szegedy et al. 2016, arXiv 1512.00567) and class weights w, as PyTorch defines them:
//   loss = [ (1 − ε) Σ_i w_{t_i} · (−log p_{i,t_i}) + ε/K Σ_i Σ_c w_c · (−log p_{i,c}) ] / Σ_i w_{t_i}
//   dlogits_{i,c} = [ p_{i,c} · ((1 − ε) w_{t_i} + ε/K Σ_c w_c) − (1 − ε) w_{t_i} [c = t_i] − ε/K · w_c ] / Σ_i w_{t_i}
// Mean squared error, for a model with a single output: loss = Σ_i (y_i − t_i)² / B.
#pragma once

#include <cstdint>

#include "deltatune/core/scalar.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

inline constexpr std::int32_t kIgnoredLabel = -100;  // a row that has no label; PyTorch's convention

namespace detail {

template <class T>
struct CrossEntropyRow {
  View<const T> logits;        // (B, K)
  const std::int32_t* labels;  // (B)
  const T* class_weights;      // (K) or nullptr
  double smoothing;
  double inverse_total;  // 1 / Σ_i w_{t_i}
  T* losses;             // (B)
  View<T> dlogits;       // (B, K)

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index classes = logits.cols;
    const Index label = labels[i];
    const T* z = logits.row(i);
    T* dz = dlogits.row(i);
    const T* weights = class_weights;
    if (label == kIgnoredLabel) {
      team.each(classes, [=](Index c) { dz[c] = T(0); });
      team.each(1, [&](Index) { losses[i] = T(0); });
      return;
    }
    const auto weight = [=](Index c) { return weights == nullptr ? T(1) : weights[c]; };
    const T hard = T((1.0 - smoothing) * inverse_total) * weight(label);
    const T soft = T(smoothing * inverse_total / static_cast<double>(classes));
    const T label_logit = z[label];
    const T largest = team.max(classes, [=](Index c) { return z[c]; });
    T total_weight = T(0), weighted_sum = T(0);  // Σ_c w_c and Σ_c w_c (z_c − largest)
    if (smoothing > 0) {
      total_weight = team.sum(classes, weight);
      weighted_sum = team.sum(classes, [=](Index c) { return weight(c) * (z[c] - largest); });
    }
    const T sum = team.sum(classes, [=](Index c) { return dz[c] = exp(z[c] - largest); });  // from here on z may be gone
    const T log_sum = log(sum);
    const T loss = hard * (largest - label_logit + log_sum) + soft * (total_weight * log_sum - weighted_sum);
    const T scale = (hard + soft * total_weight) / sum;
    if (smoothing > 0) {
      team.each(classes, [=](Index c) { dz[c] = scale * dz[c] - soft * weight(c) - (c == label ? hard : T(0)); });
    } else {
      team.each(classes, [=](Index c) { dz[c] = scale * dz[c] - (c == label ? hard : T(0)); });
    }
    team.each(1, [&](Index) { losses[i] = loss; });
  }
};

template <class T>
struct SquaredErrorRow {
  View<const T> logits;  // (B, 1)
  const float* targets;  // (B)
  double inverse_total;  // 1 / B
  T* losses;             // (B)
  View<T> dlogits;       // (B, 1)

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(1, [&](Index) {
      const T difference = logits(i, 0) - T(static_cast<double>(targets[i]));
      losses[i] = difference * difference * T(inverse_total);
      dlogits(i, 0) = T(2.0 * inverse_total) * difference;
    });
  }
};

}  // namespace detail

// logits (B, K), labels (B) in [0, K) or kIgnoredLabel, class_weights (K) or empty -> losses (B), whose sum is the loss, dlogits (B, K),
// which may be logits.
// inverse_total = 1 / Σ_i w_{t_i}, times the share of the batch in a step that accumulates several.
template <class B, class T>
void cross_entropy(typename B::Context& ctx, View<const T> logits, const std::int32_t* labels, View<const T> class_weights, double smoothing,
                   double inverse_total, View<T> losses, View<T> dlogits) {
  B::for_each_row(ctx, logits.rows, logits.cols,
                  detail::CrossEntropyRow<T>{logits, labels, class_weights.data, smoothing, inverse_total, losses.data, dlogits});
}

// logits (B, 1), targets (B) -> losses (B), dlogits (B, 1).
template <class B, class T>
void squared_error(typename B::Context& ctx, View<const T> logits, const float* targets, double inverse_total, View<T> losses, View<T> dlogits) {
  B::for_each_row(ctx, logits.rows, logits.cols, detail::SquaredErrorRow<T>{logits, targets, inverse_total, losses.data, dlogits});
}

}  // namespace deltatune::ops
