// Rows in front of each sequence: keys and values of a prefix, embeddings of a prompt.
//
// Sequence b of the longer batch begins at offsets[b] + b·P: P rows of its own, then those of sequence b of the shorter one.
#pragma once

#include <cstdint>

#include "deltatune/ops/elementwise.hpp"
#include "deltatune/tensor/sequence.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

struct PrefixedRow {
  Sequences sequences;
  Index prefix;
  Index* offsets;              // (B + 1)
  std::int32_t* row_sequence;  // (N + B·P)
  DELTATUNE_HD void operator()(Index b) const {
    const Index first = sequences.offsets[b] + b * prefix;
    offsets[b] = first;
    if (b == sequences.count) return;
    const Index last = sequences.offsets[b + 1] + (b + 1) * prefix;
    for (Index i = first; i < last; ++i) row_sequence[i] = static_cast<std::int32_t>(b);
  }
};

// The place of row i of the shorter batch in the longer one.
struct BehindPrefix {
  Sequences sequences;
  Index prefix;
  DELTATUNE_HD Index operator()(Index i) const { return i + (sequences.row_sequence[i] + 1) * prefix; }
};

// The place of row p of the rows in front of sequence b, from row `first` of the sequence on.
struct InSequence {
  const Index* offsets;  // of the batch that holds them
  Index count;           // rows a sequence
  Index first;
  DELTATUNE_HD Index operator()(Index i) const { return offsets[i / count] + first + i % count; }
};

// The place of row i of the shorter batch at the end of its sequence in the longer one.
struct AtEnd {
  Sequences shorter, longer;
  DELTATUNE_HD Index operator()(Index i) const {
    const Index b = shorter.row_sequence[i];
    return longer.first(b) + longer.length(b) - shorter.length(b) + i - shorter.first(b);
  }
};

struct RepeatedRow {
  Index count;
  DELTATUNE_HD Index operator()(Index i) const { return i % count; }
};

template <class T>
struct ZeroSequenceRow {
  InSequence place;
  View<T> x;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(x.cols, [row = x.row(place(i))](Index j) { row[j] = T(0); });
  }
};

template <class T>
struct BroadcastBackwardRow {
  View<const T> dy;
  View<T> drows_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index p) const {
    T* to = drows_io.row(p);
    for (Index i = p; i < dy.rows; i += drows_io.rows) team.each(dy.cols, [to, from = dy.row(i)](Index j) { to[j] = to[j] + from[j]; });
  }
};

}  // namespace detail

// The sequence map of the longer batch, into offsets (B + 1) and row_sequence (N + B·P).
template <class B>
Sequences prefixed(typename B::Context& ctx, const Sequences& sequences, Index prefix, Index* offsets, std::int32_t* row_sequence) {
  B::for_each(ctx, sequences.count + 1, detail::PrefixedRow{sequences, prefix, offsets, row_sequence});
  return {offsets, row_sequence, sequences.count, sequences.rows + sequences.count * prefix, sequences.max_length + prefix};
}

// longer (N + B·P, C): the rows behind each prefix = shorter (N, C); the others stay.
template <class B, class T>
void insert_behind_prefix(typename B::Context& ctx, const Sequences& sequences, Index prefix, View<const T> shorter, View<T> longer) {
  copy_rows<B>(ctx, sequences.rows, shorter, SameRow{}, longer, detail::BehindPrefix{sequences, prefix});
}
// And back: shorter = the rows behind each prefix.
template <class B, class T>
void fetch_behind_prefix(typename B::Context& ctx, const Sequences& sequences, Index prefix, View<const T> longer, View<T> shorter) {
  copy_rows<B>(ctx, sequences.rows, longer, detail::BehindPrefix{sequences, prefix}, shorter, SameRow{});
}

// x: the last rows of each sequence of the longer batch = rows (N, C), all of the shorter one.
template <class B, class T>
void insert_at_end(typename B::Context& ctx, const Sequences& shorter, const Sequences& longer, View<const T> rows, View<T> x) {
  copy_rows<B>(ctx, rows.rows, rows, SameRow{}, x, detail::AtEnd{shorter, longer});
}

// x: `count` rows of each sequence (that begin at offsets), from its row `first` on, = rows (B·count, C).
template <class B, class T>
void insert_sequence_rows(typename B::Context& ctx, const Index* offsets, Index count, Index first, View<const T> rows, View<T> x) {
  copy_rows<B>(ctx, rows.rows, rows, SameRow{}, x, detail::InSequence{offsets, count, first});
}
template <class B, class T>
void fetch_sequence_rows(typename B::Context& ctx, const Index* offsets, Index count, Index first, View<const T> x, View<T> rows) {
  copy_rows<B>(ctx, rows.rows, x, detail::InSequence{offsets, count, first}, rows, SameRow{});
}

// Zeros to the same rows of x.
template <class B, class T>
void zero_sequence_rows(typename B::Context& ctx, const Index* offsets, Index count, Index first, Index sequences, View<T> x) {
  B::for_each_row(ctx, sequences * count, x.cols, detail::ZeroSequenceRow<T>{{offsets, count, first}, x});
}

// y (B·P, C) = rows (P, C), B times.
template <class B, class T>
void broadcast_rows(typename B::Context& ctx, View<const T> rows, View<T> y) {
  copy_rows<B>(ctx, y.rows, rows, detail::RepeatedRow{rows.rows}, y, SameRow{});
}
// drows_io (P, C) += the sum over the B copies of dy (B·P, C).
template <class B, class T>
void broadcast_rows_backward(typename B::Context& ctx, View<const T> dy, View<T> drows_io) {
  B::for_each_row(ctx, drows_io.rows, dy.rows / (drows_io.rows > 0 ? drows_io.rows : 1) * dy.cols, detail::BroadcastBackwardRow<T>{dy, drows_io});
}

}  // namespace deltatune::ops
