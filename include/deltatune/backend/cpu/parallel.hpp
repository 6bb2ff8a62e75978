// OpenMP in one place: row loops over threads, and how many threads a library below us may use.
#pragma once

#include <omp.h>

#include <algorithm>

#include "deltatune/core/config.hpp"
#include "deltatune/core/function_ref.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune::detail {

// Limits the threads that OpenMP code called from this thread will start; restored on scope exit.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;
  ~ThreadLimit() { omp_set_num_threads(before_); }

 private:
  int before_;
};

// Calls f(begin, end) on every thread with its share of [0, n), cut at multiples of `grain`. The cut depends on n, grain and threads
// alone, so the same run gives the same bits. `serial` runs it on the calling thread: starting threads costs some microseconds.
// f is erased: so its loops are compiled once, and not once for each way to run them.
inline void parallel_ranges(int threads, Index n, Index grain, bool serial, FunctionRef<void(Index, Index)> f) {
  const Index grains = (n + grain - 1) / grain;
  const Index parts = std::min<Index>(threads, grains);
  if (serial || parts <= 1) {
    if (n > 0) f(Index{0}, n);
    return;
  }
#pragma omp parallel for num_threads(static_cast <int>(parts)) schedule(static, 1)
  for (Index part = 0; part < parts; ++part) {
    const Index begin = grains * part / parts * grain;
    const Index end = std::min(n, grains * (part + 1) / parts * grain);
    f(begin, end);
  }
}

// Calls f(task, worker) for every task, on whichever thread is free; tasks must not share results. worker < threads.
inline void parallel_tasks(int threads, Index tasks, FunctionRef<void(Index, Index)> f) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (Index task = 0; task < tasks; ++task) f(task, static_cast<Index>(omp_get_thread_num()));
}

}  // namespace deltatune::detail
