// Matrix products of our own, of float and double; inputs of 16 bits are widened where they are copied.
//
// The usual scheme (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication"): a block of b is copied into panels, each as wide as
// a tile, which stay in the cache while rows of a pass by. These are read where they lie, or copied where their elements lie far apart. Threads share
// c as a grid, each with panels of its own. Where a has a few rows only, copying b would take longer than multiplying: it is read as it lies.
// How the products of an element are added depends on the sizes alone, not on the threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>

#include "deltatune/backend/cpu/lanes.hpp"
#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/half.hpp"

namespace deltatune {

class TiledGemm {
 public:
  // Scratch, as large as the largest product so far needs it.
  class State {
    friend class TiledGemm;
    static constexpr std::size_t kAlignment = 64;

    template <class T>
    T* reserve(Index count) {
      const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
      if (size_ < bytes + kAlignment) {
        data_.reset(new std::byte[bytes + kAlignment]);
        size_ = bytes + kAlignment;
      }
      void* aligned = data_.get();
      std::size_t space = size_;
      return static_cast<T*>(std::align(kAlignment, bytes, aligned, space));
    }

    std::unique_ptr<std::byte[]> data_;
    std::size_t size_ = 0;
  };

  template <class T, class In>
  static void run(State& state, const Gemm<T, In>& p, int threads) {
    if (p.m() == 0 || p.n() == 0) return;
    const bool serial = 2 * p.m() * p.n() * p.k() < kSerialFlops;
    const bool few = p.m() <= (p.transpose_b ? 8 : 2) && !p.transpose_a && std::is_same_v<T, In>;
    const Grid grid = grid_of<T>(p.m(), p.n(), serial ? 1 : threads, few);
    const Index panels = std::min(kDepth, p.k()) * std::min(kCols, grid.cols);
    const Index scratch = panels + kRows * (kDepth + kTileCols<T>);  // of a part: panels, rows of a, a column of tiles
    T* const all = state.template reserve<T>(scratch * grid.down * grid.across);
    detail::parallel_ranges(threads, grid.down * grid.across, 1, serial, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const Gemm<T, In> part = part_of(p, grid, i / grid.across * grid.rows, i % grid.across * grid.cols);
        if (p.beta != T(1) && (few || p.beta != T(0) || p.k() == 0)) scale(part.c, part.beta);
        if (!few) {
          multiply(part, all + i * scratch, all + i * scratch + panels);
        } else if constexpr (std::is_same_v<T, In>) {
          part.transpose_b ? add_dot_products(part) : add_rows(part);
        }
      }
    });
  }

 private:
  static constexpr Index kSerialFlops = 1 << 16;  // below some 10 µs of work a second thread does not pay
  // Of a block: deep enough that c is seldom read again, and a's rows and the panels at hand stay in the caches of a core.
  static constexpr Index kDepth = 512, kRows = 12 * detail::kTileRows, kCols = 512;
  template <class T>
  static constexpr Index kTileCols = 2 * detail::kVectorSize<T>;

  struct Grid {
    Index down = 1, across = 1;
    Index rows = 0, cols = 0;  // of a part
  };
  // The grid whose parts are done soonest, where copying an element takes as long as some multiplications.
  template <class T>
  static Grid grid_of(Index m, Index n, Index threads, bool few) {
    constexpr Index kCopy = 8;
    const auto share = [](Index count, Index unit, Index parts) { return ((count + unit - 1) / unit + parts - 1) / parts * unit; };
    Grid best;
    Index least = 0;
    for (Index across = threads; across > 0; --across) {
      const Index down = threads / across;
      if (down * across != threads || (few && down > 1)) continue;
      const Grid grid{down, across, share(m, detail::kTileRows, down), share(n, kTileCols<T>, across)};
      const Index work = (grid.rows + kCopy) * (grid.cols + kCopy);
      if (least != 0 && work >= least) continue;
      least = work;
      best = grid;
    }
    return best;
  }
  // From that row and column on.
  template <class T, class In>
  static Gemm<T, In> part_of(Gemm<T, In> p, const Grid& grid, Index row, Index col) {
    row = std::min(row, p.m());
    col = std::min(col, p.n());
    const Index rows = std::min(p.m() - row, grid.rows), cols = std::min(p.n() - col, grid.cols);
    p.a = p.transpose_a ? p.a.column_range(row, rows) : p.a.row_range(row, rows);
    p.b = p.transpose_b ? p.b.row_range(col, cols) : p.b.column_range(col, cols);
    p.c = p.c.row_range(row, rows).column_range(col, cols);
    return p;
  }

  template <class T>
  static void scale(View<T> c, T beta) {
    for (Index i = 0; i < c.rows; ++i) {
      T* const row = c.row(i);
      DELTATUNE_SIMD
      for (Index j = 0; j < c.cols; ++j) row[j] = beta == T(0) ? T(0) : beta * row[j];
    }
  }

  // Of a part, whose c is only to be added to where beta is not 0.
  template <class T, class In>
  static void multiply(const Gemm<T, In>& p, T* panels, T* copied) {
    const Index blocks = (p.k() + kDepth - 1) / kDepth;
    for (Index j = 0; j < p.n(); j += kCols) {
      const Index cols = std::min(kCols, p.n() - j);
      for (Index block = 0, k = 0, depth = 0; block < blocks; ++block, k += depth) {
        depth = (p.k() - k) / (blocks - block);
        for (Index x = 0; x < cols; x += kTileCols<T>)
          copy_panel(p, k, j + x, std::min(kTileCols<T>, cols - x), View<T>(panels + x * depth, depth, kTileCols<T>));
        for (Index i = 0; i < p.m(); i += kRows)
          multiply_block<T>(p, i, std::min(kRows, p.m() - i), k, depth, panels, p.c.column_range(j, cols), k > 0 || p.beta != T(0), copied);
      }
    }
  }

  // panel (depth, kTileCols): alpha · op(b) of those rows and columns, zeros behind them.
  template <class T, class In>
  static void copy_panel(const Gemm<T, In>& p, Index k, Index j, Index cols, View<T> panel) {
    if (p.transpose_b) {
      detail::copy_transposed(p.b.row_range(j, cols).column_range(k, panel.rows), panel);
    } else {
      detail::copy_padded(p.b.row_range(k, panel.rows).column_range(j, cols), panel);
    }
    if (p.alpha != T(1)) scale(panel, p.alpha);
  }

  // `count` rows of c: those of op(a) times the panels. copied: kRows · (kDepth + kTileCols) elements.
  template <class T, class In>
  static void multiply_block(const Gemm<T, In>& p, Index i, Index count, Index k, Index depth, const T* panels, View<T> c, bool accumulate, T* copied) {
    const T* a = copied;
    Index a_row = depth, a_col = 1;
    if (p.transpose_a) {
      detail::copy_padded(p.a.row_range(k, depth).column_range(i, count), View<T>(copied, depth, count));
      a_row = 1, a_col = count;
    } else if constexpr (std::is_same_v<T, In>) {
      a = p.a.row(i) + k, a_row = p.a.stride;
    } else {
      detail::copy_padded(p.a.row_range(i, count).column_range(k, depth), View<T>(copied, count, depth));
    }
    const View<T> rest(copied + kRows * kDepth, count, kTileCols<T>);
    for (Index x = 0; x < c.cols; x += kTileCols<T>) {
      const Index cols = std::min(kTileCols<T>, c.cols - x);
      const View<const T> panel(panels + x * depth, depth, kTileCols<T>);
      const View<T> to = c.row_range(i, count).column_range(x, cols);
      if (cols == kTileCols<T>) {
        detail::column_of_tiles<2, T>(a, a_row, a_col, panel, to, count, accumulate);
        continue;
      }
      detail::column_of_tiles<2, T>(a, a_row, a_col, panel, rest, count, false);
      for (Index r = 0; r < count; ++r)
        for (Index d = 0; d < cols; ++d) to(r, d) = accumulate ? to(r, d) + rest(r, d) : rest(r, d);
    }
  }

  // Few rows of a, for which copying b would take longer than multiplying. b as it lies: c_i += Σ_k alpha · a_ik · b_k, four rows of b at a time.
  template <class T>
  static void add_rows(const Gemm<T>& p) {
    for (Index j = 0; j < p.n(); j += kCols) {
      const Index cols = std::min(kCols, p.n() - j);
      Index k = 0;
      for (; k + 4 <= p.k(); k += 4) add_some_rows<4>(p, k, j, cols);
      for (; k < p.k(); ++k) add_some_rows<1>(p, k, j, cols);
    }
  }
  template <Index Count, class T>
  static void add_some_rows(const Gemm<T>& p, Index k, Index j, Index cols) {
    const T* DELTATUNE_RESTRICT const b = p.b.row(k) + j;
    for (Index i = 0; i < p.m(); ++i) {
      T factors[Count];
      for (Index d = 0; d < Count; ++d) factors[d] = p.alpha * p.a(i, k + d);
      T* DELTATUNE_RESTRICT const c = p.c.row(i) + j;
      DELTATUNE_SIMD
      for (Index x = 0; x < cols; ++x) {
        T sum = c[x];
        DELTATUNE_UNROLL
        for (Index d = 0; d < Count; ++d) sum += factors[d] * b[d * p.b.stride + x];
        c[x] = sum;
      }
    }
  }

  // b transposed: products of rows of a and rows of b.
  template <class T>
  static void add_dot_products(const Gemm<T>& p) {
    Index j = 0;
    for (; j + 4 <= p.n(); j += 4) dot_columns<4>(p, j);
    for (; j < p.n(); ++j) dot_columns<1>(p, j);
  }
  template <Index Cols, class T>
  static void dot_columns(const Gemm<T>& p, Index j) {
    Index i = 0;
    for (; i + 2 <= p.m(); i += 2) dot_tile<2, Cols>(p, i, j);
    if (i < p.m()) dot_tile<1, Cols>(p, i, j);
  }
  template <Index Rows, Index Cols, class T>
  static void dot_tile(const Gemm<T>& p, Index i, Index j) {
    using detail::load_vector;
    constexpr Index kSize = detail::kVectorSize<T>;
    detail::Vector<T> sum[Rows][Cols] = {};
    const Index whole = p.k() / kSize * kSize;
    for (Index k = 0; k < whole; k += kSize) {
      detail::Vector<T> left[Rows];
      DELTATUNE_UNROLL
      for (Index r = 0; r < Rows; ++r) load_vector<T>(p.a.row(i + r) + k, left[r]);
      DELTATUNE_UNROLL
      for (Index d = 0; d < Cols; ++d) {
        detail::Vector<T> right;
        load_vector<T>(p.b.row(j + d) + k, right);
        DELTATUNE_UNROLL
        for (Index r = 0; r < Rows; ++r) sum[r][d] += left[r] * right;
      }
    }
    for (Index r = 0; r < Rows; ++r)
      for (Index d = 0; d < Cols; ++d) {
        T total = 0;
        for (Index lane = 0; lane < kSize; ++lane) total += sum[r][d][lane];
        for (Index k = whole; k < p.k(); ++k) total += p.a(i + r, k) * p.b(j + d, k);
        p.c(i + r, j + d) += p.alpha * total;
      }
  }
};

}  // namespace deltatune
