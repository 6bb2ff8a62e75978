// Attention on the CPU: one task a (sequence, key/value head), all of it in the cache of one core.
//
// The products of a task are small (T × D × T), so they run in a register-tiled loop of our own; the matrix on the right of each is first
// copied into scratch with its rows padded to whole vectors. Scores are padded, too: what is past the last visible key becomes probability 0, so
// that no loop over them has a rest. No more than kQueryBlock rows of scores exist at a time. Backward rebuilds the probabilities from lse, takes
// dp = m ∘ (do·vᵀ) and the softmax's pull-back ds = p ∘ (dp − Σ_j p_j dp_j).
#pragma once

#include <algorithm>
#include <limits>

#include "deltatune/backend/attention.hpp"
#include "deltatune/backend/cpu/lanes.hpp"
#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/core/scalar.hpp"

namespace deltatune::detail {

inline constexpr Index kQueryBlock = 32;  // rows of scores held at a time

// out(i, j) = x(i, j), zeros in the padding. A row is some dozen numbers, too few for a call of memmove.
template <class T>
void copy_padded(View<const T> x, View<T> out) {
  const Index whole = std::min(x.cols, out.cols) / kLanes * kLanes;
  for (Index i = 0; i < x.rows; ++i) {
    const T* const from = x.row(i);
    T* const to = out.row(i);
    Index j = 0;
    for (; j < whole; j += kLanes) {
      Lanes<T> v;
      load_lanes<T>(from + j, v);
      store_lanes<T>(v, to + j);
    }
    for (; j < out.cols; ++j) to[j] = j < x.cols ? from[j] : T(0);
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
  return 2 * plan.head_width * keys  // kᵀ, vᵀ
         + 3 * keys * width          // k or v, and sums of dk, dv
         + 3 * kQueryBlock * width   // q, do, and a block of the result
         + 3 * kQueryBlock * keys;   // p, dp and m ∘ p
}

// The keys that a block of queries sees, those of its last one.
inline Index block_keys(const AttentionPlan& plan, Index b, Index first, Index rows) { return plan.visible_keys(b, first + rows - 1); }

// Scores of a query become exp(scale · (s − largest)), 0 past the visible keys; returns their sum, and log Σ exp(scale · s) in lse.
// cols: padded, not beyond the row.
template <class T>
T exponentials(T* DELTATUNE_RESTRICT s, Index visible, Index cols, T scale, T& lse) {
  for (Index j = visible; j < cols; ++j) s[j] = std::numeric_limits<T>::lowest();
  T largest = s[0];
#pragma omp simd reduction(max : largest)
  for (Index j = 0; j < cols; ++j) largest = largest < s[j] ? s[j] : largest;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index j = 0; j < cols; ++j) {
    s[j] = exp(scale * (s[j] - largest));
    sum += s[j];
  }
  lse = scale * largest + log(sum);
  return sum;
}

template <class T>
void cpu_attention_forward(const AttentionForward<T>& op, int threads) {
  const AttentionPlan& plan = op.plan;
  const Index group = plan.heads / plan.kv_heads;
  const Index width = plan.head_width;
  const bool whole = width % kLanes == 0;  // rows of a head are whole vectors, and can be read and written where they lie
  parallel_tasks(threads, plan.keys.count * plan.kv_heads, [&](Index task, Index worker) {
    const Index b = task / plan.kv_heads;
    const Index kv_head = task % plan.kv_heads;
    const Index key_count = plan.keys.length(b);
    const Index query_count = plan.queries.length(b);
    ScratchCutter<T> scratch(op.scratch.row(worker));
    const View<T> k_transposed = scratch.take(width, padded_cols(key_count));
    const View<T> v = scratch.take(key_count, padded_cols(width));
    const View<T> all_p = scratch.take(kQueryBlock, padded_cols(key_count));
    const View<T> padded_o = scratch.take(kQueryBlock, padded_cols(width));
    copy_transposed(op.k.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width), k_transposed);
    copy_padded(op.v.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width), v);
    for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (Index first = 0; first < query_count; first += kQueryBlock) {
        const Index rows = std::min(kQueryBlock, query_count - first);
        const Index row = plan.queries.first(b) + first;
        const Index keys = block_keys(plan, b, first, rows);
        const View<T> p = all_p.column_range(0, padded_cols(keys));
        small_product<T>(op.q.row(row) + h * width, op.q.stride, 1, k_transposed, p, rows);
        T sums[kQueryBlock];
        for (Index r = 0; r < rows; ++r) {
          T* DELTATUNE_RESTRICT p_r = p.row(r);
          sums[r] = exponentials(p_r, plan.visible_keys(b, first + r), padded_cols(keys), static_cast<T>(plan.scale), op.lse(row + r, h));
          if (plan.dropout.active()) {
            const DropoutMask mask = plan.dropout_of(row + r, h);
            const Index cols = p.cols;
            DELTATUNE_SIMD
            for (Index j = 0; j < cols; ++j) p_r[j] *= mask.template piece_factor<T>(static_cast<std::uint32_t>(j));
          }
        }
        const View<T> o_head = op.o.row_range(row, rows).column_range(h * width, width);
        const View<T> o = whole ? o_head : padded_o;
        small_product<T>(p.data, p.stride, 1, v.row_range(0, keys), o, rows);
        for (Index r = 0; r < rows; ++r) {
          const T inverse = T(1) / sums[r];
          const T* const from = o.row(r);
          T* const to = o_head.row(r);
          DELTATUNE_SIMD
          for (Index d = 0; d < width; ++d) to[d] = inverse * from[d];
        }
      }
    }
  });
}

// Row r of the block: from scores and do·vᵀ to m ∘ p and scale · ds. cols: padded, not beyond the rows.
template <class T>
void softmax_backward(T* DELTATUNE_RESTRICT s, T* DELTATUNE_RESTRICT dp, T* DELTATUNE_RESTRICT kept, Index visible, Index cols, T scale, T lse,
                      const DropoutMask& dropout) {
  for (Index j = visible; j < cols; ++j) s[j] = std::numeric_limits<T>::lowest();
  T mean = 0;  // Σ_j p_j dp_j
  if (dropout.active()) {
    const DropoutMask mask = dropout;
#pragma omp simd reduction(+ : mean)
    for (Index j = 0; j < cols; ++j) {
      const T factor = mask.template piece_factor<T>(static_cast<std::uint32_t>(j));
      s[j] = exp(scale * s[j] - lse);
      kept[j] = factor * s[j];
      dp[j] *= kept[j];
      mean += dp[j];
    }
  } else {
#pragma omp simd reduction(+ : mean)
    for (Index j = 0; j < cols; ++j) {
      s[j] = exp(scale * s[j] - lse);
      dp[j] *= s[j];
      mean += dp[j];
    }
  }
  DELTATUNE_SIMD
  for (Index j = 0; j < cols; ++j) dp[j] = scale * (dp[j] - s[j] * mean);
}

template <class T>
void cpu_attention_backward(const AttentionBackward<T>& op, int threads) {
  const AttentionPlan& plan = op.plan;
  const Index group = plan.heads / plan.kv_heads;
  const Index width = plan.head_width;
  const bool whole = width % kLanes == 0;  // rows of a head are whole vectors, and can be read and written where they lie
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
    const View<T> padded_dq = scratch.take(kQueryBlock, padded_cols(width));
    const View<T> all_p = scratch.take(kQueryBlock, key_cols);
    const View<T> all_dp = scratch.take(kQueryBlock, key_cols);
    const View<T> all_kept = plan.dropout.active() ? scratch.take(kQueryBlock, key_cols) : all_p;  // m ∘ p
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
        const Index keys = block_keys(plan, b, first, rows);
        const View<T> p = all_p.column_range(0, padded_cols(keys));
        const View<T> dp = all_dp.column_range(0, padded_cols(keys));
        const View<T> kept = all_kept.column_range(0, padded_cols(keys));
        copy_padded(op.q.row_range(row, rows).column_range(h * width, width), q);
        copy_padded(op.d_o.row_range(row, rows).column_range(h * width, width), d_o);
        const View<T> dq_head = op.dq.row_range(row, rows).column_range(h * width, width);
        const View<T> dq = whole ? dq_head : padded_dq;
        small_product<T>(q.data, q.stride, 1, k_transposed, p, rows);
        small_product<T>(d_o.data, d_o.stride, 1, v_transposed, dp, rows);
        for (Index r = 0; r < rows; ++r)
          softmax_backward(p.row(r), dp.row(r), kept.row(r), plan.visible_keys(b, first + r), padded_cols(keys), static_cast<T>(plan.scale), op.lse(row + r, h),
                           plan.dropout_of(row + r, h));
        small_product<T>(dp.data, dp.stride, 1, k.row_range(0, keys), dq, rows);              // dq = ds·k
        small_product<T>(dp.data, 1, dp.stride, q.row_range(0, rows), dk, keys, true);        // dk += dsᵀ·q
        small_product<T>(kept.data, 1, kept.stride, d_o.row_range(0, rows), dv, keys, true);  // dv += (m ∘ p)ᵀ·do
        if (!whole) copy_padded<T>(dq.row_range(0, rows), dq_head);
      }
    }
    copy_padded<T>(dk, op.dk.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width));
    copy_padded<T>(dv, op.dv.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width));
  });
}

}  // namespace deltatune::detail
