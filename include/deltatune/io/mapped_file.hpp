// A whole file as read-only memory (POSIX mmap): nothing is copied, pages come in when they are read.
// The file must not be shortened while it is mapped; replacing it by rename, as AtomicFile does, is safe.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/io/system_error.hpp"

namespace deltatune {

class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // not blocking: a named pipe must not hang us
    if (descriptor < 0) throw_system_error(path, "cannot open the file", errno);
    const int failure = map(descriptor);
    ::close(descriptor);
    if (failure == kNotAFile) throw Error(path.string(), "is not a regular file", {.expected = "a file"});
    if (failure != 0) throw_system_error(path, "cannot read the file", failure);
  }

  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }

  // Lets go of the memory that whole pages of a part take; reading it again brings it back.
  DELTATUNE_FUNCTION void forget(std::span<const std::byte> part) const {
    const std::uintptr_t page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) / page * page;
    const std::uintptr_t end = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) / page * page;
    if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }

  // The address stays the same when the object moves.
  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

 private:
  static constexpr int kNotAFile = -1;

  // Returns 0, an errno value or kNotAFile.
  DELTATUNE_FUNCTION int map(int descriptor) {
    struct stat status {};
    if (::fstat(descriptor, &status) != 0) return errno;
    if (!S_ISREG(status.st_mode)) return kNotAFile;
    if (status.st_size == 0) return 0;  // mmap refuses an empty range
    const std::size_t size = static_cast<std::size_t>(status.st_size);
    void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED) return errno;
    bytes_ = {static_cast<const std::byte*>(address), size};
    return 0;
  }

  std::span<const std::byte> bytes_;
};

}  // namespace deltatune
