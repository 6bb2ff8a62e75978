// The blocks of a grid: one after the other, or shared by several OS threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include "cuda_emulation/block.hpp"

namespace cuda_emulation {

// How many OS threads run the blocks of large grids; CUDA_EMULATION_WORKERS in the environment, 1 otherwise.
inline unsigned& worker_count() {
  static unsigned count =
      std::getenv("CUDA_EMULATION_WORKERS") != nullptr ? static_cast<unsigned>(std::max(1, std::atoi(std::getenv("CUDA_EMULATION_WORKERS")))) : 1;
  return count;
}
inline void set_workers(unsigned count) { worker_count() = std::max(1U, count); }

inline void run_kernel(const Launch& launch) {
  static std::uint64_t launches = 0;
  const std::uint64_t seed = Random{schedule().seed + ++launches}();
  const std::uint64_t count = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  const std::uint64_t threads = count * launch.block.x * launch.block.y * launch.block.z;
  Random random{seed};
  const Turns turns(count, random);
  std::atomic<std::uint64_t> next{0};
  const auto work = [&] {
    install_fault_handler();
    explain_fault = explain_block_fault;
    here.executing = true;
    here.kernel = launch.kernel;
    for (std::uint64_t i = next++; i < count; i = next++) {
      const std::uint64_t turn = turns.at(i);
      const auto x = static_cast<unsigned>(turn % launch.grid.x);
      const auto y = static_cast<unsigned>(turn / launch.grid.x % launch.grid.y);
      const auto z = static_cast<unsigned>(turn / launch.grid.x / launch.grid.y);
      this_block().run(launch, {x, y, z}, Random{seed ^ turn});
    }
  };
  constexpr std::uint64_t kWorthAThread = 1 << 14;  // threads of the kernel: below, starting an OS thread costs more than it gains
  std::vector<std::thread> helpers;
  if (threads >= kWorthAThread)
    for (unsigned i = 1; i < worker_count() && i < count; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  here.kernel = nullptr;
}

}  // namespace cuda_emulation
