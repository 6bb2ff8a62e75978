// The demand frontier: rows of a stack's output that nobody reads need not be computed.
//
// A classifier reads one row a sequence. The last block then computes keys and values of all rows, and queries' attention, projections and norms
// of those rows alone, forward and backward.
#pragma once

#include "deltatune/seam/pass.hpp"
#include "deltatune/tensor/sequence.hpp"

namespace deltatune {

// Which rows of the N of a batch are read. Empty: all of them.
struct Demand {
  const Index* rows = nullptr;  // (M), in order, where the backend reads them
  Sequences sequences = {};     // those M rows: as many of each sequence as are read, the last ones of it where rows see only what is before them
  const Routes* routes = nullptr;
  bool first = false;  // they are the first rows of their sequences, and not the last

  explicit operator bool() const { return rows != nullptr; }
};

// Lets deltas see other sequences and routes, until the end of the scope.
template <class X>
class RowsScope {
 public:
  RowsScope(Pass<X>& pass, const Sequences* sequences, const Routes* routes) : pass_(pass), sequences_(pass.sequences), routes_(pass.routes) {
    pass.sequences = sequences;
    pass.routes = routes;
  }
  RowsScope(const RowsScope&) = delete;
  RowsScope& operator=(const RowsScope&) = delete;
  ~RowsScope() {
    pass_.sequences = sequences_;
    pass_.routes = routes_;
  }

 private:
  Pass<X>& pass_;
  const Sequences* sequences_;
  const Routes* routes_;
};

// The same with those of the rows that are left.
template <class X>
class DemandScope : public RowsScope<X> {
 public:
  DemandScope(Pass<X>& pass, const Demand& demand) : RowsScope<X>(pass, demand ? &demand.sequences : pass.sequences, demand ? demand.routes : pass.routes) {}
  DemandScope(Pass<X>&, const Demand&&) = delete;  // it would be gone before the scope ends
};

}  // namespace deltatune
