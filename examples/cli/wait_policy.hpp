// How the threads of OpenMP wait for each other. By default they spin for milliseconds, which is quickest on an idle machine; beside one
// other busy process each wait then lasts as long as the scheduler lets that one run, and training takes three to six times as long. The
// library reads the policy from the environment when it is loaded, so it has to stand there before the program starts.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#ifdef __linux__
#include <unistd.h>

#include <cinttypes>
#include <climits>
#include <cstdio>
#include <fstream>
#endif

namespace deltatune::cli {

// About 10 µs of spinning, which bridges the gaps inside a layer, before a thread sleeps.
inline constexpr const char* kSpins = "1000";

inline bool wait_policy_is_set() {
  for (const char* const name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

#ifdef __linux__
namespace detail {

// The file of this program; empty where /proc does not tell it, and where another program runs this one: the dynamic loader called by name.
inline std::string own_file() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0 || length == static_cast<ssize_t>(sizeof path)) return {};
  const std::string file(path, static_cast<std::size_t>(length));
  std::ifstream maps("/proc/self/maps");
  const std::uintptr_t here = reinterpret_cast<std::uintptr_t>(&wait_policy_is_set);
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t first = 0, end = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR, &first, &end) == 2 && first <= here && here < end) return line.ends_with(" " + file) ? file : "";
  }
  return {};
}

// Whether a debugger or tracer looks on: it keeps the process that it started.
inline bool is_traced() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "TracerPid:") return status >> word && word != "0";
  return false;
}

}  // namespace detail

// Starts the program once more in this process, with a short spin, unless the environment has a policy already: a user's own, or this one.
// Process id, arguments, open files and signals stay. Where it can't be done, nothing happens.
inline void set_wait_policy(char** argv) {
  if (wait_policy_is_set() || detail::is_traced()) return;
  const std::string file = detail::own_file();
  if (file.empty()) return;
  setenv("GOMP_SPINCOUNT", kSpins, 1);  // libgomp
  setenv("KMP_BLOCKTIME", "0", 1);      // libomp: milliseconds
  execv(file.c_str(), argv);
  unsetenv("GOMP_SPINCOUNT");
  unsetenv("KMP_BLOCKTIME");
}
#else
inline void set_wait_policy(char**) {}
#endif

}  // namespace deltatune::cli
