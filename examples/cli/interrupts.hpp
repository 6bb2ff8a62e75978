// Ctrl-C and SIGTERM, taken note of while one of these lives, so that work can come to an orderly end. The second one ends the program at once.
//
// A thread of its own waits for them, and all others block them: a handler would run on the stack of whichever thread the signal reaches, and oneDNN's
// kernels keep their stack pointer in the middle of a buffer on the heap, where the signal's frame would overwrite what belongs to others.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <string>
#include <thread>

namespace deltatune::cli {

class Interrupts {
 public:
  // Before any other thread is started: threads inherit which signals they block. Until hold() is called, the first signal ends the program.
  Interrupts() {
    sigemptyset(&taken_);
    ::pthread_sigmask(SIG_SETMASK, nullptr, &before_);
    bool any = false;
    for (const int signal : {SIGINT, SIGTERM}) {
      struct sigaction action {};
      ::sigaction(signal, nullptr, &action);
      if (action.sa_handler == SIG_IGN || sigismember(&before_, signal) == 1) continue;  // a program in the background stays deaf to Ctrl-C
      sigaddset(&taken_, signal);
      any = true;
    }
    if (!any) return;
    ::pthread_sigmask(SIG_BLOCK, &taken_, nullptr);
    thread_ = std::thread([this] { wait(); });
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  ~Interrupts() {
    if (thread_.joinable()) {
      ends_ = true;
      ::pthread_kill(thread_.native_handle(), sigismember(&taken_, SIGTERM) == 1 ? SIGTERM : SIGINT);  // which it takes for the end
      thread_.join();
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

  // From here on the first signal is noted, and it is said what the program does before it ends: "finishing the step". before: what is written in front of
  // that on a terminal; by default what takes away the line of a progress bar. Both are literals.
  void hold(const char* doing, const char* before = "\r\033[K") {
    in_front_ = before;
    doing_ = doing;
  }
  // As before hold(): the next signal ends the program. Forgets the one that was noted, and returns it; 0: none.
  int release() {
    doing_ = nullptr;
    return received_.exchange(0);
  }

  // The signal's number; 0: none yet.
  int received() const { return received_; }

 private:
  void wait() {
    while (true) {
      int signal = 0;
      if (::sigwait(&taken_, &signal) != 0) continue;
      if (ends_) return;
      const char* const doing = doing_;
      if (doing == nullptr || received_.exchange(signal) != 0) end_program(signal);
      const std::string text = std::string(::isatty(STDERR_FILENO) == 1 ? in_front_.load() : "") + (signal == SIGINT ? "Ctrl-C" : "SIGTERM") + ": " + doing +
                               "; once more stops at once\n";
      static_cast<void>(::write(STDERR_FILENO, text.data(), text.size()) < 0);  // there may be nobody to read it
    }
  }

  // As if nothing had been done about the signal.
  static void end_program(int signal) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    ::raise(signal);
    ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  }

  sigset_t taken_{}, before_{};
  std::atomic<const char*> doing_{nullptr}, in_front_{""};
  std::atomic<int> received_{0};
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

// Thrown when a command has come to an orderly end after a signal: the program's exit code is 128 and its number.
struct Interrupted {
  int signal;
};

}  // namespace deltatune::cli
