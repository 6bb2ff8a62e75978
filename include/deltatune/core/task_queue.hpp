// Tasks with numbers, shared out to threads in their order. Of what they throw the first task's counts, as with one thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/function_ref.hpp"

namespace deltatune::detail {

// What one thread takes tasks from.
class TaskQueue {
 public:
  TaskQueue(std::atomic<std::size_t>& next, std::size_t tasks) : next_(next), tasks_(tasks) {}

  // The next task that nobody has; nothing where there are no more.
  std::optional<std::size_t> take() {
    current_ = next_++;
    if (current_ < tasks_) return current_;
    return std::nullopt;
  }
  std::size_t current() const { return current_; }

 private:
  std::atomic<std::size_t>& next_;
  std::size_t tasks_, current_ = 0;
};

// Calls worker(queue) on so many threads, this one among them, or fewer where there are fewer tasks or no more threads are to be had; 0: one per processor.
// Throws what the first task that failed threw; tasks behind it may not have run then.
DELTATUNE_FUNCTION void run_tasks(std::size_t tasks, unsigned threads, FunctionRef<void(TaskQueue&)> worker) {
  std::atomic<std::size_t> next{0};
  std::mutex failure_mutex;
  std::exception_ptr failure;
  std::size_t failed_task = tasks;
  const auto run = [&] {
    TaskQueue queue(next, tasks);
    try {
      worker(queue);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (queue.current() < failed_task) {
        failure = std::current_exception();
        failed_task = queue.current();
      }
      next = tasks;
    }
  };
  if (threads == 0) threads = std::max(1U, std::thread::hardware_concurrency());
  threads = static_cast<unsigned>(std::min<std::size_t>(threads, std::max<std::size_t>(1, tasks)));
  std::vector<std::thread> others;
  try {
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(run);
  } catch (const std::system_error&) {  // those that there are do all of it
  }
  run();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace deltatune::detail
