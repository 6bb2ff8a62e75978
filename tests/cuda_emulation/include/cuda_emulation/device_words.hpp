// What a kernel may say, and what it means here.
#pragma once

#include <atomic>
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "cuda_emulation/block.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

// The dynamic shared memory of the running block.
inline void* cudaEmulationSharedMemory() { return cuda_emulation::this_block().shared().get(); }

inline void __syncthreads(std::source_location where = std::source_location::current()) { cuda_emulation::this_block().barrier(where); }

inline void __syncwarp(unsigned mask = 0xffffffffU, std::source_location where = std::source_location::current()) {
  cuda_emulation::this_block().warp(cuda_emulation::Block::WarpOperation::sync, mask, 0, 0, where);
}

namespace cuda_emulation {

template <class T>
concept Shuffled = std::is_trivially_copyable_v<T> &&(sizeof(T) == 4 || sizeof(T) == 8);

template <Shuffled T>
T shuffle(unsigned mask, T value, unsigned source, std::source_location where) {
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  word = this_block().warp(Block::WarpOperation::shuffle, mask, word, source, where);
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline unsigned vote(unsigned mask, int predicate, std::source_location where) {
  return static_cast<unsigned>(this_block().warp(Block::WarpOperation::ballot, mask, predicate != 0 ? 1 : 0, 0, where));
}

inline unsigned segment(unsigned lane, int width) { return lane & ~(static_cast<unsigned>(width) - 1); }

}  // namespace cuda_emulation

template <cuda_emulation::Shuffled T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, std::source_location where = std::source_location::current()) {
  const unsigned lane = cuda_emulation::this_block().lane();
  return cuda_emulation::shuffle(mask, value, cuda_emulation::segment(lane, width) + (static_cast<unsigned>(source) & (static_cast<unsigned>(width) - 1)),
                                 where);
}
template <cuda_emulation::Shuffled T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, std::source_location where = std::source_location::current()) {
  const unsigned lane = cuda_emulation::this_block().lane();
  const bool inside = lane - cuda_emulation::segment(lane, width) >= delta;
  return cuda_emulation::shuffle(mask, value, inside ? lane - delta : lane, where);
}
template <cuda_emulation::Shuffled T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, std::source_location where = std::source_location::current()) {
  const unsigned lane = cuda_emulation::this_block().lane();
  const bool inside = lane - cuda_emulation::segment(lane, width) + delta < static_cast<unsigned>(width);
  return cuda_emulation::shuffle(mask, value, inside ? lane + delta : lane, where);
}
template <cuda_emulation::Shuffled T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize, std::source_location where = std::source_location::current()) {
  const unsigned lane = cuda_emulation::this_block().lane();
  const unsigned source = lane ^ static_cast<unsigned>(lane_mask);
  const bool inside = source < cuda_emulation::segment(lane, width) + static_cast<unsigned>(width);
  return cuda_emulation::shuffle(mask, value, inside ? source : lane, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return cuda_emulation::vote(mask, predicate, where);
}
inline int __any_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return cuda_emulation::vote(mask, predicate, where) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate, std::source_location where = std::source_location::current()) {
  return cuda_emulation::vote(mask, predicate == 0 ? 1 : 0, where) == 0 ? 1 : 0;
}

template <class T>
requires std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long> T
atomicAdd(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}

template <class T>
T __ldg(const T* address) {
  return *address;
}
