// Rows in front of each sequence: keys and values of a prefix, embeddings of a prompt.
//
// Sequence b of the longer batch begins at offsets[b] + b·P: P rows of its own, then those of sequence b of the shorter one.
#pragma once

#include <cstdint>

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

// Row i of the shorter batch and its place in the longer one.
template <class T>
struct BehindPrefixRow {
  Sequences sequences;
  Index prefix;
  View<const T> from;
  View<T> to;
  bool inserting;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index place = i + (sequences.row_sequence[i] + 1) * prefix;
    const T* a = from.row(inserting ? i : place);
    T* b = to.row(inserting ? place : i);
    team.each(to.cols, [=](Index j) { b[j] = a[j]; });
  }
};

// Row p of the rows in front of sequence b, and its place, from row `first` of the sequence on.
template <class T>
struct SequenceRow {
  const Index* offsets;  // of the batch that holds them
  Index count;           // rows a sequence
  Index first;
  View<const T> from;
  View<T> to;
  bool inserting;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index place = offsets[i / count] + first + i % count;
    const T* a = from.row(inserting ? i : place);
    T* b = to.row(inserting ? place : i);
    team.each(to.cols, [=](Index j) { b[j] = a[j]; });
  }
};

template <class T>
struct ZeroSequenceRow {
  const Index* offsets;
  Index count;
  Index first;
  View<T> x;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    T* row = x.row(offsets[i / count] + first + i % count);
    team.each(x.cols, [=](Index j) { row[j] = T(0); });
  }
};

template <class T>
struct BroadcastRow {
  View<const T> rows;
  View<T> y;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const T* from = rows.row(i % rows.rows);
    T* to = y.row(i);
    team.each(y.cols, [=](Index j) { to[j] = from[j]; });
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
  B::for_each_row(ctx, sequences.rows, longer.cols, detail::BehindPrefixRow<T>{sequences, prefix, shorter, longer, true});
}
// And back: shorter = the rows behind each prefix.
template <class B, class T>
void fetch_behind_prefix(typename B::Context& ctx, const Sequences& sequences, Index prefix, View<const T> longer, View<T> shorter) {
  B::for_each_row(ctx, sequences.rows, shorter.cols, detail::BehindPrefixRow<T>{sequences, prefix, longer, shorter, false});
}

// x: `count` rows of each sequence (that begin at offsets), from its row `first` on, = rows (B·count, C).
template <class B, class T>
void insert_sequence_rows(typename B::Context& ctx, const Index* offsets, Index count, Index first, View<const T> rows, View<T> x) {
  B::for_each_row(ctx, rows.rows, rows.cols, detail::SequenceRow<T>{offsets, count, first, rows, x, true});
}
template <class B, class T>
void fetch_sequence_rows(typename B::Context& ctx, const Index* offsets, Index count, Index first, View<const T> x, View<T> rows) {
  B::for_each_row(ctx, rows.rows, rows.cols, detail::SequenceRow<T>{offsets, count, first, x, rows, false});
}

// Zeros to the same rows of x.
template <class B, class T>
void zero_sequence_rows(typename B::Context& ctx, const Index* offsets, Index count, Index first, Index sequences, View<T> x) {
  B::for_each_row(ctx, sequences * count, x.cols, detail::ZeroSequenceRow<T>{offsets, count, first, x});
}

// y (B·P, C) = rows (P, C), B times.
template <class B, class T>
void broadcast_rows(typename B::Context& ctx, View<const T> rows, View<T> y) {
  B::for_each_row(ctx, y.rows, y.cols, detail::BroadcastRow<T>{rows, y});
}
// drows_io (P, C) += the sum over the B copies of dy (B·P, C).
template <class B, class T>
void broadcast_rows_backward(typename B::Context& ctx, View<const T> dy, View<T> drows_io) {
  B::for_each_row(ctx, drows_io.rows, dy.rows / (drows_io.rows > 0 ? drows_io.rows : 1) * dy.cols, detail::BroadcastBackwardRow<T>{dy, drows_io});
}

}  // namespace deltatune::ops
