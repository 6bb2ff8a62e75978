// Attention on CUDA: tiles in shared memory, sums in registers; no score ever reaches global memory.
//
// Legend as in backend/attention.hpp; s_ij = scale · q_i·k_j, m the dropout factors.
//   forward           one sweep over the keys with a running maximum and sum (Milakov and Gimelshein 2018, arXiv 1805.02867):
//                     o_i = Σ_j m_ij exp(s_ij - max) v_j / Σ_j exp(s_ij - max),   lse_i = max + log Σ_j exp(s_ij - max)
//   backward, queries p_ij = exp(s_ij - lse_i),   dp_ij = m_ij · do_i·v_j
//                     first sweep   δ_i = Σ_j p_ij dp_ij     (o is not kept, so do_i·o_i is not at hand)
//                     second sweep  dq_i = scale Σ_j p_ij (dp_ij - δ_i) k_j; keys that fit one tile are not computed again
//   backward, keys    dk_j = scale Σ_i p_ij (dp_ij - δ_i) q_i,   dv_j = Σ_i m_ij p_ij do_i, over the query heads of the key's group
// The tiling is that of Dao et al. 2022 (arXiv 2205.14135) and Dao 2023 (arXiv 2307.08691), with two kernels in backward, so that every sum
// has one owner: no atomics, and the same bits on every run.
//
// A block owns a tile of rows (queries; in the last kernel keys) of one head and sequence and sweeps over tiles of the others. Head widths
// are compiled for 32, 64 and 128, the columns up to there hold zeros. A warp owns 16 rows, a thread 4 × Cols/8 scores and 4 × Width/8
// sums, so that a 16-byte load from shared memory feeds at least 8 multiply-adds; weights pass from scores to sums within the warp. Warps
// whose rows lie behind the end of the sequence only help to load.
// Plans with a window, a soft cap, a relative bias or places of their own (not AttentionPlan::plain()) are left to the general body
// (ops/attention.hpp), and so are heads wider than 128.
// Everything is float32: no tensor cores. Loads overlap with arithmetic only across the blocks of a multiprocessor.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "deltatune/backend/attention.hpp"
#include "deltatune/backend/cuda/launch.hpp"
#include "deltatune/core/scalar.hpp"

namespace deltatune::detail {

inline constexpr float kLowestScore = std::numeric_limits<float>::lowest();

// exp(x) of x that rounding alone may lift above 0; not below exp(-87). Half the instructions of math::exp.
DELTATUNE_INLINE float exp_of_negative(float x) {
  const ReducedExp e = reduced_exp(x < -87.0F ? -87.0F : x);
  const float scale = power_of_two(e.n);
  return scale + scale * e.exp_r_minus_1;
}

// What is read and written at once when addresses allow it.
struct alignas(16) Float4 {
  float at[4];
};

// The sequences and the head that a block works on. Places within the sequences are int.
struct AttentionBlock {
  int h;              // of the rows' heads
  int group;          // query heads of a key/value head
  int first;          // row of the sequence that the tile begins with
  Index query_row;    // packed row of query 0
  Index key_row;      // and of key 0
  int queries, keys;  // lengths
  bool causal;

  // blockIdx.x = (sequence · heads + h) · tiles + tile
  __device__ AttentionBlock(const AttentionPlan& plan, const Sequences& rows, Index heads, int tile_rows) : causal(plan.causal) {
    const unsigned size = static_cast<unsigned>(tile_rows);
    const unsigned tiles = (static_cast<unsigned>(rows.max_length) + size - 1) / size;
    const unsigned head = blockIdx.x / tiles;
    const Index b = head / static_cast<unsigned>(heads);
    group = static_cast<int>(plan.heads) / static_cast<int>(plan.kv_heads);
    h = static_cast<int>(head % static_cast<unsigned>(heads));
    first = static_cast<int>(blockIdx.x % tiles) * tile_rows;
    query_row = plan.queries.first(b);
    key_row = plan.keys.first(b);
    queries = static_cast<int>(plan.queries.length(b));
    keys = static_cast<int>(plan.keys.length(b));
  }

  // How many keys query t sees; none behind the end.
  __device__ int visible(int t) const { return t >= queries ? 0 : causal ? keys - queries + t + 1 : keys; }
};

// The work of a block on a tile of Rows × Cols scores, and the part of this thread in it: rows row + 4r, columns col + 8c.
// The lanes of a warp stand 4 × 8, two rows interleaved, so that a half of the warp reads at most 128 bytes of shared memory at a time.
template <int Width, int Rows, int Cols>
struct AttentionTile {
  static constexpr int kRows = Rows;
  static constexpr int kCols = Cols;
  static constexpr int kThreads = 2 * Rows;
  static constexpr int kBlocks = (Width < 128 ? 384 : 256) / kThreads;  // of a multiprocessor: that many find registers
  static constexpr int kStride = Width + 4;                             // of q, k, v and do in shared memory: eight rows at one column lie in different banks
  static constexpr int kWeightStride = Cols + 8;                        // of the weights: four rows at eight columns do
  static constexpr int kRowFloats = Rows * kStride;
  static constexpr int kColFloats = Cols * kStride;
  static constexpr int kWeightFloats = Rows * kWeightStride;
  static constexpr int kForwardFloats = kRowFloats + 2 * kColFloats + kWeightFloats;                  // q, k, v
  static constexpr int kBackwardFloats = 2 * kRowFloats + 2 * kColFloats + kWeightFloats + 2 * Cols;  // and do; lse and δ of columns
  using Scores = float[4][Cols / 8];
  using Sums = float[4][Width / 8];  // columns 4·col + 32c ...

  int row;
  int col;

  __device__ AttentionTile() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    row = static_cast<int>(threadIdx.x) / 32 * 16 + (lane & 1) + (lane >> 4) * 2;
    col = (lane >> 1) & 7;
  }

  // Whether any of the warp's rows is below count.
  __device__ bool busy(int count) const { return static_cast<int>(threadIdx.x) / 32 * 16 < count; }

  // The sum over the eight threads of a row, in all of them.
  __device__ static float sum_of_row(float x) {
    for (int distance = 2; distance <= 8; distance *= 2) x += __shfl_xor_sync(0xffffffffU, x, distance);
    return x;
  }
  __device__ static float max_of_row(float x) {
    for (int distance = 2; distance <= 8; distance *= 2) x = std::fmax(x, __shfl_xor_sync(0xffffffffU, x, distance));
    return x;
  }

  // to (Count, Width) = the first `rows` rows and `width` columns of x, zeros elsewhere. By all threads.
  template <int Count>
  __device__ static void load(const float* x, Index stride, int rows, int width, bool by_four, float* to) {
    constexpr int kAtOnce = 4;
    const int thread = static_cast<int>(threadIdx.x);
    if (by_four) {
      constexpr int kPerRow = Width / 4;
      constexpr int kStep = kThreads / kPerRow;  // rows read by one load of all threads
      static_assert(Count % (kAtOnce * kStep) == 0);
      const int d = thread % kPerRow * 4;
      const int r = thread / kPerRow;
      if (d >= width) rows = 0;
      x += r * stride + d;
      to += r * kStride + d;
      for (int begin = 0; begin < Count; begin += kAtOnce * kStep) {
        Float4 held[kAtOnce];
        DELTATUNE_UNROLL
        for (int i = 0; i < kAtOnce; ++i) {
          held[i] = begin + i * kStep + r < rows ? *reinterpret_cast<const Float4*>(x) : Float4{};
          x += kStep * stride;
        }
        DELTATUNE_UNROLL
        for (int i = 0; i < kAtOnce; ++i) *reinterpret_cast<Float4*>(to + (begin + i * kStep) * kStride) = held[i];
      }
    } else {
      for (int place = thread; place < Count * Width; place += kThreads) {
        const int r = place / Width;
        const int d = place % Width;
        to[r * kStride + d] = r < rows && d < width ? x[r * stride + d] : 0.0F;
      }
    }
  }

  __device__ static void clear(Scores& s) {
    DELTATUNE_UNROLL
    for (int r = 0; r < 4; ++r) {
      DELTATUNE_UNROLL
      for (int c = 0; c < Cols / 8; ++c) s[r][c] = 0.0F;
    }
  }

  // s += the products of a's rows and b's rows.
  __device__ void dot(const float* a, const float* b, Scores& s) const {
    a += row * kStride;
    b += col * kStride;
    for (int d = 0; d < Width; d += 4) {
      Float4 x[4];
      DELTATUNE_UNROLL
      for (int r = 0; r < 4; ++r) x[r] = *reinterpret_cast<const Float4*>(a + 4 * r * kStride + d);
      DELTATUNE_UNROLL
      for (int c = 0; c < Cols / 8; ++c) {
        const Float4 y = *reinterpret_cast<const Float4*>(b + 8 * c * kStride + d);
        DELTATUNE_UNROLL
        for (int e = 0; e < 4; ++e) {
          DELTATUNE_UNROLL
          for (int r = 0; r < 4; ++r) s[r][c] += x[r].at[e] * y.at[e];
        }
      }
    }
  }

  // sums += weights · x over the first `count` columns of weights and rows of x, behind which there are zeros.
  __device__ void add(const float* weights, const float* x, int count, Sums& sums) const {
    weights += row * kWeightStride;
    x += 4 * col;
    for (int j = 0; j < count; j += 4) {
      Float4 w[4];
      DELTATUNE_UNROLL
      for (int r = 0; r < 4; ++r) w[r] = *reinterpret_cast<const Float4*>(weights + 4 * r * kWeightStride + j);
      DELTATUNE_UNROLL
      for (int e = 0; e < 4; ++e) {
        DELTATUNE_UNROLL
        for (int c = 0; c < Width / 32; ++c) {
          const Float4 y = *reinterpret_cast<const Float4*>(x + (j + e) * kStride + 32 * c);
          DELTATUNE_UNROLL
          for (int r = 0; r < 4; ++r) {
            DELTATUNE_UNROLL
            for (int i = 0; i < 4; ++i) sums[r][4 * c + i] += w[r].at[e] * y.at[i];
          }
        }
      }
    }
  }

  // s times the dropout factors of rows of queries from query_row on, and of keys from first_key on.
  __device__ void drop(const AttentionPlan& plan, Index query_row, int h, int first_key, Scores& s) const {
    DELTATUNE_UNROLL
    for (int c = 0; c < Cols / 8; ++c) {
      DELTATUNE_UNROLL
      for (int r = 0; r < 4; ++r) {
        const std::uint64_t stream = plan.dropout_row(query_row + row + 4 * r, h);
        s[r][c] *= plan.dropout.template factor<float>(stream + static_cast<std::uint64_t>(first_key + col + 8 * c));
      }
    }
  }

  // The warp's rows of weights = s. Nobody else reads or writes them.
  __device__ void share(const Scores& s, float* weights) const {
    __syncwarp();  // whoever still reads what was there
    DELTATUNE_UNROLL
    for (int r = 0; r < 4; ++r) {
      DELTATUNE_UNROLL
      for (int c = 0; c < Cols / 8; ++c) weights[(row + 4 * r) * kWeightStride + col + 8 * c] = s[r][c];
    }
    __syncwarp();
  }

  __device__ void store(const Sums& sums, float* x, Index stride, int rows, int width, bool by_four) const {
    DELTATUNE_UNROLL
    for (int r = 0; r < 4; ++r) {
      if (row + 4 * r >= rows) continue;
      float* to = x + (row + 4 * r) * stride;
      DELTATUNE_UNROLL
      for (int c = 0; c < Width / 32; ++c) {
        const int d = 4 * col + 32 * c;
        if (by_four) {
          const Float4 four{sums[r][4 * c], sums[r][4 * c + 1], sums[r][4 * c + 2], sums[r][4 * c + 3]};
          if (d < width) *reinterpret_cast<Float4*>(to + d) = four;
        } else {
          DELTATUNE_UNROLL
          for (int i = 0; i < 4; ++i)
            if (d + i < width) to[d + i] = sums[r][4 * c + i];
        }
      }
    }
  }
};

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) attention_forward_kernel(const AttentionForward<float> op, bool by_four) {
  const AttentionPlan& plan = op.plan;
  const AttentionBlock block(plan, plan.queries, plan.heads, Tile::kRows);
  const int count = min(Tile::kRows, block.queries - block.first);
  if (count <= 0) return;
  DELTATUNE_SHARED_MEMORY(shared);
  float* const q = reinterpret_cast<float*>(shared);
  float* const k = q + Tile::kRowFloats;
  float* const v = k + Tile::kColFloats;
  float* const weights = v + Tile::kColFloats;
  const Tile tile;
  const int width = static_cast<int>(plan.head_width);
  const float scale = static_cast<float>(plan.scale);
  const Index query_row = block.query_row + block.first;
  const int col = block.h * width;
  const int kv_col = block.h / block.group * width;

  Tile::template load<Tile::kRows>(op.q.row(query_row) + col, op.q.stride, count, width, by_four, q);
  typename Tile::Sums o = {};
  float largest[4], sum[4];  // sum: over this thread's columns
  DELTATUNE_UNROLL
  for (int r = 0; r < 4; ++r) {
    largest[r] = kLowestScore;
    sum[r] = 0.0F;
  }
  const int visible = block.visible(block.first + count - 1);  // the tile's last row sees the most
  for (int first = 0; first < visible; first += Tile::kCols) {
    const int cols = min(Tile::kCols, visible - first);
    __syncthreads();  // the last tile is done with
    Tile::template load<Tile::kCols>(op.k.row(block.key_row + first) + kv_col, op.k.stride, cols, width, by_four, k);
    Tile::template load<Tile::kCols>(op.v.row(block.key_row + first) + kv_col, op.v.stride, cols, width, by_four, v);
    __syncthreads();
    if (!tile.busy(count)) continue;
    typename Tile::Scores s = {};
    tile.dot(q, k, s);
    DELTATUNE_UNROLL
    for (int r = 0; r < 4; ++r) {
      const int t = tile.row + 4 * r;
      const int seen = block.visible(block.first + t) - first;
      float raised = kLowestScore;
      DELTATUNE_UNROLL
      for (int c = 0; c < Tile::kCols / 8; ++c) {
        s[r][c] *= scale;
        if (tile.col + 8 * c < seen) raised = std::fmax(raised, s[r][c]);
      }
      raised = std::fmax(largest[r], Tile::max_of_row(raised));
      const float rescale = exp_of_negative(largest[r] - raised);
      largest[r] = raised;
      sum[r] *= rescale;
      DELTATUNE_UNROLL
      for (int c = 0; c < Tile::kCols / 8; ++c) {
        const int j = tile.col + 8 * c;
        s[r][c] = select(j < seen, exp_of_negative(s[r][c] - raised), 0.0F);
        sum[r] += s[r][c];
      }
      DELTATUNE_UNROLL
      for (float& x : o[r]) x *= rescale;
    }
    if (plan.dropout.active()) tile.drop(plan, query_row, block.h, first, s);
    tile.share(s, weights);
    tile.add(weights, v, cols, o);
  }
  if (!tile.busy(count)) return;
  DELTATUNE_UNROLL
  for (int r = 0; r < 4; ++r) {
    const float total = Tile::sum_of_row(sum[r]);
    const int t = tile.row + 4 * r;
    if (tile.col == 0 && t < count) op.lse(query_row + t, block.h) = largest[r] + log(total);
    const float inverse = 1.0F / total;
    DELTATUNE_UNROLL
    for (float& x : o[r]) x *= inverse;
  }
  tile.store(o, op.o.row(query_row) + col, op.o.stride, count, width, by_four);
}

// dq, and δ (Nq, H) into the scratch.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) attention_backward_queries_kernel(const AttentionBackward<float> op, bool by_four) {
  const AttentionPlan& plan = op.plan;
  const AttentionBlock block(plan, plan.queries, plan.heads, Tile::kRows);
  const int count = min(Tile::kRows, block.queries - block.first);
  if (count <= 0) return;
  DELTATUNE_SHARED_MEMORY(shared);
  float* const q = reinterpret_cast<float*>(shared);
  float* const d_o = q + Tile::kRowFloats;
  float* const k = d_o + Tile::kRowFloats;
  float* const v = k + Tile::kColFloats;
  float* const weights = v + Tile::kColFloats;
  const Tile tile;
  const int width = static_cast<int>(plan.head_width);
  const float scale = static_cast<float>(plan.scale);
  const Index query_row = block.query_row + block.first;
  const int col = block.h * width;
  const int kv_col = block.h / block.group * width;

  Tile::template load<Tile::kRows>(op.q.row(query_row) + col, op.q.stride, count, width, by_four, q);
  Tile::template load<Tile::kRows>(op.d_o.row(query_row) + col, op.d_o.stride, count, width, by_four, d_o);
  float lse[4], delta[4];
  DELTATUNE_UNROLL
  for (int r = 0; r < 4; ++r) {
    const int t = tile.row + 4 * r;
    lse[r] = t < count ? op.lse(query_row + t, block.h) : 0.0F;
    delta[r] = 0.0F;
  }
  typename Tile::Sums dq = {};
  typename Tile::Scores p, dp;
  const int visible = block.visible(block.first + count - 1);
  for (int sweep = 0; sweep < 2; ++sweep) {
    for (int first = 0; first < visible; first += Tile::kCols) {
      const int cols = min(Tile::kCols, visible - first);
      if (sweep == 0 || visible > Tile::kCols) {
        __syncthreads();  // the last tile is done with
        Tile::template load<Tile::kCols>(op.k.row(block.key_row + first) + kv_col, op.k.stride, cols, width, by_four, k);
        Tile::template load<Tile::kCols>(op.v.row(block.key_row + first) + kv_col, op.v.stride, cols, width, by_four, v);
        __syncthreads();
        Tile::clear(p);  // by all warps, so that nobody keeps the registers while loading
        Tile::clear(dp);
      }
      if (!tile.busy(count)) continue;
      if (sweep == 0 || visible > Tile::kCols) {
        tile.dot(q, k, p);
        tile.dot(d_o, v, dp);
        DELTATUNE_UNROLL
        for (int c = 0; c < Tile::kCols / 8; ++c) {
          const int j = tile.col + 8 * c;
          DELTATUNE_UNROLL
          for (int r = 0; r < 4; ++r) {
            const int t = tile.row + 4 * r;
            const int seen = block.visible(block.first + t) - first;
            p[r][c] = select(j < seen, exp_of_negative(scale * p[r][c] - lse[r]), 0.0F);
          }
        }
        if (plan.dropout.active()) tile.drop(plan, query_row, block.h, first, dp);
      }
      if (sweep == 0) {
        DELTATUNE_UNROLL
        for (int r = 0; r < 4; ++r) {
          DELTATUNE_UNROLL
          for (int c = 0; c < Tile::kCols / 8; ++c) delta[r] += p[r][c] * dp[r][c];
        }
      } else {
        DELTATUNE_UNROLL
        for (int r = 0; r < 4; ++r) {
          DELTATUNE_UNROLL
          for (int c = 0; c < Tile::kCols / 8; ++c) p[r][c] *= scale * (dp[r][c] - delta[r]);
        }
        tile.share(p, weights);
        tile.add(weights, k, cols, dq);
      }
    }
    if (sweep == 0) {
      DELTATUNE_UNROLL
      for (int r = 0; r < 4; ++r) delta[r] = Tile::sum_of_row(delta[r]);
    }
  }
  DELTATUNE_UNROLL
  for (int r = 0; r < 4; ++r) {
    const int t = tile.row + 4 * r;
    if (tile.col == 0 && t < count) op.scratch.data[(query_row + t) * plan.heads + block.h] = delta[r];
  }
  tile.store(dq, op.dq.row(query_row) + col, op.dq.stride, count, width, by_four);
}

// dk and dv. The scores are transposed: a row is a key.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) attention_backward_keys_kernel(const AttentionBackward<float> op, bool by_four) {
  const AttentionPlan& plan = op.plan;
  const AttentionBlock block(plan, plan.keys, plan.kv_heads, Tile::kRows);
  const int count = min(Tile::kRows, block.keys - block.first);
  if (count <= 0) return;
  DELTATUNE_SHARED_MEMORY(shared);
  float* const k = reinterpret_cast<float*>(shared);
  float* const v = k + Tile::kRowFloats;
  float* const q = v + Tile::kRowFloats;
  float* const d_o = q + Tile::kColFloats;
  float* const weights = d_o + Tile::kColFloats;
  float* const lse = weights + Tile::kWeightFloats;
  float* const delta = lse + Tile::kCols;
  const Tile tile;
  const int width = static_cast<int>(plan.head_width);
  const float scale = static_cast<float>(plan.scale);
  const Index key_row = block.key_row + block.first;
  const int kv_col = block.h * width;

  Tile::template load<Tile::kRows>(op.k.row(key_row) + kv_col, op.k.stride, count, width, by_four, k);
  Tile::template load<Tile::kRows>(op.v.row(key_row) + kv_col, op.v.stride, count, width, by_four, v);
  typename Tile::Sums dk = {}, dv = {};
  const int begin = plan.causal ? max(0, block.first - (block.keys - block.queries)) : 0;  // the first query that sees any key of the tile
  for (int h = block.h * block.group; h < (block.h + 1) * block.group; ++h) {
    for (int first = begin; first < block.queries; first += Tile::kCols) {
      const int cols = min(Tile::kCols, block.queries - first);
      const Index query_row = block.query_row + first;
      __syncthreads();  // the last tile is done with
      Tile::template load<Tile::kCols>(op.q.row(query_row) + h * width, op.q.stride, cols, width, by_four, q);
      Tile::template load<Tile::kCols>(op.d_o.row(query_row) + h * width, op.d_o.stride, cols, width, by_four, d_o);
      if (const int t = static_cast<int>(threadIdx.x); t < Tile::kCols) {
        lse[t] = t < cols ? op.lse(query_row + t, h) : 0.0F;
        delta[t] = t < cols ? op.scratch.data[(query_row + t) * plan.heads + h] : 0.0F;
      }
      __syncthreads();
      if (!tile.busy(count)) continue;
      typename Tile::Scores p = {}, ds = {};
      tile.dot(k, q, p);
      tile.dot(v, d_o, ds);
      unsigned dropped = 0;  // a bit a score
      if (plan.dropout.active()) {
        const std::uint64_t j = static_cast<std::uint64_t>(block.first + tile.row);
        DELTATUNE_UNROLL
        for (int c = 0; c < Tile::kCols / 8; ++c) {
          const std::uint64_t stream = plan.dropout_row(query_row + tile.col + 8 * c, h) + j;
          DELTATUNE_UNROLL
          for (int r = 0; r < 4; ++r)
            if (plan.dropout.template factor<float>(stream + static_cast<std::uint64_t>(4 * r)) == 0.0F) dropped |= 1U << (4 * c + r);
        }
      }
      DELTATUNE_UNROLL
      for (int c = 0; c < Tile::kCols / 8; ++c) {
        const int t = tile.col + 8 * c;
        const int seen = block.visible(first + t) - block.first;
        DELTATUNE_UNROLL
        for (int r = 0; r < 4; ++r) {
          const int j = tile.row + 4 * r;
          const float x = select(j < seen, exp_of_negative(scale * p[r][c] - lse[t]), 0.0F);
          const float kept = (dropped >> (4 * c + r) & 1U) != 0 ? 0.0F : plan.dropout.scale;
          p[r][c] = kept * x;
          ds[r][c] = scale * x * (kept * ds[r][c] - delta[t]);
        }
      }
      tile.share(p, weights);
      tile.add(weights, d_o, cols, dv);
      tile.share(ds, weights);
      tile.add(weights, q, cols, dk);
    }
  }
  tile.store(dk, op.dk.row(key_row) + kv_col, op.dk.stride, count, width, by_four);
  tile.store(dv, op.dv.row(key_row) + kv_col, op.dv.stride, count, width, by_four);
}

// ---- host ----

// Blocks of a kernel whose tiles are that many rows.
inline Index attention_blocks(const Sequences& rows, Index heads, Index tile_rows) {
  return rows.count * heads * ((rows.max_length + tile_rows - 1) / tile_rows);
}

// Others are for the general body.
inline bool cuda_attention_fits(const AttentionPlan& plan) {
  const Index blocks = std::max(attention_blocks(plan.queries, plan.heads, 32), attention_blocks(plan.keys, plan.kv_heads, 32));
  return plan.plain() && plan.head_width <= 128 && blocks <= std::numeric_limits<std::int32_t>::max();
}

// Elements of scratch; forward leaves them alone.
inline Index cuda_attention_scratch(const AttentionPlan& plan) { return plan.queries.rows * plan.heads; }

// Whether rows of heads of these matrices can be read and written 16 bytes at a time.
inline bool attention_by_four(const AttentionPlan& plan, std::initializer_list<View<const float>> views) {
  return plan.head_width % 4 == 0 && std::ranges::all_of(views, [](const View<const float>& x) {
           return reinterpret_cast<std::uintptr_t>(x.data) % sizeof(Float4) == 0 && x.stride % 4 == 0;
         });
}

// Large tiles once they fill on average: a tile of 64 rows for sequences of 20 would mostly be zeros.
inline bool attention_large(const AttentionPlan& plan) { return plan.queries.rows > 32 * plan.queries.count && plan.keys.rows > 32 * plan.keys.count; }

template <class Tile, class Op>
void launch_attention(cudaStream_t stream, void (*kernel)(Op, bool), const Op& op, bool by_four, const Sequences& rows, Index heads,
                      std::size_t shared_floats) {
  const Index blocks = attention_blocks(rows, heads, Tile::kRows);
  if (blocks > 0) launch(stream, {dim3(static_cast<unsigned>(blocks)), dim3(Tile::kThreads), shared_floats * sizeof(float)}, kernel, op, by_four);
}

template <class Tile>
void attention_forward_with(cudaStream_t stream, const AttentionForward<float>& op) {
  const bool by_four = attention_by_four(op.plan, {op.q, op.k, op.v, op.o});
  launch_attention<Tile>(stream, attention_forward_kernel<Tile>, op, by_four, op.plan.queries, op.plan.heads, Tile::kForwardFloats);
}

inline void cuda_attention_forward(cudaStream_t stream, const AttentionForward<float>& op) {
  const bool large = attention_large(op.plan);
  if (op.plan.head_width <= 32)
    large ? attention_forward_with<AttentionTile<32, 64, 64>>(stream, op) : attention_forward_with<AttentionTile<32, 32, 32>>(stream, op);
  else if (op.plan.head_width <= 64)
    large ? attention_forward_with<AttentionTile<64, 64, 64>>(stream, op) : attention_forward_with<AttentionTile<64, 32, 32>>(stream, op);
  else
    large ? attention_forward_with<AttentionTile<128, 64, 32>>(stream, op) : attention_forward_with<AttentionTile<128, 32, 32>>(stream, op);
}

template <class Tile>
void attention_backward_with(cudaStream_t stream, const AttentionBackward<float>& op) {
  const AttentionPlan& plan = op.plan;
  const bool by_four = attention_by_four(plan, {op.q, op.k, op.v, op.d_o, op.dq, op.dk, op.dv});
  launch_attention<Tile>(stream, attention_backward_queries_kernel<Tile>, op, by_four, plan.queries, plan.heads, Tile::kBackwardFloats);
  launch_attention<Tile>(stream, attention_backward_keys_kernel<Tile>, op, by_four, plan.keys, plan.kv_heads, Tile::kBackwardFloats);
}

inline void cuda_attention_backward(cudaStream_t stream, const AttentionBackward<float>& op) {
  const bool large = attention_large(op.plan);
  if (op.plan.head_width <= 32)
    large ? attention_backward_with<AttentionTile<32, 64, 64>>(stream, op) : attention_backward_with<AttentionTile<32, 32, 32>>(stream, op);
  else if (op.plan.head_width <= 64)
    large ? attention_backward_with<AttentionTile<64, 64, 32>>(stream, op) : attention_backward_with<AttentionTile<64, 32, 32>>(stream, op);
  else
    attention_backward_with<AttentionTile<128, 32, 32>>(stream, op);
}

}  // namespace deltatune::detail
