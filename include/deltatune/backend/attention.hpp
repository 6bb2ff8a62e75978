// Description of attention over packed sequences, the same for all backends and all model families.
//
//   o_i = Σ_j m_ij · p_ij · v_j,   p_i = softmax_j(scale · q_i·k_j),   m = dropout mask of the probabilities
// over the keys j of the query's own sequence. Vaswani et al. 2017, arXiv 1706.03762.
#pragma once

#include "deltatune/core/random.hpp"
#include "deltatune/tensor/sequence.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune {

// What forward and backward have in common.
// Queries and keys have their own sequence maps (cross-attention; a classifier that reads one row a sequence); sequence b of one attends
// to sequence b of the other. Query head h reads key/value head h / (heads / kv_heads).
struct AttentionPlan {
  Sequences queries;  // Nq rows
  Sequences keys;     // Nk rows
  Index heads = 0;
  Index kv_heads = 0;
  Index head_width = 0;  // D
  double scale = 1.0;
  bool causal = false;  // the last query sees all keys, the one before it all but one, ...
  DropoutMask dropout;

  // How many keys the t-th query of sequence b sees.
  DELTATUNE_HD Index visible_keys(Index b, Index t) const { return causal ? keys.length(b) - queries.length(b) + t + 1 : keys.length(b); }
  DELTATUNE_HD Index kv_head(Index h) const { return h / (heads / kv_heads); }
  // Place of a probability in the dropout stream: query row and head in the high word, key in the low one.
  DELTATUNE_HD std::uint64_t dropout_row(Index query_row, Index h) const { return static_cast<std::uint64_t>(query_row * heads + h) << 32U; }
  // The mask of that row, by the key alone.
  DropoutMask dropout_of(Index query_row, Index h) const { return dropout.piece(static_cast<std::uint32_t>(query_row * heads + h)); }
};

template <class T>
struct AttentionForward {
  AttentionPlan plan;
  View<const T> q;       // (Nq, H·D)
  View<const T> k;       // (Nk, Hkv·D)
  View<const T> v;       // (Nk, Hkv·D)
  View<T> o;             // (Nq, H·D)
  View<T> lse;           // (Nq, H): log Σ_j exp(scale · q·k), what backward needs to rebuild p
  View<T> scratch = {};  // as much as the backend asks for
};

template <class T>
struct AttentionBackward {
  AttentionPlan plan;
  View<const T> q, k, v, lse;  // as in forward
  View<const T> d_o;           // (Nq, H·D)
  View<T> dq, dk, dv;          // overwritten
  View<T> scratch = {};
};

}  // namespace deltatune
