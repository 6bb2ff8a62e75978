// Attention on the CPU: one task a (sequence, key/value head), all of it in the cache of one core.
//
// The products of a task are small (T × D × T), so they run in a register-tiled loop of our own; the matrix on the right of each is first
// copied into scratch with its rows padded to whole vectors. Scores are padded, too: what is outside the visible keys becomes probability 0, so
// that no loop over them has a rest. No more than kQueryBlock rows of scores exist at a time, and of them only the keys that some query of the block
// sees. Backward rebuilds the probabilities from lse, takes dp = m ∘ (do·vᵀ) and the softmax's pull-back ds = p ∘ (dp − Σ_j p_j dp_j).
//
// A relative bias is laid out by distance once a call, one line of numbers a head, and a row of scores adds a piece of it. Its gradient is summed in
// such lines, one a sequence and head; when all tasks are done, those are added up in the order of the sequences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "deltatune/backend/attention.hpp"
#include "deltatune/backend/cpu/lanes.hpp"
#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/core/scalar.hpp"

namespace deltatune::detail {

inline constexpr Index kQueryBlock = 32;  // rows of scores held at a time

// A block of queries to multiply with: x itself where its rows are whole vectors, else a copy in `padded`. A copy, too, where rows lie so far apart that
// a block of them would share a few sets of the first cache.
template <class T>
View<const T> whole_rows(View<const T> x, View<T> padded) {
  constexpr Index kShared = 2048 / static_cast<Index>(sizeof(T));
  if (x.cols % kLanes == 0 && x.stride % kShared != 0) return x;
  copy_padded(x, padded);
  return padded.row_range(0, x.rows);
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

// A line of numbers by the distance of key and query: that of distance x is at [before + x]. Reaches as far as the padding behind the last key.
struct DistanceLine {
  Index before = 0;
  Index length = 0;
};
inline DistanceLine distance_line(const AttentionPlan& plan) {
  const bool from_end = plan.first_place < 0;
  const Index before = from_end ? plan.keys.max_length : plan.first_place + plan.queries.max_length;
  const Index after = std::max(from_end ? plan.queries.max_length : plan.keys.max_length - plan.first_place, Index{0}) + plan.distance_shift + kLanes;
  return {before, before + after};
}

// Elements of scratch for one worker; covers forward and backward.
inline Index cpu_attention_scratch(const AttentionPlan& plan) {
  const Index keys = padded_cols(plan.keys.max_length);
  const Index width = padded_cols(plan.head_width);
  return 2 * plan.head_width * keys            // kᵀ, vᵀ
         + 3 * keys * width                    // k or v, and sums of dk, dv
         + 3 * kQueryBlock * width             // q, do, and a block of the result
         + 3 * kQueryBlock * keys              // p, dp and m ∘ p
         + (plan.shapes_scores() ? keys : 0);  // the slopes of a row of scores
}

// Elements of scratch that the workers share: the lines of the biases, and in backward those of their gradients.
inline Index cpu_attention_shared_scratch(const AttentionPlan& plan) {
  return plan.relative.buckets > 0 ? (1 + plan.keys.count) * plan.heads * distance_line(plan).length : 0;
}

// The keys that a block of queries sees: from the first key of its first query, or a little before, where a vector begins, to the last one of its last.
inline IndexRange block_keys(const AttentionPlan& plan, Index b, Index first, Index rows) {
  return {plan.visible_keys(b, first).begin / kLanes * kLanes, plan.visible_keys(b, first + rows - 1).end};
}

// How many of the keys from `begin` on have no bias.
inline Index unbiased_of(const AttentionPlan& plan, Index begin) { return std::max(plan.unbiased_keys - begin, Index{0}); }

// The same keys counted from another one.
inline IndexRange counted_from(Index key, IndexRange keys) { return {keys.begin - key, keys.end - key}; }

// Whether each of a row's keys is visible: not by what their scores are, as exponentials that underflow take a hundred times as long as others.
class VisibleColumns {
 public:
  explicit VisibleColumns(IndexRange visible)
      : begin_(static_cast<std::uint32_t>(visible.begin)), count_(static_cast<std::uint32_t>(visible.end - visible.begin)) {}
  DELTATUNE_INLINE bool has(std::int32_t j) const { return static_cast<std::uint32_t>(j) - begin_ < count_; }

 private:
  std::uint32_t begin_, count_;
};

// Products q·k become scores. slopes: to be the scores' derivatives, or null; biases: those of the same keys, or null, of which the first `unbiased` do not
// count.
template <class T>
void shape_scores(const AttentionPlan& plan, T* DELTATUNE_RESTRICT s, T* DELTATUNE_RESTRICT slopes, const T* biases, Index unbiased, Index cols) {
  DELTATUNE_SIMD
  for (Index j = 0; j < cols; ++j) s[j] = plan.score(s[j]);
  if (slopes != nullptr) {
    DELTATUNE_SIMD
    for (Index j = 0; j < cols; ++j) slopes[j] = plan.slope(s[j]);
  }
  if (biases == nullptr) return;
  DELTATUNE_SIMD
  for (Index j = unbiased; j < cols; ++j) s[j] += biases[j];
}

// lines (H, length): bias (buckets, H) by distance.
template <class T>
void lay_out_bias(const AttentionPlan& plan, View<const T> bias, View<T> lines) {
  const Index before = distance_line(plan).before;
  for (Index bucket = 0; bucket < plan.relative.buckets; ++bucket) {
    const IndexRange distances = plan.relative.distances(bucket);
    const Index begin = std::max(before + distances.begin, Index{0});
    const Index end = std::min(before + distances.end, lines.cols);
    for (Index h = 0; h < plan.heads && begin < end; ++h) std::fill(lines.row(h) + begin, lines.row(h) + end, bias(bucket, h));
  }
}

// Its pull-back: d_bias (buckets, H) += what lines (B·H, length) hold for the distances of each bucket. The lines of the first sequence become sums.
template <class T>
void gather_bias(const AttentionPlan& plan, View<T> lines, View<T> d_bias) {
  for (Index row = plan.heads; row < lines.rows; ++row) {
    T* DELTATUNE_RESTRICT const sum = lines.row(row % plan.heads);
    const T* DELTATUNE_RESTRICT const line = lines.row(row);
    DELTATUNE_SIMD
    for (Index x = 0; x < lines.cols; ++x) sum[x] += line[x];
  }
  const Index before = distance_line(plan).before;
  for (Index bucket = 0; bucket < plan.relative.buckets; ++bucket) {
    const IndexRange distances = plan.relative.distances(bucket);
    const Index begin = std::max(before + distances.begin, Index{0});
    const Index end = std::min(before + distances.end, lines.cols);
    for (Index h = 0; h < plan.heads; ++h)
      for (Index x = begin; x < end; ++x) d_bias(bucket, h) += lines(h, x);
  }
}

// Scores of a query become exp(scale · (s − largest)), 0 outside the visible keys; returns their sum, and log Σ exp(scale · s) in lse.
// cols: padded, not beyond the row.
template <class T>
T exponentials(T* DELTATUNE_RESTRICT s, IndexRange visible, Index cols, T scale, T& lse) {
  const VisibleColumns seen(visible);
  const std::int32_t n = static_cast<std::int32_t>(cols);
  T largest = s[visible.begin];
#pragma omp simd reduction(max : largest)
  for (std::int32_t j = 0; j < n; ++j) {
    const T score = select(seen.has(j), s[j], std::numeric_limits<T>::lowest());
    largest = largest < score ? score : largest;
  }
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int32_t j = 0; j < n; ++j) {
    s[j] = select(seen.has(j), exp(scale * (s[j] - largest)), T(0));
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
  const bool shaped = plan.shapes_scores();
  const T scale = shaped ? T(1) : static_cast<T>(plan.scale);  // what is left to the softmax
  const DistanceLine line = distance_line(plan);
  const View<T> biases(op.bias ? op.scratch.row(threads) : nullptr, plan.heads, line.length);
  if (biases) lay_out_bias(plan, op.bias, biases);
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
        const auto [begin, end] = block_keys(plan, b, first, rows);
        const Index cols = padded_cols(end - begin);
        const View<T> p = all_p.column_range(0, cols);
        small_product<T>(op.q.row(row) + h * width, op.q.stride, 1, k_transposed.column_range(begin, cols), p, rows);
        T sums[kQueryBlock];
        for (Index r = 0; r < rows; ++r) {
          T* DELTATUNE_RESTRICT p_r = p.row(r);
          if (shaped)
            shape_scores<T>(plan, p_r, nullptr, biases ? biases.row(h) + line.before + plan.distance(b, first + r, begin) : nullptr, unbiased_of(plan, begin),
                            cols);
          sums[r] = exponentials(p_r, counted_from(begin, plan.visible_keys(b, first + r)), cols, scale, op.lse(row + r, h));
          if (plan.dropout.active()) {
            const DropoutMask mask = plan.dropout_of(row + r, h);
            const Index first_key = begin;
            DELTATUNE_SIMD
            for (Index j = 0; j < cols; ++j) p_r[j] *= mask.template piece_factor<T>(static_cast<std::uint32_t>(first_key + j));
          }
        }
        const View<T> o_head = op.o.row_range(row, rows).column_range(h * width, width);
        const View<T> o = whole ? o_head : padded_o;
        small_product<T>(p.data, p.stride, 1, v.row_range(begin, end - begin), o, rows);
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

// Row r of the block: from scores and do·vᵀ to m ∘ p and scale · ds. first_key: that of column 0; cols: padded, not beyond the rows.
template <class T>
void softmax_backward(T* DELTATUNE_RESTRICT s, T* DELTATUNE_RESTRICT dp, T* DELTATUNE_RESTRICT kept, IndexRange visible, Index cols, T scale, T lse,
                      const DropoutMask& dropout, Index first_key) {
  const VisibleColumns seen(visible);
  const std::int32_t n = static_cast<std::int32_t>(cols);
  T mean = 0;  // Σ_j p_j dp_j
  if (dropout.active()) {
    const DropoutMask mask = dropout;
    const std::uint32_t first = static_cast<std::uint32_t>(first_key);
#pragma omp simd reduction(+ : mean)
    for (std::int32_t j = 0; j < n; ++j) {
      const T factor = mask.template piece_factor<T>(first + static_cast<std::uint32_t>(j));
      s[j] = select(seen.has(j), exp(scale * s[j] - lse), T(0));
      kept[j] = factor * s[j];
      dp[j] *= kept[j];
      mean += dp[j];
    }
  } else {
#pragma omp simd reduction(+ : mean)
    for (std::int32_t j = 0; j < n; ++j) {
      s[j] = select(seen.has(j), exp(scale * s[j] - lse), T(0));
      dp[j] *= s[j];
      mean += dp[j];
    }
  }
  DELTATUNE_SIMD
  for (Index j = 0; j < cols; ++j) dp[j] = scale * (dp[j] - s[j] * mean);
}

// The same row where scores are shaped: ds is added to d_biases, those of the same keys or null, and then multiplied by the slopes.
template <class T>
void shape_scores_backward(T* DELTATUNE_RESTRICT ds, const T* DELTATUNE_RESTRICT slopes, T* DELTATUNE_RESTRICT d_biases, Index unbiased, Index cols) {
  if (d_biases != nullptr) {
    DELTATUNE_SIMD
    for (Index j = unbiased; j < cols; ++j) d_biases[j] += ds[j];
  }
  DELTATUNE_SIMD
  for (Index j = 0; j < cols; ++j) ds[j] *= slopes[j];
}

template <class T>
void cpu_attention_backward(const AttentionBackward<T>& op, int threads) {
  const AttentionPlan& plan = op.plan;
  const Index group = plan.heads / plan.kv_heads;
  const Index width = plan.head_width;
  const bool whole = width % kLanes == 0;  // rows of a head are whole vectors, and can be read and written where they lie
  const bool shaped = plan.shapes_scores();
  const T scale = shaped ? T(1) : static_cast<T>(plan.scale);  // what is left to the softmax
  const DistanceLine line = distance_line(plan);
  const View<T> biases(op.bias ? op.scratch.row(threads) : nullptr, plan.heads, line.length);
  const View<T> d_biases(op.d_bias ? op.scratch.row(threads) + plan.heads * line.length : nullptr, plan.keys.count * plan.heads, line.length);
  if (biases) lay_out_bias(plan, op.bias, biases);
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
    const View<T> padded_q = scratch.take(kQueryBlock, padded_cols(width));
    const View<T> padded_d_o = scratch.take(kQueryBlock, padded_cols(width));
    const View<T> padded_dq = scratch.take(kQueryBlock, padded_cols(width));
    const View<T> all_p = scratch.take(kQueryBlock, key_cols);
    const View<T> all_dp = scratch.take(kQueryBlock, key_cols);
    const View<T> all_kept = plan.dropout.active() ? scratch.take(kQueryBlock, key_cols) : all_p;  // m ∘ p
    T* const slopes = shaped ? scratch.take(1, key_cols).data : nullptr;
    const View<const T> k_head = op.k.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width);
    copy_transposed(k_head, k_transposed);
    copy_transposed(op.v.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width), v_transposed);
    copy_padded(k_head, k);
    std::fill_n(dk.data, dk.size(), T(0));
    std::fill_n(dv.data, dv.size(), T(0));
    for (Index h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      T* const d_line = d_biases ? d_biases.row(b * plan.heads + h) : nullptr;
      if (d_line != nullptr) std::fill_n(d_line, line.length, T(0));
      for (Index first = 0; first < query_count; first += kQueryBlock) {
        const Index rows = std::min(kQueryBlock, query_count - first);
        const Index row = plan.queries.first(b) + first;
        const auto [begin, end] = block_keys(plan, b, first, rows);
        const Index cols = padded_cols(end - begin);
        const View<T> p = all_p.column_range(0, cols);
        const View<T> dp = all_dp.column_range(0, cols);
        const View<T> kept = all_kept.column_range(0, cols);
        const Index unbiased = unbiased_of(plan, begin);
        const View<const T> q = whole_rows(op.q.row_range(row, rows).column_range(h * width, width), padded_q);
        const View<const T> d_o = whole_rows(op.d_o.row_range(row, rows).column_range(h * width, width), padded_d_o);
        const View<T> dq_head = op.dq.row_range(row, rows).column_range(h * width, width);
        const View<T> dq = whole ? dq_head : padded_dq;
        small_product<T>(q.data, q.stride, 1, k_transposed.column_range(begin, cols), p, rows);
        small_product<T>(d_o.data, d_o.stride, 1, v_transposed.column_range(begin, cols), dp, rows);
        for (Index r = 0; r < rows; ++r) {
          const Index at = line.before + plan.distance(b, first + r, begin);  // of this row's first key in a line
          if (shaped) shape_scores<T>(plan, p.row(r), slopes, biases ? biases.row(h) + at : nullptr, unbiased, cols);
          softmax_backward(p.row(r), dp.row(r), kept.row(r), counted_from(begin, plan.visible_keys(b, first + r)), cols, scale, op.lse(row + r, h),
                           plan.dropout_of(row + r, h), begin);
          if (shaped) shape_scores_backward<T>(dp.row(r), slopes, d_line != nullptr ? d_line + at : nullptr, unbiased, cols);
        }
        const Index keys = end - begin;
        small_product<T>(dp.data, dp.stride, 1, k.row_range(begin, keys), dq, rows);              // dq = ds·k
        small_product<T>(dp.data, 1, dp.stride, q, dk.row_range(begin, keys), keys, true);        // dk += dsᵀ·q
        small_product<T>(kept.data, 1, kept.stride, d_o, dv.row_range(begin, keys), keys, true);  // dv += (m ∘ p)ᵀ·do
        if (!whole) copy_padded<T>(dq.row_range(0, rows), dq_head);
      }
    }
    copy_padded<T>(dk, op.dk.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width));
    copy_padded<T>(dv, op.dv.row_range(plan.keys.first(b), key_count).column_range(kv_head * width, width));
  });
  if (d_biases) gather_bias(plan, d_biases, op.d_bias);
}

}  // namespace deltatune::detail
