// AdaLoRA: LoRA in the form of a singular value decomposition, whose smallest values are pruned during training until a budget of ranks is met.
// Zhang et al. 2023, arXiv 2303.10512; with the arithmetic of PEFT.
//
//   y = x·Wᵀ + s·(E ∘ ((m∘x)·Aᵀ))·Bᵀ,   s = α / (R + 1e-5) with the R of the start, however many ranks are left
//   backward, with x' = m∘x, u = x'·Aᵀ, dq = s·dy·B:
//     dB += s·dyᵀ·(E∘u),   dE += Σ_rows dq∘u,   dA += (E∘dq)ᵀ·x',   dx += m∘((E∘dq)·A)
//   penalty   λ · mean over all A and B of ‖A·Aᵀ − I‖, ‖Bᵀ·B − I‖ (Frobenius, not squared)
//   importance of an element, after every update:  I = |p·dp|,  Ī ← β₁Ī + (1−β₁)I,  Ū ← β₂Ū + (1−β₂)|I − Ī|,  score Ī·Ū
//   score of rank k:  that of E(k) + mean of those of A(k, ·) + mean of those of B(·, k)
//   budget at update t = 0, 1, …, T−1, of ranks in the whole model, from b₀ = R·sites to b₁ = target·sites:
//     b₀ until t_init;   b₁ + (b₀ − b₁)·(1 − (t − t_init)/(T − t_final − t_init))³;   b₁ from T − t_final on, with the ranks chosen then
//   every Δt updates E of the b₀ − b(t) ranks with the smallest scores becomes 0
//
// Shapes      A (R, in), E (R, 1), B (out, R)
// Start       A and B normal with deviation 0.02, E = 0: the delta is 0
// Parameters  R·(in + out + 1) a site
// Seam        weight, with the budget in the parameter seam; usually query and value
// Merge       exact: W + s·B·diag(E)·A
// Files       PEFT: <site>.lora_A, <site>.lora_E, <site>.lora_B, of the ranks that are left
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/scale.hpp"
#include "deltatune/seam/parameter.hpp"
#include "deltatune/seam/weight.hpp"

namespace deltatune {

struct AdaLoraConfig {
  Index rank = 12;   // R, at the start
  Index target = 8;  // ranks a site in the end, on average
  double alpha = 8;
  double dropout = 0;
  double penalty = 0.5;  // λ
  Index first = 0;       // t_init
  Index last = 0;        // t_final
  Index every = 1;       // Δt
  double beta1 = 0.85;
  double beta2 = 0.85;
  Index total = 0;  // T where the run does not say it

  double scale() const { return (alpha > 0 ? alpha : static_cast<double>(rank)) / (static_cast<double>(rank) + 1e-5); }

  void validate(const std::string& where) const {
    const auto check = [&](bool holds, const char* field, const char* expected) {
      if (!holds) throw Error(where + ": " + field, "is not usable", {.expected = expected});
    };
    check(rank >= 1, "init_r", "at least 1");
    check(target >= 1 && target <= rank, "target_r", "1 to init_r");
    check(std::isfinite(alpha), "lora_alpha", "a finite number");
    check(dropout >= 0 && dropout < 1, "lora_dropout", "0 <= p < 1");
    check(penalty >= 0 && std::isfinite(penalty), "orth_reg_weight", "a finite number >= 0");
    check(first >= 0, "tinit", "at least 0");
    check(last >= 0, "tfinal", "at least 0");
    check(every >= 1, "deltaT", "at least 1");
    check(beta1 > 0 && beta1 < 1, "beta1", "between 0 and 1");
    check(beta2 > 0 && beta2 < 1, "beta2", "between 0 and 1");
    check(total == 0 || first < total - last, "total_step", "more than tinit + tfinal");
  }

  // Ranks that may stay after update t of `steps`, out of `ranks` in `sites` sites.
  Index budget(Index t, Index steps, Index ranks, Index sites) const {
    const Index goal = target * sites;
    if (t <= first) return ranks;
    if (t > steps - last) return goal;
    const double left = 1.0 - static_cast<double>(t - first) / static_cast<double>(steps - last - first);
    return static_cast<Index>(static_cast<double>(ranks - goal) * (left * left * left) + static_cast<double>(goal));
  }
};

template <class X>
class AdaLora {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kIsSum = true;

  using Saved = detail::LowRankSaved<T>;

  // For a site with this path and an (out, in) weight. rank: those that are left, from 0 to config.rank.
  AdaLora(Context& ctx, const std::string& site, Index in, Index out, AdaLoraConfig config, Index rank, RandomKey key_a, RandomKey key_b)
      : config_(config),
        rank_(rank),
        a_(ctx, site + ".lora_A", {rank, in}, detail::normal_start(key_a, 0.02)),
        e_(ctx, site + ".lora_E", {rank, 1}),
        b_(ctx, site + ".lora_B", {out, rank}, detail::normal_start(key_b, 0.02)) {
    if (rank_ > 0) return;
    visit([](Parameter<X>& nothing) { nothing.set_constant(); });
  }

  Index rank() const { return rank_; }
  Parameter<X>& a() { return *a_; }
  Parameter<X>& e() { return *e_; }
  Parameter<X>& b() { return *b_; }

  template <class F>
  void visit(const F& f) {
    f(*a_);
    f(*e_);
    f(*b_);
  }

  bool needs_input() const { return a_->trains(); }

  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    const View<T> u = pass.keep(x.rows, rank_);
    saved = {u, pass.dropout(config_.dropout)};
    if (rank_ == 0) return;
    const auto scope = pass.scope();
    B::gemm(pass.ctx, Gemm<T>{.a = detail::dropped(pass, saved.dropout, x), .b = a_->value(), .c = u, .transpose_b = true});
    add_up_projection(pass, u, y_io);
  }
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T>& dx) {
    if (rank_ == 0) return;
    const auto scope = pass.scope();
    const View<T> du = pass.take(dy_io.rows, rank_);
    u_backward(pass, saved, dy_io, du);
    if (a_->trains()) a_backward(pass, du, detail::dropped(pass, saved.dropout, x));
    detail::dropped_backward(pass, saved.dropout, du, a_->value(), dx);
  }

  // As LoRA's: the layer may multiply with A where no dropout stands before it.
  Index low_rank() const { return config_.dropout == 0 ? rank_ : 0; }
  void place(Context& ctx, View<T> rows) { a_.move(ctx, rows); }
  void forward(Pass<X>& pass, View<const T> /*x*/, View<const T> u, View<T> y_io, Saved& saved) const {
    saved = {u, pass.dropout(config_.dropout)};
    add_up_projection(pass, u, y_io);
  }
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, View<T> du) {
    u_backward(pass, saved, dy_io, du);
    if (a_->trains()) a_backward(pass, du, x);
  }

  void merge(Context& ctx, View<T> w_io, View<T> /*b_io*/) const {
    if (rank_ == 0) return;
    X scaled(ctx, b_->shape());
    ops::scale_columns<B, T>(ctx, b_->value(), e_->value(), scaled.view());
    B::gemm(ctx, Gemm<T>{.a = scaled.view(), .b = a_->value(), .c = w_io, .alpha = scale(), .beta = T(1)});
  }

 private:
  T scale() const { return T(config_.scale()); }

  void add_up_projection(Pass<X>& pass, View<const T> u, View<T> y_io) const {
    const auto scope = pass.scope();
    const View<T> q = pass.take(u.rows, rank_);
    ops::scale_columns<B, T>(pass.ctx, u, e_->value(), q);
    B::gemm(pass.ctx, Gemm<T>{.a = q, .b = b_->value(), .c = y_io, .transpose_b = true, .alpha = scale(), .beta = T(1)});
  }
  // dB, dE, and the gradient of u.
  void u_backward(Pass<X>& pass, const Saved& saved, View<const T> dy, View<T> du) {
    const auto scope = pass.scope();
    if (const View<T> db = b_->gradient()) {
      const View<T> q = pass.take(dy.rows, rank_);
      ops::scale_columns<B, T>(pass.ctx, saved.u, e_->value(), q);
      B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = q, .c = db, .transpose_a = true, .alpha = scale(), .beta = T(1)});
    }
    B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = b_->value(), .c = du, .alpha = scale()});
    if (const View<T> de = e_->gradient()) ops::column_dot<B, T>(pass.ctx, du, saved.u, de);
    ops::scale_columns<B, T>(pass.ctx, du, e_->value(), du);
  }
  void a_backward(Pass<X>& pass, View<const T> du, View<const T> x) {
    B::gemm(pass.ctx, Gemm<T>{.a = du, .b = x, .c = a_->gradient(), .transpose_a = true, .beta = T(1)});
  }

  AdaLoraConfig config_;
  Index rank_;
  detail::OwnParameter<X> a_, e_, b_;
};

namespace detail {

// gram_io (R, R) = P·Pᵀ: the term joins the loss, and what remains is twice the gradient to P·Pᵀ, so that times P it is the gradient to P.
template <class T>
struct OrthogonalTerm {
  View<T> gram_io;
  T weight;
  T* loss_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index) const {
    const View<T> g = gram_io;
    const Index n = g.cols;
    team.each(n * n, [=](Index k) {
      if (k / n == k % n) g.data[k] = g.data[k] - T(1);
    });
    const T length = sqrt(team.sum(n * n, [=](Index k) { return g.data[k] * g.data[k]; }));
    const T factor = T(0) < length ? (weight + weight) / length : T(0);
    team.each(n * n, [=](Index k) { g.data[k] = g.data[k] * factor; });
    team.each(1, [&](Index) { *loss_io = *loss_io + weight * length; });
  }
};

// Averages of how much the elements of a parameter matter.
template <class T>
struct ImportanceRow {
  View<const T> value, gradient;
  T gradient_scale, beta1, beta2;
  View<T> mean_io, spread_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(value.cols, [&](Index j) {
      const T now = abs(value(i, j) * gradient(i, j) * gradient_scale);
      const T mean = beta1 * mean_io(i, j) + (T(1) - beta1) * now;
      mean_io(i, j) = mean;
      spread_io(i, j) = beta2 * spread_io(i, j) + (T(1) - beta2) * abs(now - mean);
    });
  }
};

// scores_io(k) += the mean of row k's scores.
template <class T>
struct RowScore {
  View<const T> mean, spread;
  T* scores_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index k) const {
    const T sum = team.sum(mean.cols, [x = mean.row(k), y = spread.row(k)](Index j) { return x[j] * y[j]; });
    team.each(1, [&](Index) { scores_io[k] = scores_io[k] + sum / T(static_cast<double>(mean.cols)); });
  }
};
template <class T>
struct ColumnScore {
  View<const T> mean, spread;
  DELTATUNE_INLINE T operator()(Index i, Index k) const { return mean(i, k) * spread(i, k) / T(static_cast<double>(mean.rows)); }
};

template <class T>
struct KeepRank {
  const T* keep;
  T* e_io;
  DELTATUNE_HD void operator()(Index k) const { e_io[k] = keep[k] != T(0) ? e_io[k] : T(0); }
};

}  // namespace detail

// What the deltas of one attachment share: the penalty, importances, and which ranks are left.
template <class X>
class AdaLoraBudget {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  // The deltas stay where they are.
  AdaLoraBudget(Context& ctx, AdaLoraConfig config, const std::vector<AdaLora<X>*>& deltas) : config_(config) {
    for (AdaLora<X>* const delta : deltas) {
      if (delta->rank() == 0) continue;
      sites_.push_back({delta, ranks_, Averages(ctx, delta->a()), Averages(ctx, delta->e()), Averages(ctx, delta->b())});
      ranks_ += delta->rank();
    }
    count_ = static_cast<Index>(deltas.size());
    scores_ = X(ctx, {ranks_});
    keep_ = detail::OwnParameter<X>(ctx, deltas.front()->e().path() + ".kept", {ranks_}, [](Index) { return 1.0; });
    make_state(*keep_);
  }

  // What a run that was interrupted goes on with.
  template <class F>
  void visit(const F& f) {
    for (Site& site : sites_)
      for (Averages* const averages : {&site.a, &site.e, &site.b}) {
        f(*averages->mean);
        f(*averages->spread);
      }
    f(*keep_);
  }

  void penalty(Pass<X>& pass, View<T> loss_io) {
    if (config_.penalty == 0) return;
    const T weight = T(config_.penalty / static_cast<double>(2 * count_));
    for (const Site& site : sites_) {
      const View<const T> a = site.delta->a().value(), b = site.delta->b().value();
      const View<T> da = site.delta->a().gradient(), db = site.delta->b().gradient();
      const Index r = site.delta->rank();
      const auto scope = pass.scope();
      const View<T> gram = pass.take(r, r);
      if (da) {
        B::gemm(pass.ctx, Gemm<T>{.a = a, .b = a, .c = gram, .transpose_b = true});
        B::for_each_row(pass.ctx, 1, r * r, detail::OrthogonalTerm<T>{gram, weight, loss_io.data});
        B::gemm(pass.ctx, Gemm<T>{.a = gram, .b = a, .c = da, .beta = T(1)});
      }
      if (db) {
        B::gemm(pass.ctx, Gemm<T>{.a = b, .b = b, .c = gram, .transpose_a = true});
        B::for_each_row(pass.ctx, 1, r * r, detail::OrthogonalTerm<T>{gram, weight, loss_io.data});
        B::gemm(pass.ctx, Gemm<T>{.a = b, .b = gram, .c = db, .beta = T(1)});
      }
    }
  }

  // Throws Error when it isn't known how long the run is, or when it is too short for the schedule.
  void after_step(Context& ctx, const UpdateInfo& info) {
    if (sites_.empty() || !sites_.front().delta->e().trains()) return;
    const Index total = info.total > 0 ? info.total : config_.total;
    if (total == 0) throw Error("AdaLoRA", "needs the length of the run, which its budget follows", {.remedy = "set the schedule's total, or total_step"});
    const Index end = total - config_.last;
    if (config_.first >= end)
      throw Error("AdaLoRA: tinit, tfinal", "leave no update to prune in", {.expected = "tinit < " + std::to_string(total) + " updates - tfinal"});
    const Index t = info.step - 1;
    if (t > end) return keep_ranks(ctx);
    if (t < end) measure(ctx, info.gradient_scale);
    if (t == end || (t > config_.first && t % config_.every == 0)) choose(ctx, config_.budget(t, total, ranks_, count_));
  }

 private:
  struct Averages {
    detail::OwnParameter<X> mean, spread;  // Ī and Ū
    Averages(Context& ctx, const Parameter<X>& parameter)
        : mean(ctx, parameter.path() + ".importance", parameter.shape()), spread(ctx, parameter.path() + ".uncertainty", parameter.shape()) {
      make_state(*mean);
      make_state(*spread);
    }
  };
  static void make_state(Parameter<X>& parameter) {
    parameter.set_constant();
    parameter.set_derived(true);
  }
  struct Site {
    AdaLora<X>* delta;
    Index first;  // its first rank among all
    Averages a, e, b;
  };

  void measure(Context& ctx, double gradient_scale) {
    const auto update = [&](Parameter<X>& parameter, Averages& averages) {
      const View<T> value = parameter.value(), gradient = parameter.gradient();
      B::for_each_row(
          ctx, value.rows, value.cols,
          detail::ImportanceRow<T>{value, gradient, T(gradient_scale), T(config_.beta1), T(config_.beta2), averages.mean->value(), averages.spread->value()});
    };
    for (Site& site : sites_) {
      update(site.delta->a(), site.a);
      update(site.delta->e(), site.e);
      update(site.delta->b(), site.b);
    }
  }
  // The ranks whose scores are above the smallest `ranks - budget`; none goes while the budget has room for all.
  void choose(Context& ctx, Index budget) {
    const Index out = ranks_ - budget;
    if (out <= 0) return;
    B::fill(ctx, scores_.view(), T(0));
    for (const Site& site : sites_) {
      T* const scores = scores_.view().data + site.first;
      const auto rows = [&](const Averages& averages) {
        const View<const T> mean = averages.mean->value();
        B::for_each_row(ctx, mean.rows, mean.cols, detail::RowScore<T>{mean, averages.spread->value(), scores});
      };
      rows(site.e);
      rows(site.a);
      const View<const T> mean = site.b.mean->value();
      B::sum_rows(ctx, mean.rows, mean.cols, detail::ColumnScore<T>{mean, site.b.spread->value()}, scores);
    }
    std::vector<T> scores(static_cast<std::size_t>(ranks_)), sorted;
    B::copy_out(ctx, scores_.view().data, scores.data(), scores_.bytes());
    B::synchronize(ctx);
    sorted = scores;
    std::nth_element(sorted.begin(), sorted.begin() + (out - 1), sorted.end());
    const T threshold = sorted[static_cast<std::size_t>(out - 1)];
    std::vector<T> keep;
    for (const T& score : scores) keep.push_back(threshold < score ? T(1) : T(0));
    B::copy_in(ctx, keep.data(), keep_->value().data, static_cast<Index>(keep.size() * sizeof(T)));
    keep_ranks(ctx);
  }
  // Those that are out stay out: the optimiser's momentum moves what has no gradient.
  void keep_ranks(Context& ctx) {
    for (const Site& site : sites_) B::for_each(ctx, site.delta->rank(), detail::KeepRank<T>{keep_->value().data + site.first, site.delta->e().value().data});
  }

  AdaLoraConfig config_;
  std::vector<Site> sites_;  // those with ranks
  Index count_ = 0;          // all
  Index ranks_ = 0;
  X scores_;                      // of all ranks
  detail::OwnParameter<X> keep_;  // of all ranks: 1, or 0 for those that are out
};

}  // namespace deltatune
