// Attention forward and backward with q, k and v in matrices of their own, for the tests of every body of it.
#pragma once

#include <cmath>
#include <vector>

#include "deltatune/check/gradcheck.hpp"
#include "deltatune/ops/attention.hpp"

namespace deltatune::test {

struct AttentionCase {
  std::vector<Index> queries;
  std::vector<Index> keys;
  Index heads = 2;
  Index kv_heads = 2;
  Index width = 5;
  bool causal = false;
  double dropout = 0;
  Index margin = 0;           // columns that q, k, v and o are moved to the right by in wider matrices
  bool compares_lse = false;  // an output then, which has no gradient
  Index window = 0;
  double soft_cap = 0;
  RelativeBuckets relative = {};  // with buckets: a parameter "bias"
  Index first_place = -1;
  bool bias_is_frozen = false;  // a constant then
  Index unbiased_keys = 0;
  Index distance_shift = 0;
};

inline auto attention_body(const AttentionCase& c) {
  return [c]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    trial.pass().mode = Mode::train;
    AttentionPlan plan;
    plan.queries = trial.sequences(c.queries);
    plan.keys = trial.sequences(c.keys);
    plan.heads = c.heads;
    plan.kv_heads = c.kv_heads;
    plan.head_width = c.width;
    plan.scale = 1.0 / std::sqrt(static_cast<double>(c.width));
    plan.causal = c.causal;
    plan.dropout = trial.pass().dropout(c.dropout);
    plan.window = c.window;
    plan.soft_cap = c.soft_cap;
    plan.relative = c.relative;
    plan.first_place = c.first_place;
    plan.unbiased_keys = c.unbiased_keys;
    plan.distance_shift = c.distance_shift;
    const Index cols = c.heads * c.width;
    const Index kv_cols = c.kv_heads * c.width;
    const auto q = trial.input("q", plan.queries.rows, c.margin + cols);
    const auto k = trial.input("k", plan.keys.rows, c.margin + kv_cols);
    const auto v = trial.input("v", plan.keys.rows, c.margin + kv_cols);
    const auto o = trial.output("o", plan.queries.rows, c.margin + cols);
    const View<T> lse = c.compares_lse ? trial.output("lse", plan.queries.rows, c.heads).value : trial.pass().keep(plan.queries.rows, c.heads);
    View<const T> bias;
    View<T> d_bias;
    if (c.relative.buckets > 0 && c.bias_is_frozen) {
      bias = trial.constant(c.relative.buckets, c.heads);
    } else if (c.relative.buckets > 0) {
      const auto parameter = trial.parameter("bias", c.relative.buckets, c.heads);
      bias = parameter.value;
      d_bias = parameter.gradient;
    }
    if (c.margin > 0) B::fill(trial.ctx(), o.value.column_range(0, c.margin), T(0));
    ops::attention_forward<B, T>(trial.ctx(),
                                 {.plan = plan,
                                  .q = q.value.column_range(c.margin, cols),
                                  .k = k.value.column_range(c.margin, kv_cols),
                                  .v = v.value.column_range(c.margin, kv_cols),
                                  .o = o.value.column_range(c.margin, cols),
                                  .lse = lse,
                                  .bias = bias},
                                 trial.pass().scratch);
    if (!trial.backward_wanted()) return;
    for (const auto& x : {q, k, v})
      if (c.margin > 0) B::fill(trial.ctx(), x.gradient.column_range(0, c.margin), T(0));
    ops::attention_backward<B, T>(trial.ctx(),
                                  {.plan = plan,
                                   .q = q.value.column_range(c.margin, cols),
                                   .k = k.value.column_range(c.margin, kv_cols),
                                   .v = v.value.column_range(c.margin, kv_cols),
                                   .lse = lse,
                                   .d_o = o.gradient.column_range(c.margin, cols),
                                   .dq = q.gradient.column_range(c.margin, cols),
                                   .dk = k.gradient.column_range(c.margin, kv_cols),
                                   .dv = v.gradient.column_range(c.margin, kv_cols),
                                   .bias = bias,
                                   .d_bias = d_bias},
                                  trial.pass().scratch);
  };
}

}  // namespace deltatune::test
