// A lock on a folder against other processes, which leaves no file behind: it lies on the open folder (flock) and ends with the process.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/io/system_error.hpp"

namespace deltatune {

// Advisory: it keeps out whoever asks for it. Where a file system has no locks, everyone gets one.
class FolderLock {
 public:
  // Throws Error when another process has it, or when there is no such folder.
  explicit FolderLock(const std::filesystem::path& folder) {
    while (!take(folder)) ::close(std::exchange(descriptor_, -1));
  }
  FolderLock(FolderLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FolderLock& operator=(FolderLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~FolderLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

 private:
  // False when the folder was replaced by another one of its name in between.
  DELTATUNE_FUNCTION bool take(const std::filesystem::path& folder) {
    descriptor_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor_ < 0) throw_system_error(folder, "cannot open the folder", errno);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(std::exchange(descriptor_, -1));
      throw Error(folder.string(), "is in use by another process that writes to it", {.remedy = "wait until it has ended, or write to another folder"});
    }
    struct stat named {
    }, open{};
    return ::stat(folder.c_str(), &named) == 0 && ::fstat(descriptor_, &open) == 0 && named.st_dev == open.st_dev && named.st_ino == open.st_ino;
  }

  int descriptor_ = -1;
};

}  // namespace deltatune
