// Multi-head attention of one stream of rows to another: queries of a decoder's rows x, keys and values of the encoder's output s, which is normalised, kept
// once for all layers, and found in the pass (seam/pass.hpp: Pass::source). Vaswani et al. 2017, arXiv 1706.03762, section 3.2.3.
//   q = x·Wqᵀ + bq;   [k | v] = s·[Wk; Wv]ᵀ + [bk | bv] in one product;   y = attention(q, k, v)·Woᵀ + bo
// A sequence of x sees all rows of its own sequence of s, without a bias by distance and without a mask, and those of kv deltas in front of them.
//
// Legend: N rows of x, Ns rows of s; Cq = H·D columns of the queries, Ckv = Hkv·D of the keys and of the values.
// Kept for backward: q (N, Cq), kv (Ns, 2Ckv) and lse (N, H); the attention's output (N, Cq) only when the output projection reads its input; with kv deltas
// also the keys and values of all rows (Ns + B·P, 2Ckv).
#pragma once

#include <cmath>
#include <string>
#include <utility>

#include "deltatune/nn/attention.hpp"
#include "deltatune/nn/demand.hpp"
#include "deltatune/nn/kept.hpp"
#include "deltatune/nn/kv_cache.hpp"
#include "deltatune/nn/linear.hpp"
#include "deltatune/nn/prefixed_kv.hpp"
#include "deltatune/ops/attention.hpp"
#include "deltatune/ops/prefix.hpp"
#include "deltatune/param/visit.hpp"
#include "deltatune/seam/kv.hpp"

namespace deltatune {

template <class X>
class CrossAttention {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  struct Saved {
    AttentionPlan plan;
    Kept<X> q;        // (N, Cq), and the columns of low-rank deltas
    Kept<X> kv;       // (Ns, 2Ckv), likewise
    View<T> all_kv;   // (Nk, 2Ckv): what queries see, where that is more than the source; else empty
    View<T> lse;      // (N, H)
    Kept<X> context;  // (N, Cq), or empty
    typename Linear<X>::Saved query, key_value, output;
    typename KvSlot<X>::Saved deltas;
  };

  CrossAttention() = default;
  // path: of the layer, for kv deltas. query: C to Cq; key_value: the encoder's width to 2Ckv; output: Cq to C. config: without causal, window and soft cap.
  CrossAttention(std::string path, Linear<X> query, Linear<X> key_value, Linear<X> output, AttentionConfig config)
      : query_(std::move(query)), key_value_(std::move(key_value)), output_(std::move(output)), config_(config) {
    if (config_.kv_heads == 0) config_.kv_heads = config_.heads;
    site_.path = std::move(path);
    site_.input_width = query_.in();
    site_.width = key_value_.out() / 2;
    site_.kind = AttentionKind::cross;
  }

  template <class F>
  void visit(const F& f) {
    query_.visit(f);
    key_value_.visit(f);
    site_.deltas.visit(f);
    output_.visit(f);
  }
  template <class F>
  void visit_linears(const F& f) {
    f(query_);
    f(key_value_);
    f(output_);
  }

  KvSite<X>& site() { return site_; }
  const KvSite<X>& site() const { return site_; }

  // Whether backward reads x.
  bool needs_input() const { return query_.needs_input() || site_.deltas.needs_input(); }
  // Whether something behind the attention reads other rows of its sequence.
  bool mixes_rows() const { return query_.mixes_rows() || output_.mixes_rows(); }
  // Whether a delta stands at the last product. Without any, forward can add to what y holds, and backward leaves dy as it is.
  bool output_has_deltas() const { return output_.has_deltas(); }

  // x (N, C) -> y (N, C), reading pass.source, or, where there is none, what the cache has kept of it. cache: of the sources, only in evaluation.
  // accumulate: y is added to; not where output_has_deltas().
  void forward(Pass<X>& pass, const Sequences& sequences, View<const T> x, View<T> y, Saved& saved, KvCache<X>* cache = nullptr,
               bool accumulate = false) const {
    const Source<X>* const source = pass.source;
    const Index width = output_.in(), kv_width = site_.width, head_width = width / config_.heads;
    saved.plan = AttentionPlan{.queries = sequences,
                               .keys = source != nullptr ? source->sequences : Sequences(),
                               .heads = config_.heads,
                               .kv_heads = config_.kv_heads,
                               .head_width = head_width,
                               .scale = config_.scale != 0 ? config_.scale : 1.0 / std::sqrt(static_cast<double>(head_width)),
                               .dropout = pass.dropout(config_.dropout)};
    const auto outer = pass.scope();
    const View<T> own = source != nullptr ? started(pass, saved.kv, key_value_, source->rows.rows) : View<T>();
    const View<T> q = started(pass, saved.q, query_, y.rows);
    saved.lse = pass.keep(y.rows, config_.heads);
    if (source != nullptr) {
      const RowsScope<X> rows(pass, &source->sequences, source->routes);
      key_value_.forward(pass, source->rows, own, saved.key_value);
    }
    saved.all_kv = {};
    View<const T> kv = own.column_range(0, 2 * kv_width);
    if (cache != nullptr) {
      if (source != nullptr) append_kv<X>(pass, site_, source->sequences, x, kv, *cache, saved.deltas);
      saved.plan.keys = cache->sequences(site_.deltas.rows());
      kv = cache->rows();
    } else if (site_.deltas.rows() > 0) {
      kv = saved.all_kv = prefixed_kv<X>(pass, site_, source->sequences, x, kv, saved.plan.keys, saved.deltas);
    }
    const auto scope = pass.scope();
    query_.forward(pass, x, q, saved.query);
    saved.context = {};
    const View<T> context = output_.needs_input() ? saved.context.start(pass, y.rows, width) : pass.take(y.rows, width);
    ops::attention_forward<B, T>(pass.ctx,
                                 {.plan = saved.plan,
                                  .q = q.column_range(0, width),
                                  .k = kv.column_range(0, kv_width),
                                  .v = kv.column_range(kv_width, kv_width),
                                  .o = context,
                                  .lse = saved.lse},
                                 pass.scratch);
    if (source != nullptr) saved.kv.finish(pass);
    saved.q.finish(pass);
    saved.context.finish(pass);
    output_.forward(pass, context, y, saved.output, accumulate);
  }

  // dy_io (N, C): used up. x (N, C): the input again, empty unless needs_input(). dx (N, C) through the sink; what the encoder's output gets is added to
  // pass.source->gradient where there is one.
  void backward(Pass<X>& pass, const Saved& saved, View<const T> x, View<T> dy_io, GradientSink<T> dx) {
    const Source<X>& source = *pass.source;
    const Index width = output_.in(), kv_width = site_.width;
    const auto scope = pass.scope();
    const bool into_query = dx.wanted() || trains(query_), into_source = source.gradient || trains(key_value_);
    const bool below = into_query || into_source || trains(site_.deltas);
    const View<T> d_context = below ? pass.take(dy_io.rows, width) : View<T>();
    {
      const auto inner = pass.scope();
      output_.backward(pass, saved.output, saved.context.read(pass), dy_io, below ? GradientSink<T>::fresh(d_context) : GradientSink<T>::none());
    }
    if (!below) return;
    const View<T> q = saved.q.read(pass), source_kv = saved.kv.read(pass);
    const View<const T> kv = saved.all_kv ? saved.all_kv : source_kv;
    const View<T> dq = query_.take_output(pass, q.rows), d_own = key_value_.take_output(pass, source_kv.rows);
    const View<T> d_kv = saved.all_kv ? pass.take(kv.rows, 2 * kv_width) : d_own;
    ops::attention_backward<B, T>(pass.ctx,
                                  {.plan = saved.plan,
                                   .q = q.column_range(0, width),
                                   .k = kv.column_range(0, kv_width),
                                   .v = kv.column_range(kv_width, kv_width),
                                   .lse = saved.lse,
                                   .d_o = d_context,
                                   .dq = dq.column_range(0, width),
                                   .dk = d_kv.column_range(0, kv_width),
                                   .dv = d_kv.column_range(kv_width, kv_width)},
                                  pass.scratch);
    if (saved.all_kv) prefixed_kv_backward<X>(pass, site_, source.sequences, saved.plan.keys, saved.deltas, x, d_kv, d_own.column_range(0, 2 * kv_width), dx);
    if (into_source) {
      const RowsScope<X> rows(pass, &source.sequences, source.routes);
      key_value_.backward(pass, saved.key_value, source.rows, d_own,
                          source.gradient ? GradientSink<T>::accumulating(source.gradient) : GradientSink<T>::none());
    }
    if (into_query) query_.backward(pass, saved.query, x, dq, dx);
  }

 private:
  // Where a projection writes, with the columns of its low-rank deltas.
  static View<T> started(Pass<X>& pass, Kept<X>& kept, const Linear<X>& linear, Index rows) {
    return pass.rounds_kept ? kept.start(pass, rows, linear.out()) : kept.start(linear.keep_output(pass, rows));
  }

  Linear<X> query_, key_value_, output_;
  AttentionConfig config_;
  KvSite<X> site_;
};

}  // namespace deltatune
