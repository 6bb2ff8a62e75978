// Rows of a table, looked up by id and summed into the output; and the gradient of the table.
#pragma once

#include <cstdint>

#include "deltatune/core/half.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/tensor/row_groups.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::ops {

namespace detail {

template <class T, class In>
struct EmbeddingForwardRow {
  View<const In> table;
  const std::int32_t* ids;
  View<T> y;
  bool accumulate;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    T* to = y.row(i);
    if (ids[i] < 0) {
      if (!accumulate) team.each(y.cols, [=](Index j) { to[j] = T(0); });
      return;
    }
    const In* from = table.row(ids[i]);
    if (accumulate) {
      team.each(y.cols, [=](Index j) { to[j] = to[j] + converted<T>(from[j]); });
    } else {
      team.each(y.cols, [=](Index j) { to[j] = converted<T>(from[j]); });
    }
  }
};

template <class T>
struct EmbeddingBackwardGroup {
  View<const T> dy;
  RowGroups groups;
  Index skipped_id;
  View<T> dtable_io;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index g) const {
    if (groups.ids[g] == skipped_id || groups.ids[g] < 0) return;
    T* to = dtable_io.row(groups.ids[g]);
    for (Index i = groups.starts[g]; i < groups.starts[g + 1]; ++i)
      team.each(dy.cols, [to, from = dy.row(groups.order[i])](Index j) { to[j] = to[j] + from[j]; });
  }
};

}  // namespace detail

// y (N, C) = table[ids] (or += with accumulate); table (V, C) of T or Bfloat16, ids (N), each in [0, V), or negative for a row of zeros.
template <class B, class T>
void embedding_forward(typename B::Context& ctx, View<const T> table, const std::int32_t* ids, View<T> y, bool accumulate) {
  B::for_each_row(ctx, y.rows, y.cols, detail::EmbeddingForwardRow<T, T>{table, ids, y, accumulate});
}
template <class B, class T>
void embedding_forward(typename B::Context& ctx, View<const Bfloat16> table, const std::int32_t* ids, View<T> y, bool accumulate) {
  B::for_each_row(ctx, y.rows, y.cols, detail::EmbeddingForwardRow<T, Bfloat16>{table, ids, y, accumulate});
}

// dtable_io (V, C) += dy (N, C) by groups. skipped_id: the padding id, whose row has no gradient in PyTorch's embedding; -1 for none.
template <class B, class T>
void embedding_backward(typename B::Context& ctx, View<const T> dy, const RowGroups& groups, Index skipped_id, View<T> dtable_io) {
  B::for_each_row(ctx, groups.count, dy.size() / (groups.count > 0 ? groups.count : 1), detail::EmbeddingBackwardGroup<T>{dy, groups, skipped_id, dtable_io});
}

}  // namespace deltatune::ops
