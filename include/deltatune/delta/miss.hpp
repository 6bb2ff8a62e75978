// MiSS: one matrix shared by all shards of a weight. Kang and Yin 2024, arXiv 2409.15371 (there "Bone" at first), in its balanced and its mini form.
//
//   u_k = Σ_b x'_{bR+k},   x' = m∘x,   y = x·Wᵀ + u·D̃,   D̃ = D, or D repeated over the columns (mini);   m: dropout on the delta's input only
//   backward, with du = dy·D̃ᵀ:   dD += uᵀ·dy, or that of all repetitions,   dx_i += m_i·du_{i mod R}
//
// Shapes      D (R, out), mini (R, M) with M a divisor of out; u (N, R). What of `in` is left behind the last whole shard of R columns is a shard, too
// Start       D = 0: the delta changes nothing
// Parameters  R·out a site; mini R·M
// Seam        weight; usually query and value. Backward reads u and not x
// Merge       exact: W[o, i] + D̃[i mod R, o]
// Files       PEFT: <site>.miss_block
#pragma once

#include <string>

#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/delta/check_settings.hpp"
#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/seam/weight.hpp"

namespace deltatune {

struct MissConfig {
  Index rank = 64;
  Index mini = 0;  // M; 0: the balanced form
  double dropout = 0;

  // Throws Error; `where` names the place the numbers come from.
  void validate(const std::string& where) const {
    detail::check_rank(where + ": r", rank);
    if (mini < 0) throw Error(where + ": mini_r", "is not a size", {.expected = "at least 1", .got = std::to_string(mini)});
    detail::check_dropout(where + ": miss_dropout", dropout);
  }
};

namespace detail {

// y_k = Σ_b x_{b·|y|+k}
template <class T>
struct FoldRow {
  View<const T> x;
  View<T> y;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index width = y.cols;
    T* const to = y.row(i);
    team.each(width, [=](Index k) { to[k] = T(0); });
    for (Index first = 0; first < x.cols; first += width) {
      const T* const from = x.row(i) + first;
      team.each(x.cols - first < width ? x.cols - first : width, [=](Index k) { to[k] = to[k] + from[k]; });
    }
  }
};

// y_j = or += x_{j mod |x|}
template <class T>
struct UnfoldRow {
  View<const T> x;
  View<T> y;
  bool accumulate;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index width = x.cols;
    const T* const from = x.row(i);
    const bool adds = accumulate;
    for (Index first = 0; first < y.cols; first += width) {
      T* const to = y.row(i) + first;
      team.each(y.cols - first < width ? y.cols - first : width, [=](Index k) { to[k] = adds ? to[k] + from[k] : from[k]; });
    }
  }
};

// W[o, i] += D[i mod R, o mod M]
template <class T>
struct AddShardsRow {
  View<const T> d;
  View<T> w_io;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index o) const {
    const View<const T> shard = d;
    const Index column = o % d.cols;
    T* const to = w_io.row(o);
    team.each(w_io.cols, [=](Index i) { to[i] = to[i] + shard(i % shard.rows, column); });
  }
};

}  // namespace detail

template <class X>
class Miss {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kIsSum = true;

  using Saved = detail::LowRankSaved<T>;

  // For a site with this path and an (out, in) weight. Throws Error for sizes that do not fit it.
  Miss(Context& ctx, const std::string& site, Index in, Index out, const MissConfig& config)
      : config_(config), d_(ctx, site + ".miss_block", {config.rank, config.mini > 0 ? config.mini : out}) {
    if (config.rank > in) throw Error(site, "has fewer inputs than r", {.expected = "at most " + std::to_string(in), .got = std::to_string(config.rank)});
    if (out % d_->shape()[1] != 0)
      throw Error(site, "has outputs that mini_r does not divide", {.expected = "a divisor of " + std::to_string(out), .got = std::to_string(config.mini)});
  }

  template <class F>
  void visit(const F& f) {
    f(*d_);
  }

  bool needs_input() const { return false; }

  void forward(Pass<X>& pass, View<const T> x, View<T> y_io, Saved& saved) const {
    const View<T> u = pass.keep(x.rows, config_.rank);
    saved = {u, pass.dropout(config_.dropout)};
    const auto scope = pass.scope();
    B::for_each_row(pass.ctx, u.rows, x.cols, detail::FoldRow<T>{detail::dropped(pass, saved.dropout, x), u});
    const bool whole = repetitions(y_io) == 1;
    const View<T> z = whole ? y_io : pass.take(y_io.rows, columns());
    B::gemm(pass.ctx, Gemm<T>{.a = u, .b = d_->value(), .c = z, .beta = T(whole ? 1 : 0)});
    if (!whole) B::for_each_row(pass.ctx, y_io.rows, y_io.cols, detail::UnfoldRow<T>{z, y_io, true});
  }

  void backward(Pass<X>& pass, const Saved& saved, View<const T> /*x*/, View<T> dy_io, GradientSink<T>& dx) {
    const auto scope = pass.scope();
    View<const T> dz = dy_io;
    if (repetitions(dy_io) > 1) {
      const View<T> folded = pass.take(dy_io.rows, columns());
      B::for_each_row(pass.ctx, dy_io.rows, dy_io.cols, detail::FoldRow<T>{dy_io, folded});
      dz = folded;
    }
    if (const View<T> dd = d_->gradient()) B::gemm(pass.ctx, Gemm<T>{.a = saved.u, .b = dz, .c = dd, .transpose_a = true, .beta = T(1)});
    if (!dx.wanted()) return;
    const View<T> du = pass.take(dy_io.rows, config_.rank);
    B::gemm(pass.ctx, Gemm<T>{.a = dz, .b = d_->value(), .c = du, .transpose_b = true});
    const bool adds = dx.next_beta() == T(1);
    if (!saved.dropout.active()) return B::for_each_row(pass.ctx, du.rows, dx.view().cols, detail::UnfoldRow<T>{du, dx.view(), adds});
    const View<T> d_dropped = pass.take(du.rows, dx.view().cols);
    B::for_each_row(pass.ctx, du.rows, d_dropped.cols, detail::UnfoldRow<T>{du, d_dropped, false});
    ops::dropout<B, T>(pass.ctx, saved.dropout, d_dropped, dx.view(), adds);
  }

  void merge(Context& ctx, View<T> w_io, View<T> /*b_io*/) const { B::for_each_row(ctx, w_io.rows, w_io.cols, detail::AddShardsRow<T>{d_->value(), w_io}); }

 private:
  Index columns() const { return d_->shape().at(1); }
  Index repetitions(View<const T> y) const { return y.cols / columns(); }

  MissConfig config_;
  detail::OwnParameter<X> d_;
};

}  // namespace deltatune
