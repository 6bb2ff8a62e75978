// LoRA and DoRA on a table of embeddings. Papers: delta/lora.hpp, delta/dora.hpp; the start is PEFT's.
//
//   LoRA   y = W[id] + s·A[id]·Bᵀ                   dB += s·dyᵀ·A[id],   dA[id] += s·dy·B
//   DoRA   y = g ∘ (W[id] + s·A[id]·Bᵀ),  g = m / n,  n_c = ‖column c of W + s·A·Bᵀ‖ (no gradient through it)
//
// Where the table is the head of a language model too, the head reads it as it was (PEFT); a merge gives it a table of its own.
//
// Shapes      A (V, R), which files hold as (R, V), B (C, R), m (C)
// Start       A = 0, B standard normal, m = the lengths of the table's columns: the delta is 0
// Parameters  R·(V + C), DoRA C more
// Seam        lookup
// Merge       exact: W + s·A·Bᵀ, columns times m/n
// Files       PEFT: <site>.lora_embedding_A, <site>.lora_embedding_B, <site>.lora_magnitude_vector
#pragma once

#include <string>
#include <utility>

#include "deltatune/delta/dora.hpp"
#include "deltatune/ops/embedding.hpp"
#include "deltatune/seam/lookup.hpp"

namespace deltatune {

template <class X>
class LoraEmbedding {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kIsSum = true;

  struct Saved {
    View<const T> rows;  // (N, R) A[id]
  };

  LoraEmbedding(Context& ctx, const LookupSite<X>& site, LoraConfig config, RandomKey key)
      : config_(config),
        skipped_id_(site.skipped_id),
        a_(ctx, site.path + ".lora_embedding_A", {site.table.shape().at(0), config.rank}),
        b_(ctx, site.path + ".lora_embedding_B", {site.table.shape().at(1), config.rank}, detail::normal_start(key, 1.0)) {
    if (config.bias) throw Error(site.path, "is a table of embeddings, which has no bias to adapt", {.remedy = "leave lora_bias off"});
    a_->set_transposed_in_file();
  }

  const LoraConfig& config() const { return config_; }
  const Parameter<X>& a() const { return *a_; }
  const Parameter<X>& b() const { return *b_; }

  template <class F>
  void visit(const F& f) {
    f(*a_);
    f(*b_);
  }

  void forward(Pass<X>& pass, const std::int32_t* ids, View<T> y_io, Saved& saved) const {
    const View<T> rows = pass.keep(y_io.rows, config_.rank);
    saved.rows = rows;
    ops::embedding_forward<B, T>(pass.ctx, a_->value(), ids, rows, false);
    B::gemm(pass.ctx, Gemm<T>{.a = rows, .b = b_->value(), .c = y_io, .transpose_b = true, .alpha = scale(), .beta = T(1)});
  }
  void backward(Pass<X>& pass, const Saved& saved, const RowGroups& groups, View<const T> dy) {
    if (const View<T> db = b_->gradient()) B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = saved.rows, .c = db, .transpose_a = true, .alpha = scale(), .beta = T(1)});
    const View<T> da = a_->gradient();
    if (!da) return;
    const auto scope = pass.scope();
    const View<T> d_rows = pass.take(dy.rows, config_.rank);
    B::gemm(pass.ctx, Gemm<T>{.a = dy, .b = b_->value(), .c = d_rows, .alpha = scale()});
    ops::embedding_backward<B, T>(pass.ctx, d_rows, groups, skipped_id_, da);
  }

  void merge(Context& ctx, View<T> table_io) const {
    B::gemm(ctx, Gemm<T>{.a = a_->value(), .b = b_->value(), .c = table_io, .transpose_b = true, .alpha = scale(), .beta = T(1)});
  }

 private:
  T scale() const { return T(config_.scale()); }

  LoraConfig config_;
  Index skipped_id_;
  detail::OwnParameter<X> a_;
  detail::OwnParameter<X> b_;
};

template <class X>
class DoraEmbedding {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  static constexpr bool kReadsWeight = true;

  struct Saved {
    typename LoraEmbedding<X>::Saved lora;
    View<const T> z;        // (N, C) what g is multiplied with
    View<const T> lengths;  // (1, C) n
    View<const T> factors;  // (1, C) g
  };

  // The site stays where it is: its table is read in every pass.
  DoraEmbedding(Context& ctx, LookupSite<X>& site, LoraConfig config, RandomKey key)
      : site_(&site), lora_(ctx, site, config, key), m_(ctx, site.path + ".lora_magnitude_vector", {site.table.shape().at(1)}) {
    column_lengths(ctx, site.table.value(), m_->value());
  }

  template <class F>
  void visit(const F& f) {
    lora_.visit(f);
    f(*m_);
  }

  // y_io may hold more than this table's rows.
  void forward(Pass<X>& pass, const std::int32_t* ids, View<T> y_io, Saved& saved) const {
    measure(pass, saved);
    const View<T> z = pass.keep(y_io.rows, y_io.cols);
    saved.z = z;
    const auto scope = pass.scope();
    const View<T> rows = pass.take(y_io.rows, y_io.cols);
    ops::embedding_forward<B, T>(pass.ctx, site_->table.value(), ids, rows, false);
    ops::copy<B, T>(pass.ctx, rows, z);
    lora_.forward(pass, ids, z, saved.lora);
    ops::axpy<B, T>(pass.ctx, T(-1), rows, y_io);
    ops::scale_columns<B, T>(pass.ctx, z, saved.factors, rows);
    ops::axpy<B, T>(pass.ctx, T(1), rows, y_io);
  }
  void backward(Pass<X>& pass, const Saved& saved, const RowGroups& groups, View<const T> dy) {
    const auto scope = pass.scope();
    detail::magnitude_backward(pass, dy, saved.z, saved.lengths, *m_);
    const View<T> dz = pass.take(dy.rows, dy.cols);
    ops::scale_columns<B, T>(pass.ctx, dy, saved.factors, dz);
    lora_.backward(pass, saved.lora, groups, dz);
    if (const View<T> d_table = site_->table.gradient()) {  // the layer has added dy
      ops::axpy<B, T>(pass.ctx, T(-1), dy, dz);
      ops::embedding_backward<B, T>(pass.ctx, dz, groups, site_->skipped_id, d_table);
    }
  }

  void merge(Context& ctx, View<T> table_io) const {
    lora_.merge(ctx, table_io);
    X factors(ctx, {table_io.cols});
    const View<T> g = factors.view();
    column_lengths(ctx, table_io, g);
    B::for_each(ctx, g.cols, detail::Quotient<T>{m_->value().data, g.data, g.data});
    ops::scale_columns<B, T>(ctx, table_io, g, table_io);
  }

 private:
  static void column_squares(Context& ctx, View<const T> table, View<T> squares) {
    B::fill(ctx, squares, T(0));
    ops::column_dot<B, T>(ctx, table, table, squares);
  }
  static void column_lengths(Context& ctx, View<const T> table, View<T> lengths) {
    column_squares(ctx, table, lengths);
    B::for_each(ctx, lengths.cols, detail::Root<T>{lengths.data});
  }
  // n and g.
  void measure(Pass<X>& pass, Saved& saved) const {
    const View<const T> table = site_->table.value(), a = lora_.a().value(), b = lora_.b().value();
    const View<T> lengths = pass.keep(1, table.cols), factors = pass.keep(1, table.cols);
    const auto scope = pass.scope();
    const View<T> aw = pass.take(table.cols, b.cols), aa = pass.take(b.cols, b.cols);
    B::gemm(pass.ctx, Gemm<T>{.a = table, .b = a, .c = aw, .transpose_a = true});
    B::gemm(pass.ctx, Gemm<T>{.a = a, .b = a, .c = aa, .transpose_a = true});
    column_squares(pass.ctx, table, lengths);
    B::for_each_row(pass.ctx, table.cols, b.cols * b.cols, detail::AdaptedLength<T>{b, aw, aa, T(lora_.config().scale()), lengths});
    B::for_each(pass.ctx, table.cols, detail::Quotient<T>{m_->value().data, lengths.data, factors.data});
    saved.lengths = lengths;
    saved.factors = factors;
  }

  LookupSite<X>* site_;
  LoraEmbedding<X> lora_;
  detail::OwnParameter<X> m_;
};

}  // namespace deltatune
