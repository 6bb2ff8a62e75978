// Attention on the CPU: one task a (sequence, key/value head), all of it in the cache of one core.
//
// The products of a task are small (T × D × T), so they run in a register-tiled loop of our own; the matrix on the right of each is first
// copied into scratch with its rows padded to whole vectors. No more than kQueryBlock rows of scores exist at a time. Backward rebuilds the
// probabilities from lse, takes dp = m ∘ (do·vᵀ) and the softmax's pull-back ds = p ∘ (dp − Σ_j p_j dp_j).
#pragma once

#include <algorithm>

#include "deltatune/backend/attention.hpp"
#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/core/scalar.hpp"

namespace deltatune::detail {

inline constexpr Index kTileCols = 32;    // two AVX-512 or four AVX2 registers of float
inline constexpr Index kTileRows = 4;     // with kTileCols: enough independent sums to hide the latency of a multiply-add
inline constexpr Index kQueryBlock = 64;  // rows of scores held at a time

inline Index padded_cols(Index cols) { return (cols + kTileCols - 1) / kTileCols * kTileCols; }

// c(i, j) (+)= Σ_k a(i, k) · b(k, j). a is read one element at a time through its two strides (so it may be transposed);
// b and c have rows padded to kTileCols.
template <Index Rows, class T>
void tile_product(const T* a, Index a_row, Index a_col, const T* b, Index b_row, T* c, Index c_row, Index k_count, bool accumulate) {
  T sum[Rows][kTileCols];
  for (Index r = 0; r < Rows; ++r)
    for (Index j = 0; j < kTileCols; ++j) sum[r][j] = accumulate ? c[r * c_row + j] : T(0);
  for (Index k = 0; k < k_count; ++k) {
    const T* DELTATUNE_RESTRICT b_k = b + k * b_row;
    for (Index r = 0; r < Rows; ++r) {
      const T factor = a[r * a_row + k * a_col];
      for (Index j = 0; j < kTileCols; ++j) sum[r][j] += factor * b_k[j];
    }
  }
  for (Index r = 0; r < Rows; ++r)
    for (Index j = 0; j < kTileCols; ++j) c[r * c_row + j] = sum[r][j];
}

template <class T>
void small_product(const T* a, Index a_row, Index a_col, View<const T> b, View<T> c, Index rows, bool accumulate = false) {
  for (Index j = 0; j < c.cols; j += kTileCols) {
    Index i = 0;
    for (; i + kTileRows <= rows; i += kTileRows)
      tile_product<kTileRows>(a + i * a_row, a_row, a_col, b.data + j, b.stride, c.row(i) + j, c.stride, b.rows, accumulate);
    for (; i < rows; ++i) tile_product<1>(a + i * a_row, a_row, a_col, b.data + j, b.stride, c.row(i) + j, c.stride, b.rows, accumulate);
  }
}

// out(i, j) = x(i, j), zeros in the padding.
template <class T>
void copy_padded(View<const T> x, View<T> out) {
  for (Index i = 0; i < x.rows; ++i) {
    std::copy_n(x.row(i), x.cols, out.row(i));
    std::fill(out.row(i) + x.cols, out.row(i) + out.cols, T(0));
  }
}

// out(j, i) = x(i, j), zeros in the padding.
template <class T>
void copy_transposed(View<const T> x, View<T> out) {
  for (Index j = 0; j < x.cols; ++j) {
    for (Index i = 0; i < x.rows; ++i) out(j, i) = x(i, j);
    std::fill(out.row(j) + x.rows, out.row(j) + out.cols, T(0));
  }
}

// Cuts matrices from a worker's share of the scratch.
template <class T>
class ScratchCutter {
 public:
  explicit ScratchCutter(T* data) : data_(data) {}
  View<T> take(Index rows, Index cols) {
    View<T> view(data_, rows, cols);
    data_ += rows * cols;
    return view;
  }

 private:
  T* data_;
};

// Elements of scratch for one worker; covers forward and backward.
inline Index cpu_attention_scratch(const AttentionPlan& plan) {
  const Index keys = padded_cols(plan.keys.max_length);
  const Index width = padded_cols(plan.head_width);
  return 2 * plan.head_width * keys      // kᵀ, vᵀ
         + 3 * keys * width              // k or v, and sums of dk, dv
         + 3 * kQueryBlock * width       // q, do, and a block of the result
         + 2 * kQueryBlock * keys;       // p and dp
}

// Scores of `rows` queries, turned into probabilities; columns past the visible keys become 0.
template <class T>
void probabilities_forward(const AttentionPlan& plan, Index b, Index first_query, Index rows, Index h, View<T> s, View<T> lse) {
  const T scale = static_cast<T>(plan.scale);
  for (Index r = 0; r < rows; ++r) {
    const Index visible = plan.visible_keys(b, first_query + r);
    T* DELTATUNE_RESTRICT p = s.row(r);
    T largest = p[0];
#pragma omp simd reduction(max : largest)
    for (Index j = 0; j < visible; ++j) largest = largest < p[j] ? p[j] : largest;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (Index j = 0; j < visible; ++j) {
      p[j] = exp(scale * (p[j] - largest));
      sum += p[j];
    }
    const T inverse = T(1) / sum;
    DELTATUNE_SIMD
    for (Index j = 0; j < visible; ++j) p[j] *= inverse;
    std::fill(p + visible, p + s.cols, T(0));
    lse(plan.queries.first(b) + first_query + r, h) = scale * largest + log(sum);
  }
}

template <class T>
void cpu_attention_forward(const AttentionForward<T>& op, int threads) {
  const AttentionPlan& plan = op.plan;
  const Index group = plan.heads / plan.kv_heads;
  const Index width = plan.head_width;
  parallel_tasks(threads, plan.keys.count * plan.kv_heads, [&](Index task, Index worker) {
    const Index b = task / plan.kv_heads;
    const Index kv_head = task % plan.kv_heads;
    const Index key_count = plan.keys.length(b);
    const Index query_count = plan.queries.length(b);
    ScratchCutter<T> scratch(op.scratch.row(worker));
    const View<T> k_transposed = scratch.take(width, padded_cols(key_count));
    const View<T> v = scratch.take(key_count, padded_cols(width));
    const View<T> p = scratch.take(kQueryBlock, padded_cols(key_count));
    const View<T> o = scratch.take(kQueryBlock, padded_cols(width));
    copy_transposed(op.k.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width), k_transposed);
    copy_padded(op.v.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width), v);
    for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (Index first = 0; first < query_count; first += kQueryBlock) {
        const Index rows = std::min(kQueryBlock, query_count - first);
        const Index row = plan.queries.first(b) + first;
        small_product<T>(op.q.row(row) + h * width, op.q.stride, 1, k_transposed, p, rows);
        probabilities_forward(plan, b, first, rows, h, p, op.lse);
        if (plan.dropout.active()) {
          for (Index r = 0; r < rows; ++r) {
            T* DELTATUNE_RESTRICT p_r = p.row(r);
            const std::uint64_t stream = plan.dropout_row(row + r, h);
            DELTATUNE_SIMD
            for (Index j = 0; j < key_count; ++j) p_r[j] *= plan.dropout.template factor<T>(stream + static_cast<std::uint64_t>(j));
          }
        }
        small_product<T>(p.data, p.stride, 1, v, o, rows);
        for (Index r = 0; r < rows; ++r) std::copy_n(o.row(r), width, op.o.row(row + r) + h * width);
      }
    }
  });
}

template <class T>
void cpu_attention_backward(const AttentionBackward<T>& op, int threads) {
  const AttentionPlan& plan = op.plan;
  const Index group = plan.heads / plan.kv_heads;
  const Index width = plan.head_width;
  const T scale = static_cast<T>(plan.scale);
  parallel_tasks(threads, plan.keys.count * plan.kv_heads, [&](Index task, Index worker) {
    const Index b = task / plan.kv_heads;
    const Index kv_head = task % plan.kv_heads;
    const Index key_count = plan.keys.length(b);
    const Index query_count = plan.queries.length(b);
    const Index key_cols = padded_cols(key_count);
    ScratchCutter<T> scratch(op.scratch.row(worker));
    const View<T> k_transposed = scratch.take(width, key_cols);
    const View<T> v_transposed = scratch.take(width, key_cols);
    const View<T> k = scratch.take(key_count, padded_cols(width));
    const View<T> dk = scratch.take(key_count, padded_cols(width));
    const View<T> dv = scratch.take(key_count, padded_cols(width));
    const View<T> q = scratch.take(kQueryBlock, padded_cols(width));
    const View<T> d_o = scratch.take(kQueryBlock, padded_cols(width));
    const View<T> dq = scratch.take(kQueryBlock, padded_cols(width));
    const View<T> p = scratch.take(kQueryBlock, key_cols);
    const View<T> dp = scratch.take(kQueryBlock, key_cols);
    const View<const T> k_head = op.k.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width);
    copy_transposed(k_head, k_transposed);
    copy_transposed(op.v.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width), v_transposed);
    copy_padded(k_head, k);
    std::fill_n(dk.data, dk.size(), T(0));
    std::fill_n(dv.data, dv.size(), T(0));
    for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (Index first = 0; first < query_count; first += kQueryBlock) {
        const Index rows = std::min(kQueryBlock, query_count - first);
        const Index row = plan.queries.first(b) + first;
        copy_padded(op.q.row_range(row, rows).column_range(h * width, width), q);
        copy_padded(op.d_o.row_range(row, rows).column_range(h * width, width), d_o);
        small_product<T>(q.data, q.stride, 1, k_transposed, p, rows);
        small_product<T>(d_o.data, d_o.stride, 1, v_transposed, dp, rows);
        for (Index r = 0; r < rows; ++r) {
          const Index visible = plan.visible_keys(b, first + r);
          const T lse = op.lse(row + r, h);
          const std::uint64_t stream = plan.dropout_row(row + r, h);
          T* DELTATUNE_RESTRICT p_r = p.row(r);
          T* DELTATUNE_RESTRICT dp_r = dp.row(r);
          T mean = 0;  // Σ_j p_j dp_j
#pragma omp simd reduction(+ : mean)
          for (Index j = 0; j < visible; ++j) {
            const T kept = plan.dropout.template factor<T>(stream + static_cast<std::uint64_t>(j));
            const T probability = exp(scale * p_r[j] - lse);
            dp_r[j] *= kept * probability;
            p_r[j] = probability;
            mean += dp_r[j];
          }
          // dp becomes scale · ds, p becomes m ∘ p.
          DELTATUNE_SIMD
          for (Index j = 0; j < visible; ++j) {
            dp_r[j] = scale * (dp_r[j] - p_r[j] * mean);
            p_r[j] *= plan.dropout.template factor<T>(stream + static_cast<std::uint64_t>(j));
          }
          std::fill(p_r + visible, p_r + key_cols, T(0));
          std::fill(dp_r + visible, dp_r + key_cols, T(0));
        }
        small_product<T>(dp.data, dp.stride, 1, k, dq, rows);                                    // dq = ds·k
        small_product<T>(dp.data, 1, dp.stride, q.row_range(0, rows), dk, key_count, true);     // dk += dsᵀ·q
        small_product<T>(p.data, 1, p.stride, d_o.row_range(0, rows), dv, key_count, true);     // dv += (m ∘ p)ᵀ·do
        for (Index r = 0; r < rows; ++r) std::copy_n(dq.row(r), width, op.dq.row(row + r) + h * width);
      }
    }
    for (Index j = 0; j < key_count; ++j) {
      std::copy_n(dk.row(j), width, op.dk.row(plan.keys.first(b) + j) + kv_head * width);
      std::copy_n(dv.row(j), width, op.dv.row(plan.keys.first(b) + j) + kv_head * width);
    }
  });
}

}  // namespace deltatune::detail
