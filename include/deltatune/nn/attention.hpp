// Multi-head self-attention with its projections: qkv = x·[Wq;Wk;Wv]ᵀ + b in one product, attention, output projection. Queries and keys may be normalised
// (Qwen 3) and rotated by their positions (ops/rotary.hpp), scores have a bias by distance, and several query heads share a head of keys and values.
//
// Legend: Cq = H·D columns of the queries, Ckv = Hkv·D of the keys and of the values.
// Kept for backward: qkv (N, Cq + 2Ckv) and lse (M, H); the attention's output (M, Cq) only when the output projection reads its input; with kv deltas also
// the keys and values of all rows (N + B·P, 2Ckv). M = N, or the rows that are read (nn/demand.hpp); then also their queries (M, Cq). Norms of queries and
// keys keep nothing: backward computes them again from qkv, which is what the projection gave.
#pragma once

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/nn/demand.hpp"
#include "deltatune/nn/kept.hpp"
#include "deltatune/nn/kv_cache.hpp"
#include "deltatune/nn/linear.hpp"
#include "deltatune/nn/norm.hpp"
#include "deltatune/nn/prefixed_kv.hpp"
#include "deltatune/nn/relative_bias.hpp"
#include "deltatune/nn/rotary.hpp"
#include "deltatune/ops/attention.hpp"
#include "deltatune/ops/prefix.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/kv.hpp"

namespace deltatune {

struct AttentionConfig {
  Index heads = 0;
  Index kv_heads = 0;   // 0: as many
  double dropout = 0;   // of the probabilities
  bool causal = false;  // a row sees those before it and itself
  double scale = 0;     // of the scores; 0: 1/√D
  double soft_cap = 0;  // of the scores; 0: none
  Index window = 0;     // a row sees those at most so far away; 0: all
};

// What the layers of a stack share.
template <class X>
struct AttentionTables {
  std::shared_ptr<const Rotary<X>> rotary = {};
  std::shared_ptr<RelativeBias<X>> bias = {};
};

// Norms of queries and keys, of each head (width D) or of all heads together.
template <class X>
struct QueryKeyNorms {
  Norm<X> query, key;
};

template <class X>
class SelfAttention {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    AttentionPlan plan;
    Sequences tokens;  // the N rows
    Demand demand;
    View<T> q;        // (M, Cq) of the rows that are read; empty: all, in qkv
    Kept<X> qkv;      // (N, Cq + 2Ckv), and the columns of low-rank deltas
    View<T> kv;       // (Nk, 2Ckv): what queries see, where that is more than their own tokens; else empty
    View<T> lse;      // (M, H)
    Kept<X> context;  // (M, Cq), or empty
    typename Linear<X>::Saved projection;
    typename Linear<X>::Saved output;
    typename KvSlot<X>::Saved deltas;
  };

  SelfAttention() = default;
  // path: of the layer, for kv deltas. projection: C to the columns of query, key and value, Cq + 2Ckv; output: Cq to C.
  SelfAttention(std::string path, Linear<X> projection, Linear<X> output, AttentionConfig config, AttentionTables<X> tables = {},
                std::optional<QueryKeyNorms<X>> norms = {})
      : projection_(std::move(projection)), output_(std::move(output)), config_(config), tables_(std::move(tables)), norms_(std::move(norms)) {
    if (config_.kv_heads == 0) config_.kv_heads = config_.heads;
    site_.path = std::move(path);
    site_.input_width = projection_.in();
    site_.slides = config_.window > 0 && config_.causal;
    site_.by_place = config_.window > 0 && !config_.causal;
    site_.biased = static_cast<bool>(tables_.bias);
    site_.width = output_.in() / config_.heads * config_.kv_heads;
  }

  template <class F>
  void visit(const F& f) {
    projection_.visit(f);
    site_.deltas.visit(f);
    output_.visit(f);
    if (!norms_) return;
    norms_->query.visit(f);
    norms_->key.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    f(projection_);
    f(output_);
  }
  KvSite<X>& site() { return site_; }
  const KvSite<X>& site() const { return site_; }

  // Whether the table that it shares with other layers trains.
  bool bias_trains() const { return tables_.bias && tables_.bias->table().trains(); }
  bool needs_input() const { return projection_.needs_input() || site_.deltas.needs_input(); }
  bool norms_train() { return norms_ && (trains(norms_->query) || trains(norms_->key)); }
  // Whether something behind the queries reads other rows of its sequence.
  bool mixes_rows() const { return output_.mixes_rows(); }
  // Whether a delta stands at the last product. Without any, forward can add to what y holds, and backward leaves dy as it is.
  bool output_has_deltas() const { return output_.has_deltas(); }

  // x (N, C) -> y (N, C), or (M, C) with a demand. cache: of the sequences, whose next rows x holds; only in evaluation.
  // accumulate: y is added to; not where output_has_deltas().
  void forward(Pass<X>& pass, const Sequences& sequences, const Demand& demand, View<const T> x, View<T> y, Saved& saved, KvCache<X>* cache = nullptr,
               bool accumulate = false) const {
    const Index width = output_.in(), kv_width = site_.width;
    const Index prefix = site_.deltas.rows();
    if (prefix > 0) site_.check_takes_rows();
    saved.tokens = sequences;
    saved.demand = demand;
    saved.plan = AttentionPlan{.queries = demand ? demand.sequences : sequences,
                               .keys = sequences,
                               .heads = config_.heads,
                               .kv_heads = config_.kv_heads,
                               .head_width = width / config_.heads,
                               .scale = config_.scale != 0 ? config_.scale : 1.0 / std::sqrt(static_cast<double>(width / config_.heads)),
                               .causal = config_.causal,
                               .dropout = pass.dropout(config_.dropout),
                               .window = config_.window,
                               .soft_cap = config_.soft_cap,
                               .relative = tables_.bias ? tables_.bias->buckets() : RelativeBuckets(),
                               .first_place = (config_.window > 0 || tables_.bias) && demand && demand.first ? prefix : -1,
                               .unbiased_keys = site_.deltas.all_have(RowDistances::none) ? prefix : 0,
                               .distance_shift = site_.deltas.all_have(RowDistances::shifted) ? prefix : 0};
    const auto outer = pass.scope();
    const View<T> qkv = pass.rounds_kept ? saved.qkv.start(pass, x.rows, width + 2 * kv_width) : saved.qkv.start(projection_.keep_output(pass, x.rows));
    saved.lse = pass.keep(y.rows, config_.heads);
    projection_.forward(pass, x, qkv, saved.projection);
    QueryKeySaved of_norms;
    const View<T> ready = placed(pass, qkv, of_norms);
    saved.q = {};
    if (demand) {
      saved.q = pass.keep(y.rows, width);
      ops::gather_rows<B, T>(pass.ctx, ready.column_range(0, width), demand.rows, saved.q);
    }
    saved.kv = {};
    View<const T> kv = ready.column_range(width, 2 * kv_width);
    if (cache != nullptr) {
      append_kv<X>(pass, site_, sequences, x, kv, *cache, saved.deltas);
      saved.plan.keys = cache->sequences(prefix);
      kv = cache->rows();
    } else if (prefix > 0) {
      kv = saved.kv = prefixed_kv(pass, site_, sequences, x, kv, saved.plan.keys, saved.deltas);
    }
    if (saved.plan.keys.max_length <= config_.window + 1) saved.plan.window = 0;  // every query sees all
    const auto scope = pass.scope();
    const DemandScope<X> rows(pass, demand);
    saved.context = {};
    const View<T> context = output_.needs_input() ? saved.context.start(pass, y.rows, width) : pass.take(y.rows, width);
    ops::attention_forward<B, T>(pass.ctx,
                                 {.plan = saved.plan,
                                  .q = demand ? saved.q : ready.column_range(0, width),
                                  .k = kv.column_range(0, kv_width),
                                  .v = kv.column_range(kv_width, kv_width),
                                  .o = context,
                                  .lse = saved.lse,
                                  .bias = bias()},
                                 pass.scratch);
    saved.qkv.finish(pass);
    saved.context.finish(pass);
    output_.forward(pass, context, y, saved.output, accumulate);
  }
  void forward(Pass<X>& pass, const Sequences& sequences, View<const T> x, View<T> y, Saved& saved) const { forward(pass, sequences, {}, x, y, saved); }

  // dy_io (M, C): used up. x (N, C): the input again, empty unless needs_input(). dx (N, C) through the sink.
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T> dx) {
    const Index width = output_.in(), kv_width = site_.width;
    const auto scope = pass.scope();
    const bool below = dx.wanted() || trains(projection_) || trains(site_.deltas) || bias_trains() || norms_train();
    const View<T> d_context = below ? pass.take(dy_io.rows, width) : View<T>();
    {
      const DemandScope<X> rows(pass, saved.demand);
      const auto inner = pass.scope();
      output_.backward(pass, saved.output, saved.context.read(pass), dy_io, below ? GradientSink<T>::fresh(d_context) : GradientSink<T>::none());
    }
    if (!below) return;
    QueryKeySaved of_norms;
    const View<T> qkv = norms_ ? placed(pass, saved.qkv.read(pass), of_norms) : saved.qkv.read(pass);
    const View<T> d_qkv = projection_.take_output(pass, qkv.rows);
    const View<T> dq = saved.demand ? pass.take(dy_io.rows, width) : d_qkv.column_range(0, width);
    const View<T> own = d_qkv.column_range(width, 2 * kv_width);  // of the tokens' keys and values
    const View<T> d_kv = saved.kv ? pass.take(saved.kv.rows, 2 * kv_width) : own;
    const View<const T> kv = saved.kv ? saved.kv : qkv.column_range(width, 2 * kv_width);
    ops::attention_backward<B, T>(pass.ctx,
                                  {.plan = saved.plan,
                                   .q = saved.demand ? saved.q : qkv.column_range(0, width),
                                   .k = kv.column_range(0, kv_width),
                                   .v = kv.column_range(kv_width, kv_width),
                                   .lse = saved.lse,
                                   .d_o = d_context,
                                   .dq = dq,
                                   .dk = d_kv.column_range(0, kv_width),
                                   .dv = d_kv.column_range(kv_width, kv_width),
                                   .bias = bias(),
                                   .d_bias = bias_trains() ? tables_.bias->table().gradient() : View<T>()},
                                  pass.scratch);
    if (saved.demand) ops::scatter_rows<B, T>(pass.ctx, dq, saved.demand.rows, d_qkv.column_range(0, width));
    if (saved.kv) prefixed_kv_backward<X>(pass, site_, saved.tokens, saved.plan.keys, saved.deltas, x, d_kv, own, dx);
    if (tables_.rotary) tables_.rotary->rotate(pass, config_.heads + config_.kv_heads, d_qkv.column_range(0, width + kv_width), true);
    if (norms_) {
      norms_->query.backward(pass, of_norms.query, d_qkv.column_range(0, width), {});
      norms_->key.backward(pass, of_norms.key, d_qkv.column_range(width, kv_width), {});
    }
    projection_.backward(pass, saved.projection, x, d_qkv, dx);
  }

 private:
  struct QueryKeySaved {
    typename Norm<X>::Saved query, key;
  };

  // Queries, keys and values as attention reads them, from those of the projection, qkv (N, Cq + 2Ckv): normalised in scratch, and rotated; qkv itself
  // without norms.
  View<T> placed(Pass<X>& pass, View<T> qkv, QueryKeySaved& of_norms) const {
    const Index width = output_.in(), kv_width = site_.width;
    View<T> ready = qkv.column_range(0, width + 2 * kv_width);
    if (norms_) {
      ready = pass.take(qkv.rows, width + 2 * kv_width);
      norms_->query.forward_in_scratch(pass, qkv.column_range(0, width), ready.column_range(0, width), of_norms.query);
      norms_->key.forward_in_scratch(pass, qkv.column_range(width, kv_width), ready.column_range(width, kv_width), of_norms.key);
      ops::copy<B, T>(pass.ctx, qkv.column_range(width + kv_width, kv_width), ready.column_range(width + kv_width, kv_width));
    }
    if (tables_.rotary) tables_.rotary->rotate(pass, config_.heads + config_.kv_heads, ready.column_range(0, width + kv_width));
    return ready;
  }
  View<const T> bias() const { return tables_.bias ? View<const T>(tables_.bias->table().value()) : View<const T>(); }

  Linear<X> projection_;
  Linear<X> output_;
  AttentionConfig config_;
  AttentionTables<X> tables_;
  std::optional<QueryKeyNorms<X>> norms_;
  KvSite<X> site_;
};

}  // namespace deltatune
