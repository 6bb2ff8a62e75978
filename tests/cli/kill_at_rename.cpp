// Loaded into the program by LD_PRELOAD: ends it with SIGKILL in front of its n-th rename, n from $DELTATUNE_KILL_AT_RENAME.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

namespace {

int change_name(int old_folder, const char* from, int new_folder, const char* to, unsigned flags) {
  static long left = std::getenv("DELTATUNE_KILL_AT_RENAME") != nullptr ? std::atol(std::getenv("DELTATUNE_KILL_AT_RENAME")) : 0;
  if (--left == 0) std::raise(SIGKILL);
  return static_cast<int>(::syscall(SYS_renameat2, old_folder, from, new_folder, to, flags));
}

}  // namespace

extern "C" {
int rename(const char* from, const char* to) noexcept { return change_name(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int old_folder, const char* from, int new_folder, const char* to) noexcept { return change_name(old_folder, from, new_folder, to, 0); }
int renameat2(int old_folder, const char* from, int new_folder, const char* to, unsigned flags) noexcept {
  return change_name(old_folder, from, new_folder, to, flags);
}
}
