// Attention over packed sequences (formula, maps and shapes: backend/attention.hpp), forward and backward.
//
// The bodies here hold for every backend: the team of a (row, head) shares the D columns of that head, and scores are never stored.
// A backend with a better body offers attention_fits(plan), attention_scratch, attention_forward and attention_backward, and is asked first.
#pragma once

#include "deltatune/backend/attention.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/tensor/workspace.hpp"

namespace deltatune::ops {

namespace detail {

// A score and its derivative with respect to q·k.
template <class T>
struct Score {
  T value;
  T slope;
};

// The score of query row `row` of sequence b and head h for key j. Plain: without the options of AttentionPlan::plain().
template <bool Plain, class Team, class Op, class T>
DELTATUNE_INLINE Score<T> attention_score(const Team& team, const Op& op, Index b, Index row, Index h, Index j, const T* q, const T* k) {
  const AttentionPlan& plan = op.plan;
  const T product = team.sum(plan.head_width, [&](Index d) { return q[d] * k[d]; });
  if constexpr (Plain) {
    return {T(plan.scale) * product, T(plan.scale)};
  } else {
    const T value = plan.score(product);
    if (!op.bias || j < plan.unbiased_keys) return {value, plan.slope(value)};
    return {value + op.bias(plan.relative.bucket(plan.distance(b, row - plan.queries.first(b), j)), h), plan.slope(value)};
  }
}

// o_i by one pass over the keys: running maximum and sum, with what is already summed rescaled when the maximum rises
// (Milakov and Gimelshein 2018, arXiv 1805.02867).
template <class T, bool Plain>
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
    const IndexRange visible = plan.visible_keys(b, row - plan.queries.first(b));
    for (Index j = visible.begin; j < visible.end; ++j) {
      const T* k = op.k.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
      const T* v = op.v.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
      const T score = attention_score<Plain>(team, op, b, row, h, j, q, k).value;
      const bool first = j == visible.begin;
      const T raised = first || largest < score ? score : largest;
      const T rescale = first ? T(0) : exp(largest - raised);
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

// dq of one query, and δ = Σ_j p_j dp_j, which the passes below need.
template <class T, bool Plain>
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
    const IndexRange visible = plan.visible_keys(b, row - plan.queries.first(b));
    T mean = T(0);
    for (int pass = 0; pass < 2; ++pass) {
      if (pass == 1) team.each(width, [&](Index d) { dq[d] = T(0); });
      for (Index j = visible.begin; j < visible.end; ++j) {
        const T* k = op.k.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
        const T* v = op.v.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
        const Score<T> score = attention_score<Plain>(team, op, b, row, h, j, q, k);
        const T p = exp(score.value - op.lse(row, h));
        const T dp =
            plan.dropout.template factor<T>(plan.dropout_row(row, h) + static_cast<std::uint64_t>(j)) * team.sum(width, [&](Index d) { return d_o[d] * v[d]; });
        if (pass == 0) {
          mean = mean + p * dp;
        } else {
          const T ds = score.slope * p * (dp - mean);
          team.each(width, [&](Index d) { dq[d] = dq[d] + ds * k[d]; });
        }
      }
    }
    team.each(1, [&](Index) { delta(row, h) = mean; });
  }
};

// dk and dv of one key and one key/value head, over all queries that saw it.
template <class T, bool Plain>
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
        const IndexRange visible = plan.visible_keys(b, t);
        if (j < visible.begin || j >= visible.end) continue;
        const Index query = plan.queries.first(b) + t;
        const T* q = op.q.row(query) + h * width;
        const T* d_o = op.d_o.row(query) + h * width;
        const Score<T> score = attention_score<Plain>(team, op, b, query, h, j, q, k);
        const T p = exp(score.value - op.lse(query, h));
        const T kept = plan.dropout.template factor<T>(plan.dropout_row(query, h) + static_cast<std::uint64_t>(j));
        const T dp = kept * team.sum(width, [&](Index d) { return d_o[d] * v[d]; });
        const T ds = score.slope * p * (dp - delta(query, h));
        team.each(width, [&](Index d) {
          dk[d] = dk[d] + ds * q[d];
          dv[d] = dv[d] + kept * p * d_o[d];
        });
      }
    }
  }
};

// d_bias of one bucket and one head: Σ p (dp − δ) over all queries and the keys that this bucket has for them, which are neighbours.
template <class T>
struct AttentionBackwardBias {
  AttentionBackward<T> op;
  View<const T> delta;  // (Nq, H)

  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index task) const {
    const AttentionPlan& plan = op.plan;
    const Index bucket = task / plan.heads;
    const Index h = task % plan.heads;
    const Index width = plan.head_width;
    const IndexRange distances = plan.relative.distances(bucket);
    T sum = T(0);
    for (Index query = 0; query < plan.queries.rows; ++query) {
      const Index b = plan.queries.row_sequence[query];
      const Index t = query - plan.queries.first(b);
      const IndexRange visible = plan.visible_keys(b, t);
      const Index zero = -plan.distance(b, t, 0);  // the key at distance 0
      const Index begin = max(max(visible.begin, plan.unbiased_keys), zero + distances.begin);
      const Index end = min(visible.end, zero + distances.end);
      const T* q = op.q.row(query) + h * width;
      const T* d_o = op.d_o.row(query) + h * width;
      for (Index j = begin; j < end; ++j) {
        const T* k = op.k.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
        const T* v = op.v.row(plan.keys.first(b) + j) + plan.kv_head(h) * width;
        const T p = exp(attention_score<false>(team, op, b, query, h, j, q, k).value - op.lse(query, h));
        const T kept = plan.dropout.template factor<T>(plan.dropout_row(query, h) + static_cast<std::uint64_t>(j));
        sum = sum + p * (kept * team.sum(width, [&](Index d) { return d_o[d] * v[d]; }) - delta(query, h));
      }
    }
    team.each(1, [&](Index) { op.d_bias(bucket, h) = op.d_bias(bucket, h) + sum; });
  }
};

// A bias and its gradient, where there are any, have a row for each bucket and a column for each head.
template <class T>
void check_relative_bias(const AttentionPlan& plan, View<const T> bias) {
  const Shape expected{plan.relative.buckets, plan.heads};
  if (bias && Shape{bias.rows, bias.cols} != expected)
    throw Error("attention", "was given a relative position bias of another shape",
                {.expected = to_string(expected), .got = to_string({bias.rows, bias.cols})});
}

template <bool Plain, class B, class T>
void attention_forward_rows(typename B::Context& ctx, const AttentionForward<T>& op) {
  B::for_each_row(ctx, op.plan.queries.rows * op.plan.heads, op.plan.head_width, AttentionForwardRow<T, Plain>{op});
}

template <bool Plain, class B, class T>
void attention_backward_rows(typename B::Context& ctx, const AttentionBackward<T>& op, View<T> delta) {
  const AttentionPlan& plan = op.plan;
  B::for_each_row(ctx, plan.queries.rows * plan.heads, plan.head_width, AttentionBackwardQuery<T, Plain>{op, delta});
  B::for_each_row(ctx, plan.keys.rows * plan.kv_heads, plan.head_width, AttentionBackwardKey<T, Plain>{op, delta});
  if constexpr (!Plain)
    if (op.d_bias) B::for_each_row(ctx, plan.relative.buckets * plan.heads, plan.head_width, AttentionBackwardBias<T>{op, delta});
}

}  // namespace detail

// Writes op.o and op.lse. op.scratch is filled in here. Throws Error where op.bias is not (buckets, H).
template <class B, class T>
void attention_forward(typename B::Context& ctx, AttentionForward<T> op, Workspace<B>& workspace) {
  detail::check_relative_bias(op.plan, op.bias);
  if constexpr (requires { B::attention_forward(ctx, op); }) {
    if (B::attention_fits(op.plan)) {
      const WorkspaceScope<B> scope(workspace);
      op.scratch = B::template attention_scratch<T>(ctx, op.plan, workspace);
      return B::attention_forward(ctx, op);
    }
  }
  op.plan.plain() ? detail::attention_forward_rows<true, B, T>(ctx, op) : detail::attention_forward_rows<false, B, T>(ctx, op);
}

// Overwrites op.dq, op.dk and op.dv; adds to op.d_bias where it is wanted. Throws Error where op.bias or op.d_bias is not (buckets, H).
template <class B, class T>
void attention_backward(typename B::Context& ctx, AttentionBackward<T> op, Workspace<B>& workspace) {
  detail::check_relative_bias<T>(op.plan, op.bias);
  detail::check_relative_bias<T>(op.plan, op.d_bias);
  const WorkspaceScope<B> scope(workspace);
  if constexpr (requires { B::attention_backward(ctx, op); }) {
    if (B::attention_fits(op.plan)) {
      op.scratch = B::template attention_scratch<T>(ctx, op.plan, workspace);
      return B::attention_backward(ctx, op);
    }
  }
  const View<T> delta = workspace.template take<T>(op.plan.queries.rows, op.plan.heads);
  op.plan.plain() ? detail::attention_backward_rows<true, B, T>(ctx, op, delta) : detail::attention_backward_rows<false, B, T>(ctx, op, delta);
}

}  // namespace deltatune::ops
