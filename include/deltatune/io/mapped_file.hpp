// A whole file as read-only memory (POSIX mmap): nothing is copied, pages come in when they are read.
// The file must not be shortened while it is mapped; replacing it by rename, as AtomicFile does, is safe.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
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
    if (text().starts_with(kLfsPointer)) throw_lfs_pointer(path);
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
  static constexpr std::string_view kLfsPointer = "version https://git-lfs.github.com/spec/";  // how the text begins that git keeps in place of a large file

  [[noreturn]] DELTATUNE_FUNCTION void throw_lfs_pointer(const std::filesystem::path& path) {
    const std::size_t size = text().find("\nsize ");
    const std::size_t number = size == std::string_view::npos ? text().size() : size + std::string_view("\nsize ").size();
    const std::string bytes(text().substr(number, std::min(text().find_first_not_of("0123456789", number), number + 20) - number));
    const MappedFile released = std::move(*this);  // a constructor that throws runs no destructor
    throw Error(path.string(), "is a Git LFS pointer and not the file itself",
                {.expected = bytes.empty() ? "the file itself" : "a file of " + bytes + " bytes",
                 .remedy = "run `git lfs pull` in the folder that was cloned, or download the file itself"});
  }

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
