// Attention over packed sequences (formula, maps and shapes: backend/attention.hpp), forward and backward.
//
// The bodies here hold for every backend: the team of a (row, head) shares the D columns of that head, and scores are never stored.
// A backend with a better body offers attention_fits(plan), attention_scratch, attention_forward and attention_backward, and is asked first.
#pragma once

#include "deltatune/backend/attention.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/tensor/workspace.hpp"

namespace deltatune::ops {

namespace detail {

// o_i by one pass over the keys: running maximum and sum, with what is already summed rescaled when the maximum rises
// (Milakov and Gimelshein 2018, arXiv 1805.02867).
template <class T>
struct AttentionForwardRow {
  AttentionForward<T> op;

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index task) const {
    const AttentionPlan& plan = op.plan;
    const Index row = task / plan.heads;
    const Index h = task % plan.heads;
    const Index b = plan.queries.row_sequence[row];
    const Index width = plan.head_width;
    const T* q = op.q.row(row) + h * width;
    T* o = op.o.row(row) + h * width;
    team.each(width, [&](Index d) { o[d] = T(0); });
    T largest{};
    T sum = T(0);
    const Index visible = plan.visible_keys(b, row - plan.queries.first(b));
    for (Index j = 0; j < visible; ++j) {
      const T* k = op.k.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
      const T* v = op.v.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
      const T score = T(plan.scale) * team.sum(width, [&](Index d) { return q[d] * k[d]; });
      const T raised = j == 0 || largest < score ? score : largest;
      const T rescale = j == 0 ? T(0) : exp(largest - raised);
      const T weight = exp(score - raised);
      const T kept = weight * plan.dropout.template factor<T>(plan.dropout_row(row, h) + static_cast<std::uint64_t>(j));
      largest = raised;
      sum = sum * rescale + weight;
      team.each(width, [&](Index d) { o[d] = o[d] * rescale + kept * v[d]; });
    }
    team.each(width, [&](Index d) { o[d] = o[d] / sum; });
    team.each(1, [&](Index) { op.lse(row, h) = largest + log(sum); });
  }
};

// dq of one query, and δ = Σ_j p_j dp_j, which the keys' pass needs.
template <class T>
struct AttentionBackwardQuery {
  AttentionBackward<T> op;
  View<T> delta;  // (Nq, H)

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index task) const {
    const AttentionPlan& plan = op.plan;
    const Index row = task / plan.heads;
    const Index h = task % plan.heads;
    const Index b = plan.queries.row_sequence[row];
    const Index width = plan.head_width;
    const T* q = op.q.row(row) + h * width;
    const T* d_o = op.d_o.row(row) + h * width;
    T* dq = op.dq.row(row) + h * width;
    const Index visible = plan.visible_keys(b, row - plan.queries.first(b));
    T mean = T(0);
    for (int pass = 0; pass < 2; ++pass) {
      if (pass == 1) team.each(width, [&](Index d) { dq[d] = T(0); });
      for (Index j = 0; j < visible; ++j) {
        const T* k = op.k.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
        const T* v = op.v.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
        const T p = exp(T(plan.scale) * team.sum(width, [&](Index d) { return q[d] * k[d]; }) - op.lse(row, h));
        const T dp =
            plan.dropout.template factor<T>(plan.dropout_row(row, h) + static_cast<std::uint64_t>(j)) * team.sum(width, [&](Index d) { return d_o[d] * v[d]; });
        if (pass == 0) {
          mean = mean + p * dp;
        } else {
          const T ds = T(plan.scale) * p * (dp - mean);
          team.each(width, [&](Index d) { dq[d] = dq[d] + ds * k[d]; });
        }
      }
    }
    team.each(1, [&](Index) { delta(row, h) = mean; });
  }
};

// dk and dv of one key and one key/value head, over all queries that saw it.
template <class T>
struct AttentionBackwardKey {
  AttentionBackward<T> op;
  View<const T> delta;  // (Nq, H)

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index task) const {
    const AttentionPlan& plan = op.plan;
    const Index row = task / plan.kv_heads;
    const Index kv_head = task % plan.kv_heads;
    const Index b = plan.keys.row_sequence[row];
    const Index j = row - plan.keys.first(b);
    const Index width = plan.head_width;
    const Index group = plan.heads / plan.kv_heads;
    const T* k = op.k.row(row) + kv_head * width;
    const T* v = op.v.row(row) + kv_head * width;
    T* dk = op.dk.row(row) + kv_head * width;
    T* dv = op.dv.row(row) + kv_head * width;
    team.each(width, [&](Index d) { dk[d] = dv[d] = T(0); });
    for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (Index t = 0; t < plan.queries.length(b); ++t) {
        if (j >= plan.visible_keys(b, t)) continue;
        const Index query = plan.queries.first(b) + t;
        const T* q = op.q.row(query) + h * width;
        const T* d_o = op.d_o.row(query) + h * width;
        const T p = exp(T(plan.scale) * team.sum(width, [&](Index d) { return q[d] * k[d]; }) - op.lse(query, h));
        const T kept = plan.dropout.template factor<T>(plan.dropout_row(query, h) + static_cast<std::uint64_t>(j));
        const T dp = kept * team.sum(width, [&](Index d) { return d_o[d] * v[d]; });
        const T ds = T(plan.scale) * p * (dp - delta(query, h));
        team.each(width, [&](Index d) {
          dk[d] = dk[d] + ds * q[d];
          dv[d] = dv[d] + kept * p * d_o[d];
        });
      }
    }
  }
};

}  // namespace detail

// Writes op.o and op.lse. op.scratch is filled in here.
template <class B, class T>
void attention_forward(typename B::Context& ctx, AttentionForward<T> op, Workspace<B>& workspace) {
  if constexpr (requires { B::attention_forward(ctx, op); }) {
    if (B::attention_fits(op.plan)) {
      const WorkspaceScope<B> scope(workspace);
      op.scratch = B::template attention_scratch<T>(ctx, op.plan, workspace);
      return B::attention_forward(ctx, op);
    }
  }
  B::for_each_row(ctx, op.plan.queries.rows * op.plan.heads, op.plan.head_width, detail::AttentionForwardRow<T>{op});
}

// Overwrites op.dq, op.dk and op.dv.
template <class B, class T>
void attention_backward(typename B::Context& ctx, AttentionBackward<T> op, Workspace<B>& workspace) {
  const WorkspaceScope<B> scope(workspace);
  if constexpr (requires { B::attention_backward(ctx, op); }) {
    if (B::attention_fits(op.plan)) {
      op.scratch = B::template attention_scratch<T>(ctx, op.plan, workspace);
      return B::attention_backward(ctx, op);
    }
  }
  const View<T> delta = workspace.template take<T>(op.plan.queries.rows, op.plan.heads);
  B::for_each_row(ctx, op.plan.queries.rows * op.plan.heads, op.plan.head_width, detail::AttentionBackwardQuery<T>{op, delta});
  B::for_each_row(ctx, op.plan.keys.rows * op.plan.kv_heads, op.plan.head_width, detail::AttentionBackwardKey<T>{op, delta});
}

}  // namespace deltatune::ops
