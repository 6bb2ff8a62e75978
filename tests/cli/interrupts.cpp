// Ctrl-C and SIGTERM at any moment of a training run: it never crashes, and goes on from there to the same bits.
#include <sys/wait.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <random>
#include <sstream>
#include <thread>

#include "cli/program.hpp"

using namespace deltatune::test;
using Arguments = std::vector<std::string>;

namespace {

struct Run : TextPlace {
  Run() : TextPlace(48) {}

  Arguments training(const std::string& out, const Arguments& more) const {
    Arguments arguments{"train", "--model",      path("model"), "--data",          path("data.csv"), "--out",  path(out), "--eval-fraction",
                        "0",     "--max-length", "16",          "--learning-rate", "1e-2",           "--rank", "2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  // Returns when `lines` steps are done, or the program has ended.
  void wait_for_steps(pid_t child, const std::string& out, std::ptrdiff_t lines) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < deadline && ::kill(child, 0) == 0) {
      const std::string text = std::filesystem::exists(folder / out / "metrics.jsonl") ? content_of(folder / out / "metrics.jsonl") : "";
      if (std::count(text.begin(), text.end(), '\n') >= lines) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  std::string weights(const std::string& out) const { return content_of(folder / out / "adapter_model.safetensors"); }
};

// The set of signals that a thread's status file names: "SigBlk", "SigCgt".
std::uint64_t signals_in(const std::filesystem::path& status, const std::string& name) {
  std::istringstream lines(content_of(status));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1), nullptr, 16);
  return 0;
}

int ended(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

constexpr std::uint64_t kBoth = (std::uint64_t{1} << (SIGINT - 1)) | (std::uint64_t{1} << (SIGTERM - 1));

}  // namespace

// oneDNN's kernels run with the stack pointer inside a buffer on the heap: a handler there would overwrite what is in use.
TEST_CASE("no thread that computes takes a signal", "[cli][interrupts]") {
  if (environment("DELTATUNE_DEVICE", "cpu") != std::string("cpu")) return;
  const Run run;
  const pid_t child = start_program(run.training("out", {"--steps", "100000", "--threads", "2"}), run.folder / "err");
  run.wait_for_steps(child, "out", 3);
  const std::filesystem::path process = "/proc/" + std::to_string(child);
  CHECK((signals_in(process / "status", "SigCgt") & kBoth) == 0);  // no handler
  int open = 0, threads = 0;
  for (const auto& task : std::filesystem::directory_iterator(process / "task")) {
    ++threads;
    open += (signals_in(task.path() / "status", "SigBlk") & kBoth) == kBoth ? 0 : 1;
  }
  CHECK(threads >= 3);
  CHECK(open <= 1);  // the one that waits for them
  ::kill(child, SIGTERM);
  const int status = ended(child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 128 + SIGTERM);
  CHECK(content_of(run.folder / "err").find("SIGTERM: finishing the step; once more stops at once\n") != std::string::npos);
}

TEST_CASE("a second signal stops at once, and signals that the program's parent ignores are ignored", "[cli][interrupts]") {
  if (environment("DELTATUNE_DEVICE", "cpu") != std::string("cpu")) return;
  const Run run;
  {
    const pid_t child = start_program(run.training("out", {"--steps", "1000", "--accumulate", "400", "--threads", "1"}), run.folder / "err");
    run.wait_for_steps(child, "out", 1);
    ::kill(child, SIGINT);
    ::kill(child, SIGTERM);
    const int status = ended(child);
    CHECK(WIFSIGNALED(status));
    CHECK_FALSE(std::filesystem::exists(run.folder / "out/checkpoint"));
  }
  {
    const auto before = std::signal(SIGINT, SIG_IGN);
    const pid_t child = start_program(run.training("deaf", {"--steps", "1000", "--accumulate", "20", "--threads", "1"}), run.folder / "err");
    std::signal(SIGINT, before);
    run.wait_for_steps(child, "deaf", 1);
    ::kill(child, SIGINT);
    run.wait_for_steps(child, "deaf", 3);
    ::kill(child, SIGTERM);
    const int status = ended(child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 128 + SIGTERM);
  }
}

TEST_CASE("interrupted at random moments, a run is resumed to the same bits", "[cli][interrupts]") {
  if (environment("DELTATUNE_DEVICE", "cpu") != std::string("cpu")) return;
  const Run run;
  const Arguments options{"--steps", "60", "--batch-size", "24", "--threads", "2"};
  const auto begin = std::chrono::steady_clock::now();
  REQUIRE(run_program(run.training("whole", options)).code == 0);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::mt19937 random(3);
  std::uniform_real_distribution<double> moment(0.1 * seconds, 0.95 * seconds);
  const int wanted = environment("DELTATUNE_TEST_ALL", "OFF") == std::string("ON") ? 200 : 12;
  for (int i = 0; i < wanted; ++i) {
    const double after = moment(random);
    const int signal = i % 2 == 0 ? SIGINT : SIGTERM;
    INFO("signal " << signal << " after " << after << " s");
    std::filesystem::remove_all(run.folder / "out");
    const pid_t child = start_program(run.training("out", options), run.folder / "err");
    std::this_thread::sleep_for(std::chrono::duration<double>(after));
    ::kill(child, signal);
    const int status = ended(child);
    INFO(content_of(run.folder / "err"));
    const bool was_preparing = WIFSIGNALED(status) && WTERMSIG(status) == signal, was_done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!was_preparing && !was_done) {
      REQUIRE(WIFEXITED(status));
      CHECK(WEXITSTATUS(status) == 128 + signal);
      CHECK(std::filesystem::exists(run.folder / "out/checkpoint/state.safetensors"));
    }
    Arguments arguments = run.training("out", options);
    arguments.insert(arguments.end(), {"--resume", "auto"});
    const Outcome resumed = run_program(arguments);
    INFO(resumed.err);
    REQUIRE(resumed.code == 0);
    CHECK(run.weights("out") == run.weights("whole"));
    CHECK_FALSE(std::filesystem::exists(run.folder / "out/checkpoint"));  // it would be of an earlier step
  }
}
