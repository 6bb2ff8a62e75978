// The kernels behind for_each, for_each_row and sum_rows.
//
// A row belongs to the threads of one x-line of a block: a warp, with several rows a block, or a whole block where rows are long.
// Element j is always handled by the lane j mod size, so a lane may read back what it wrote without a barrier; sums are added in an order
// that depends on the shape alone.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "deltatune/backend/cuda/launch.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune::detail {

inline constexpr int kWarp = 32;
inline constexpr int kBlock = 256;  // threads of most blocks

// The lanes that share a row.
struct CudaTeam {
  template <class G>
  __device__ void each(Index n, const G& g) const {
    for (Index j = threadIdx.x; j < n; j += blockDim.x) g(j);
  }

  template <class G>
  __device__ auto sum(Index n, const G& g) const {
    std::remove_cvref_t<decltype(g(Index{}))> total{};
    for (Index j = threadIdx.x; j < n; j += blockDim.x) total += g(j);
    return reduce(total, [](auto a, auto b) { return a + b; });
  }

  template <class G>
  __device__ auto max(Index n, const G& g) const {
    auto largest = g(Index{0});
    for (Index j = threadIdx.x; j < n; j += blockDim.x) {
      const auto candidate = g(j);
      largest = largest < candidate ? candidate : largest;
    }
    return reduce(largest, [](auto a, auto b) { return a < b ? b : a; });
  }

 private:
  // The same result in every lane.
  template <class V, class Combine>
  __device__ static V reduce(V value, const Combine& combine) {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) value = combine(value, __shfl_xor_sync(0xffffffffU, value, distance));
    if (blockDim.x <= kWarp) return value;
    DELTATUNE_SHARED_MEMORY(shared);
    V* of_warps = reinterpret_cast<V*>(shared);
    __syncthreads();  // whoever still reads an earlier reduction
    if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = of_warps[0];
    for (unsigned warp = 1; warp < blockDim.x / kWarp; ++warp) value = combine(value, of_warps[warp]);
    return value;
  }
};

template <class F>
__global__ void __launch_bounds__(kBlock) for_each_kernel(const F f, Index n) {
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += static_cast<Index>(gridDim.x) * blockDim.x) f(i);
}

template <class F>
void cuda_for_each(cudaStream_t stream, int multiprocessors, Index n, const F& f) {
  if (n <= 0) return;
  const Index blocks = std::min<Index>((n + kBlock - 1) / kBlock, Index{8} * multiprocessors);
  launch(stream, {dim3(static_cast<unsigned>(blocks)), dim3(kBlock)}, for_each_kernel<F>, f, n);
}

template <class F>
__global__ void __launch_bounds__(1024) for_each_row_kernel(const F f, Index rows) {
  const Index row = static_cast<Index>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row < rows) f(CudaTeam{}, row);  // a line of several warps is a block of its own: nobody leaves a barrier behind
}

// cols: about how many elements of work a row is.
template <class F>
void cuda_for_each_row(cudaStream_t stream, Index rows, Index cols, const F& f) {
  if (rows <= 0) return;
  const int lanes = cols <= 1024 ? kWarp : cols <= 16384 ? kBlock : 1024;
  const int lines = std::max(1, kBlock / lanes);
  const std::size_t shared = lanes > kWarp ? static_cast<std::size_t>(lanes / kWarp) * sizeof(double) : 0;
  launch(stream, {dim3(static_cast<unsigned>((rows + lines - 1) / lines)), dim3(static_cast<unsigned>(lanes), static_cast<unsigned>(lines)), shared},
         for_each_row_kernel<F>, f, rows);
}

template <class T>
struct CudaFillRow {
  View<T> x;
  T value;
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    team.each(x.cols, [to = x.row(i), v = value](Index j) { to[j] = v; });
  }
};

// A block sums 32 columns: its y-lines take turns at the rows, their sums are added in the order of the lines.
template <class F, class T>
__global__ void __launch_bounds__(kWarp* kWarp) sum_rows_kernel(const F f, Index rows, Index cols, T* sum_io) {
  DELTATUNE_SHARED_MEMORY(shared);
  T* of_lines = reinterpret_cast<T*>(shared);  // (lines, 32)
  const Index col = static_cast<Index>(blockIdx.x) * kWarp + threadIdx.x;
  T sum{};
  if (col < cols)
    for (Index i = threadIdx.y; i < rows; i += blockDim.y) sum += f(i, col);
  of_lines[threadIdx.y * kWarp + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || col >= cols) return;
  for (unsigned line = 1; line < blockDim.y; ++line) sum += of_lines[line * kWarp + threadIdx.x];
  sum_io[col] += sum;
}

template <class F, class T>
void cuda_sum_rows(cudaStream_t stream, Index rows, Index cols, const F& f, T* sum_io) {
  if (cols <= 0) return;
  const unsigned lines = rows >= 256 ? 32 : 8;
  launch(stream, {dim3(static_cast<unsigned>((cols + kWarp - 1) / kWarp)), dim3(kWarp, lines), lines * kWarp * sizeof(T)}, sum_rows_kernel<F, T>, f, rows, cols,
         sum_io);
}

}  // namespace deltatune::detail
