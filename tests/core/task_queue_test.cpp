#include "deltatune/core/task_queue.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace deltatune {

TEST_CASE("tasks: each runs once, and the first failure counts", "[core][tasks]") {
  for (const unsigned threads : {0U, 1U, 2U, 7U}) {
    std::vector<std::atomic<int>> runs(100);
    std::atomic<int> workers = 0;
    detail::run_tasks(runs.size(), threads, [&](detail::TaskQueue& queue) {
      ++workers;
      while (const auto task = queue.take()) ++runs[*task];
    });
    for (const auto& times : runs) CHECK(times == 1);
    if (threads > 0) CHECK(workers == static_cast<int>(threads));
    try {
      detail::run_tasks(100, threads, [](detail::TaskQueue& queue) {
        while (const auto task = queue.take())
          if (*task % 10 == 7) throw std::runtime_error(std::to_string(*task));
      });
      FAIL("nothing was thrown");
    } catch (const std::runtime_error& error) {
      CHECK(std::string(error.what()) == "7");
    }
  }
  int workers = 0;
  detail::run_tasks(0, 4, [&](detail::TaskQueue& queue) { workers += queue.take() ? 100 : 1; });
  CHECK(workers == 1);
}

}  // namespace deltatune
