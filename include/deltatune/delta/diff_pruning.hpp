// Diff pruning: a sparse difference to the frozen parameters, found with a relaxed L0 penalty. Guo et al. 2020, arXiv 2012.07463; hard-concrete
// gates: Louizos et al. 2018, arXiv 1712.01312.
//
//   θ = θ₀ + z∘w,   z = z_i (· z_g, structured: one more gate for each parameter as a group)
//   gate of a location a:  u uniform,  s = σ(log u − log(1 − u) + a),  z = clip(s·(r − l) + l, 0, 1),   l = −1.5, r = 1.5
//                          without noise: s = σ(a)
//   penalty λ·Σ P(z ≠ 0),   P(z_i ≠ 0) = σ(a_i − log(−l/r));  structured: λ·Σ_i P(z_i ≠ 0)·P(z_g ≠ 0)
//   backward:  dw += dθ∘z,   da += dθ∘w · dz/da,   dz/da = (r − l)·s·(1 − s) where 0 < z < 1
//
// After `prune_at` updates the `density` share of all differences |z·w| that is largest stays, and goes on training with z = 1; the others are 0
// for good.
//
// Shapes      w and a as θ; a_g (1)
// Start       w = 0, a = 5 (z = 1 nearly always): the delta is 0
// Parameters  2 a parameter element (structured: and 1 a parameter) while the gates are learnt; density of them in the end
// Seam        parameter; usually all of the Transformer blocks
// Merge       exact: θ
// Files       none but ours: <parameter>.diff, .log_alpha, .log_alpha_group; once pruned .diff alone, its non-zero elements only
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/delta/replaced_parameter.hpp"
#include "deltatune/ops/reduce.hpp"
#include "deltatune/seam/parameter.hpp"

namespace deltatune {

struct DiffPruningConfig {
  double density = 0.005;    // of all differences, what is kept
  double penalty = 1.25e-7;  // λ
  bool structured = false;
  Index prune_at = 0;  // updates; 0: half of the run

  void validate(const std::string& where) const {
    if (!(density > 0 && density <= 1)) throw Error(where + ": density", "is not a share", {.expected = "0 < density <= 1", .got = std::to_string(density)});
    if (!(penalty >= 0 && std::isfinite(penalty))) throw Error(where + ": penalty", "is not usable", {.expected = "a finite number >= 0"});
    if (prune_at < 0) throw Error(where + ": prune_at", "is not a number of updates", {.expected = "at least 0", .got = std::to_string(prune_at)});
  }
};

namespace detail {

inline constexpr double kGateLow = -1.5, kGateHigh = 1.5;

// One gate: its value, and how it changes with its location.
template <class T>
struct Gate {
  T value = T(1);
  T slope = T(0);

  // noise: with the random number i of `key`.
  DELTATUNE_HD static Gate at(T location, bool noise, RandomKey key, std::uint64_t i) {
    using math::exp;
    using math::log;
    T input = location;
    if (noise) {
      const float u = uniform(key, i) + 0x1p-25F;
      input = input + T(log(u) - log(1.0F - u));
    }
    const T s = T(1) / (T(1) + exp(-input));
    const T stretched = s * T(kGateHigh - kGateLow) + T(kGateLow);
    if (!(T(0) < stretched)) return {T(0), T(0)};
    if (!(stretched < T(1))) return {T(1), T(0)};
    return {stretched, T(kGateHigh - kGateLow) * s * (T(1) - s)};
  }
  // P(z ≠ 0) without noise.
  DELTATUNE_HD static Gate open(T location) {
    using math::exp;
    static_assert(kGateLow == -kGateHigh, "log(-l/r) is 0");
    const T p = T(1) / (T(1) + exp(-location));
    return {p, p * (T(1) - p)};
  }
};

// What the rows of one parameter are computed with.
template <class T>
struct DiffRows {
  View<const T> diff;
  View<const T> log_alpha;  // empty: the gates are fixed, pruned differences are 0
  const T* group;           // or nullptr
  bool noise;
  RandomKey key;
  RandomKey group_key;

  DELTATUNE_HD Gate<T> gate(Index i, Index j) const {
    if (!log_alpha) return {};
    return Gate<T>::at(log_alpha(i, j), noise, key, static_cast<std::uint64_t>(i * diff.cols + j));
  }
  DELTATUNE_HD Gate<T> group_gate() const { return group == nullptr ? Gate<T>{} : Gate<T>::at(*group, noise, group_key, 0); }
};

template <class T>
struct DiffForwardRow {
  DiffRows<T> rows;
  View<const T> base;
  View<T> value;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T group = rows.group_gate().value;
    team.each(value.cols, [&](Index j) { value(i, j) = base(i, j) + rows.gate(i, j).value * group * rows.diff(i, j); });
  }
};

template <class T>
struct DiffBackwardRow {
  DiffRows<T> rows;
  View<T> d_value_io;  // becomes 0
  View<T> d_diff_io;
  View<T> d_log_alpha_io;  // empty without gates
  View<T> d_group;         // (1, rows) or empty: sums of this row
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Gate<T> group = rows.group_gate();
    if (d_group) {
      const T sum = team.sum(d_value_io.cols, [&](Index j) { return d_value_io(i, j) * rows.diff(i, j) * rows.gate(i, j).value; });
      team.each(1, [&](Index) { d_group(0, i) = sum * group.slope; });
    }
    team.each(d_value_io.cols, [&](Index j) {
      const Gate<T> gate = rows.gate(i, j);
      const T d = d_value_io(i, j);
      if (d_log_alpha_io) d_log_alpha_io(i, j) = d_log_alpha_io(i, j) + d * rows.diff(i, j) * group.value * gate.slope;
      d_diff_io(i, j) = d_diff_io(i, j) + d * gate.value * group.value;
      d_value_io(i, j) = T(0);
    });
  }
};

template <class T>
struct DiffPenaltyRow {
  View<const T> log_alpha;
  const T* group;
  double weight;
  View<T> d_log_alpha_io;
  View<T> terms;    // (1, rows): of the penalty
  View<T> d_group;  // (1, rows) or empty
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Gate<T> g = group == nullptr ? Gate<T>{} : Gate<T>::open(*group);
    const T sum = team.sum(log_alpha.cols, [&](Index j) { return Gate<T>::open(log_alpha(i, j)).value; });
    team.each(1, [&](Index) {
      terms(0, i) = T(weight) * sum * g.value;
      if (d_group) d_group(0, i) = T(weight) * sum * g.slope;
    });
    team.each(log_alpha.cols, [&](Index j) { d_log_alpha_io(i, j) = d_log_alpha_io(i, j) + T(weight) * Gate<T>::open(log_alpha(i, j)).slope * g.value; });
  }
};

// Where the mask is 0 the difference stays 0.
template <class T>
struct MaskRow {
  View<const T> mask;
  View<T> x_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(x_io.cols, [&](Index j) { x_io(i, j) = x_io(i, j) * mask(i, j); });
  }
};

}  // namespace detail

template <class X>
class DiffPruning {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  // For these parameters of a model, which stay where they are. pruned: the gates are fixed already, as a file of a finished run has it.
  DiffPruning(Context& ctx, const std::vector<Parameter<X>*>& parameters, DiffPruningConfig config, bool pruned) : config_(config), pruned_(pruned) {
    for (Parameter<X>* const parameter : parameters) entries_.push_back(std::make_unique<Entry>(ctx, *parameter, config_, pruned));
  }

  bool pruned() const { return pruned_; }

  template <class F>
  void visit(const F& f) {
    for (const auto& entry : entries_) {
      f(*entry->diff);
      if (!entry->has_gates()) continue;
      f(*entry->log_alpha);
      if (config_.structured) f(*entry->group);
    }
  }

  template <class F>
  void visit_replaced(const F& f) {
    for (const auto& entry : entries_) f(*entry->parameter);
  }

  void forward(Pass<X>& pass) {
    noise_ = pass.mode == Mode::train && !pruned_;
    key_stream_ = pass.next_stream++;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      Entry& entry = *entries_[i];
      entry.replaced = true;
      const View<T> value = entry.parameter->value();
      B::for_each_row(pass.ctx, value.rows, value.cols, detail::DiffForwardRow<T>{rows(pass, i), entry.base.view(), value});
    }
  }

  void backward(Pass<X>& pass) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      Entry& entry = *entries_[i];
      const auto scope = pass.scope();
      const View<T> d_value = entry.parameter->gradient();
      const bool gates = entry.has_gates() && !pruned_;
      const View<T> d_group = gates && config_.structured ? pass.take(1, d_value.rows) : View<T>();
      B::for_each_row(pass.ctx, d_value.rows, d_value.cols,
                      detail::DiffBackwardRow<T>{rows(pass, i), d_value, entry.diff->gradient(), gates ? entry.log_alpha->gradient() : View<T>(), d_group});
      if (d_group) ops::total<B, T>(pass.ctx, d_group, entry.group->gradient());
      if (pruned_ && entry.mask) mask(pass.ctx, entry, entry.diff->gradient());
    }
  }

  void penalty(Pass<X>& pass, View<T> loss_io) {
    if (pruned_ || config_.penalty == 0) return;
    for (const auto& entry : entries_) {
      const auto scope = pass.scope();
      const View<const T> log_alpha = entry->log_alpha->value();
      const View<T> terms = pass.take(1, log_alpha.rows);
      const View<T> d_group = config_.structured ? pass.take(1, log_alpha.rows) : View<T>();
      B::for_each_row(pass.ctx, log_alpha.rows, log_alpha.cols,
                      detail::DiffPenaltyRow<T>{log_alpha, group_of(*entry), config_.penalty, entry->log_alpha->gradient(), terms, d_group});
      ops::total<B, T>(pass.ctx, terms, loss_io);
      if (d_group) ops::total<B, T>(pass.ctx, d_group, entry->group->gradient());
    }
  }

  // Throws Error when it isn't known how long the run is.
  void after_step(Context& ctx, const UpdateInfo& info) {
    if (pruned_) {
      for (const auto& entry : entries_)
        if (entry->mask) mask(ctx, *entry, entry->diff->value());  // the optimiser's momentum moves what has no gradient
      return;
    }
    if (config_.prune_at == 0 && info.total == 0)
      throw Error("diff pruning", "needs the step at which to prune", {.remedy = "set prune_at, or the schedule's total"});
    if (info.step >= (config_.prune_at > 0 ? config_.prune_at : info.total / 2)) prune(ctx);
  }

  // Keeps the largest differences and fixes the gates.
  void prune(Context& ctx) {
    std::vector<std::vector<double>> differences;
    std::vector<double> sizes;
    for (const auto& entry : entries_) {
      const std::vector<double> diff = host(ctx, entry->diff->value()), location = host(ctx, entry->log_alpha->value());
      const double group = config_.structured ? detail::Gate<double>::at(host(ctx, entry->group->value())[0], false, {}, 0).value : 1.0;
      std::vector<double> difference(diff.size());
      for (std::size_t i = 0; i < diff.size(); ++i) difference[i] = diff[i] * group * detail::Gate<double>::at(location[i], false, {}, 0).value;
      for (const double d : difference) sizes.push_back(std::fabs(d));
      differences.push_back(std::move(difference));
    }
    const std::size_t kept = std::max<std::size_t>(1, static_cast<std::size_t>(config_.density * static_cast<double>(sizes.size())));
    std::nth_element(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(kept - 1), sizes.end(), std::greater<>());
    const double threshold = sizes[kept - 1];
    std::size_t left = kept;  // of equal ones no more than there is room for
    for (std::size_t e = 0; e < entries_.size(); ++e) {
      std::vector<T> diff, mask, location;
      for (const double d : differences[e]) {
        const bool keep = std::fabs(d) > 0 && std::fabs(d) >= threshold && left > 0;
        left -= keep ? 1 : 0;
        diff.push_back(keep ? T(d) : T(0));
        mask.push_back(keep ? T(1) : T(0));
        location.push_back(keep ? T(20) : T(-20));  // a run that goes on from a checkpoint of the values prunes to the same
      }
      Entry& entry = *entries_[e];
      B::copy_in(ctx, diff.data(), entry.diff->value().data, static_cast<Index>(diff.size() * sizeof(T)));
      entry.diff->set_sparse_in_file(true);
      B::copy_in(ctx, location.data(), entry.log_alpha->value().data, static_cast<Index>(location.size() * sizeof(T)));
      if (config_.structured) B::fill(ctx, entry.group->value(), T(20));
      entry.log_alpha->set_derived(true);
      entry.group->set_derived(true);
      entry.mask = X(ctx, entry.parameter->shape());
      B::copy_in(ctx, mask.data(), entry.mask.view().data, entry.mask.bytes());
    }
    pruned_ = true;
  }

  void rest() {
    for (const auto& entry : entries_) entry->restore();
  }
  void merge(Context& ctx) {
    noise_ = false;
    for (const auto& entry : entries_) {
      const View<T> value = entry->parameter->value();
      entry->replaced = true;
      B::for_each_row(ctx, value.rows, value.cols, detail::DiffForwardRow<T>{still_rows(*entry), entry->base.view(), value});
    }
  }

 private:
  struct Entry : detail::ReplacedParameter<X> {
    detail::OwnParameter<X> diff, log_alpha, group;
    X mask;

    Entry(Context& context, Parameter<X>& theta, const DiffPruningConfig& config, bool pruned)
        : detail::ReplacedParameter<X>(context, theta), diff(context, theta.path() + ".diff", theta.shape()) {
      diff->set_sparse_in_file(pruned);
      this->replaced = true;
      if (pruned) return;
      log_alpha = gates(context, theta.path() + ".log_alpha", theta.shape());
      if (config.structured) group = gates(context, theta.path() + ".log_alpha_group", {1});
    }
    bool has_gates() const { return static_cast<bool>(log_alpha); }
    static detail::OwnParameter<X> gates(Context& context, std::string path, const Shape& shape) {
      detail::OwnParameter<X> made(context, std::move(path), shape);
      B::fill(context, made->value(), T(5));
      return made;
    }
  };

  detail::DiffRows<T> rows(const Pass<X>& pass, std::size_t i) const {
    detail::DiffRows<T> result = still_rows(*entries_[i]);
    result.noise = noise_;
    result.key = derive(pass.seed, pass.step, pass.micro_step, key_stream_, 2 * i);
    result.group_key = derive(pass.seed, pass.step, pass.micro_step, key_stream_, 2 * i + 1);
    return result;
  }
  detail::DiffRows<T> still_rows(const Entry& entry) const {
    return {entry.diff->value(), pruned_ ? View<const T>() : View<const T>(entry.log_alpha->value()), pruned_ ? nullptr : group_of(entry), false, {}, {}};
  }
  const T* group_of(const Entry& entry) const { return config_.structured ? entry.group->value().data : nullptr; }
  void mask(Context& ctx, const Entry& entry, View<T> x_io) { B::for_each_row(ctx, x_io.rows, x_io.cols, detail::MaskRow<T>{entry.mask.view(), x_io}); }
  static std::vector<double> host(Context& ctx, View<const T> values) {
    std::vector<T> copy(static_cast<std::size_t>(values.size()));
    B::copy_out(ctx, values.data, copy.data(), values.size() * static_cast<Index>(sizeof(T)));
    B::synchronize(ctx);
    std::vector<double> result;
    for (const T& x : copy) result.push_back(static_cast<double>(value_of(x)));
    return result;
  }

  DiffPruningConfig config_;
  bool pruned_;
  bool noise_ = false;
  std::uint64_t key_stream_ = 0;
  std::vector<std::unique_ptr<Entry>> entries_;
};

}  // namespace deltatune
