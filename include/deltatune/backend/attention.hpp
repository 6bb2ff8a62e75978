// Description of attention over packed sequences, the same for all backends and all model families.
//
//   o_i = Σ_j m_ij · p_ij · v_j,   p_i = softmax_j(s_ij),   m = dropout mask of the probabilities
// over the keys j of the query's own sequence that it sees. Vaswani et al. 2017, arXiv 1706.03762. The score is
//   s_ij = cap(scale · q_i·k_j) + bias(bucket(j - i)),   cap(x) = c · tanh(x / c), or x without a soft cap c
// with a soft cap as in Gemma 2 (arXiv 2408.00118) and a relative position bias as in T5 (backend/relative_buckets.hpp) where a plan asks for them. Keys in
// front of the tokens may have no bias.
#pragma once

#include "deltatune/backend/relative_buckets.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/tensor/sequence.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune {

// What forward and backward have in common.
// Queries and keys have their own sequence maps (cross-attention; a classifier that reads one row a sequence); sequence b of one attends
// to sequence b of the other. Query head h reads key/value head h / (heads / kv_heads).
// A query has a place among the keys of its sequence, which causal, window and relative go by. Every query must see a key.
struct AttentionPlan {
  Sequences queries;  // Nq rows
  Sequences keys;     // Nk rows
  Index heads = 0;
  Index kv_heads = 0;
  Index head_width = 0;  // D
  double scale = 1.0;
  bool causal = false;  // the last query sees all keys, the one before it all but one, ...
  DropoutMask dropout;
  Index window = 0;               // a query at place i sees the keys i - window <= j <= i + window, of which causal takes those after i away; 0: all.
                                  // (Mistral counts the query's own key, too: its window W is W - 1 here.)
  double soft_cap = 0;            // c; 0: none
  RelativeBuckets relative = {};  // of the bias that forward and backward are given
  Index first_place = -1;         // where the first query of each sequence stands; -1: such that the last query stands at the last key
  Index unbiased_keys = 0;        // so many keys at the beginning of each sequence have no bias
  Index distance_shift = 0;       // added to the distances that biases go by

  // The place of the t-th query of sequence b.
  DELTATUNE_HD Index place(Index b, Index t) const { return (first_place < 0 ? keys.length(b) - queries.length(b) : first_place) + t; }
  // How far behind this query the bias takes key j to be.
  DELTATUNE_HD Index distance(Index b, Index t, Index j) const { return j - place(b, t) + distance_shift; }
  // The keys that this query sees.
  DELTATUNE_HD IndexRange visible_keys(Index b, Index t) const {
    const Index i = place(b, t);
    const Index length = keys.length(b);
    const Index reach = causal ? i + 1 : window > 0 ? i + window + 1 : length;
    return {window > 0 && window < i ? i - window : 0, reach < length ? reach : length};
  }

  // cap(scale · product), the score without its bias.
  template <class T>
  DELTATUNE_INLINE T score(T product) const {
    using math::tanh;
    const T scaled = T(scale) * product;
    if (!(soft_cap > 0)) return scaled;
    return T(soft_cap) * tanh(scaled / T(soft_cap));
  }
  // Its derivative with respect to the product, from what score() returned.
  template <class T>
  DELTATUNE_INLINE T slope(T score) const {
    if (!(soft_cap > 0)) return T(scale);
    const T t = score / T(soft_cap);
    return T(scale) * (T(1) - t * t);
  }

  // Whether the scores are more than scale · q·k.
  DELTATUNE_HD bool shapes_scores() const { return soft_cap > 0 || relative.buckets > 0; }
  // Whether there is nothing but what attention always has: all keys, or all up to the query's own, counted from the end.
  DELTATUNE_HD bool plain() const { return window == 0 && first_place < 0 && !shapes_scores(); }

  DELTATUNE_HD Index kv_head(Index h) const { return h / (heads / kv_heads); }
  // Place of a probability in the dropout stream: query row and head in the high word, key in the low one.
  DELTATUNE_HD std::uint64_t dropout_row(Index query_row, Index h) const { return static_cast<std::uint64_t>(query_row * heads + h) << 32U; }
  // The mask of that row, by the key alone.
  DropoutMask dropout_of(Index query_row, Index h) const { return dropout.piece(static_cast<std::uint32_t>(query_row * heads + h)); }
};

template <class T>
struct AttentionForward {
  AttentionPlan plan;
  View<const T> q;          // (Nq, H·D)
  View<const T> k;          // (Nk, Hkv·D)
  View<const T> v;          // (Nk, Hkv·D)
  View<T> o;                // (Nq, H·D)
  View<T> lse;              // (Nq, H): log Σ_j exp(s_ij), what backward needs to rebuild p
  View<T> scratch = {};     // as much as the backend asks for
  View<const T> bias = {};  // (buckets, H); empty: none
};

template <class T>
struct AttentionBackward {
  AttentionPlan plan;
  View<const T> q, k, v, lse;  // as in forward
  View<const T> d_o;           // (Nq, H·D)
  View<T> dq, dk, dv;          // overwritten
  View<T> scratch = {};
  View<const T> bias = {};  // as in forward
  View<T> d_bias = {};      // (buckets, H): added to; empty: not wanted
};

}  // namespace deltatune
