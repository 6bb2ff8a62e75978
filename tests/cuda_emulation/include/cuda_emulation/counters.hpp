// What the program asked of the runtime and of cuBLAS: for tests that count, and tests that look at every matrix product.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cuda_emulation/report.hpp"
#include "cuda_emulation/types.hpp"

namespace cuda_emulation {

struct Counters {  // calls, in a capture or not; a launch of a graph counts once
  std::size_t kernels = 0;
  std::size_t gemms = 0;
  std::size_t copies_to_device = 0;
  std::size_t copies_to_host = 0;
  std::size_t copies_on_device = 0;
  std::size_t sets = 0;
  std::size_t synchronisations = 0;  // of streams, events and the device, and blocking copies
  std::size_t allocations = 0;
  std::size_t frees = 0;
  std::size_t pinned_allocations = 0;
  std::size_t graph_launches = 0;
  std::size_t operations_run = 0;  // whatever has left a queue
};
inline Counters& counters() {
  static Counters value;
  return value;
}
inline void reset_counters() { counters() = {}; }

struct KernelLaunch {
  const void* function;
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  std::string name() const { return kernel_name(function); }
};
namespace detail {
struct LaunchRecord {
  bool on = false;
  std::vector<KernelLaunch> list;
};
inline LaunchRecord& launch_record() {
  static auto* record = new LaunchRecord;
  return *record;
}
}  // namespace detail
// Starts (or ends) the list anew.
inline void record_launches(bool on) { detail::launch_record() = {on, {}}; }
inline const std::vector<KernelLaunch>& launches() { return detail::launch_record().list; }

}  // namespace cuda_emulation
