// Ctrl-C and SIGTERM, taken note of while one of these lives, so that work can come to an orderly end. The second one ends the program at once.
#pragma once

#include <csignal>
#include <string>

namespace deltatune::cli {

class Interrupts {
 public:
  Interrupts() {
    received_ = 0;
    take(SIGINT, before_[0]);
    take(SIGTERM, before_[1]);
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  ~Interrupts() {
    ::sigaction(SIGINT, &before_[0], nullptr);
    ::sigaction(SIGTERM, &before_[1], nullptr);
  }

  // The signal's number; 0: none yet.
  int received() const { return received_; }

 private:
  static void note(int signal) { received_ = signal; }

  static void take(int signal, struct sigaction& before) {
    struct sigaction action {};
    action.sa_handler = note;
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    ::sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);  // a program in the background stays deaf to Ctrl-C
  }

  static inline volatile std::sig_atomic_t received_ = 0;
  struct sigaction before_[2] = {};
};

// Thrown when a command has come to an orderly end after a signal: the program's exit code is 128 and its number.
struct Interrupted {
  int signal;
};

}  // namespace deltatune::cli
