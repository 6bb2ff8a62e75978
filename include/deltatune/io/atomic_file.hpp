// Files that appear whole or not at all: written under a temporary name in the target's folder, flushed to the disk, then renamed.
// A reader, a crash or a full disk sees the old file or the new one, never a part of it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/io/system_error.hpp"

namespace deltatune {

namespace detail {

// Writes all bytes to an open file; `path` is for the message.
DELTATUNE_FUNCTION void write_all(int descriptor, std::span<const std::byte> bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_system_error(path, "cannot write the file", errno);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

DELTATUNE_FUNCTION std::string temporary_name(const std::string& name, unsigned number) { return "." + name + "." + std::to_string(number) + ".tmp"; }

// Whether a process may have written `file` on its way to `name`.
DELTATUNE_FUNCTION bool is_temporary_name(const std::string& file, const std::string& name) {
  const std::string begin = "." + name + ".", end = ".tmp";
  return file.size() > begin.size() + end.size() && file.starts_with(begin) && file.ends_with(end) &&
         std::all_of(file.begin() + static_cast<std::ptrdiff_t>(begin.size()), file.end() - static_cast<std::ptrdiff_t>(end.size()),
                     [](char c) { return c >= '0' && c <= '9'; });
}

// Brings the names in a folder to the disk, where the file system can.
DELTATUNE_FUNCTION void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace detail

// Each write() is a system call: hand over large pieces.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
    if (!target_.has_filename()) throw Error("\"" + target_.string() + "\"", "names no file", {.expected = "the name of a file to write"});
    std::error_code ignored;
    const auto status = std::filesystem::status(target_, ignored);
    if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
      throw Error(target_.string(), std::filesystem::is_directory(status) ? "is a folder" : "is not a regular file",
                  {.expected = "the name of a file to write"});
    }
    open_temporary();
  }

  AtomicFile(AtomicFile&& other) noexcept
      : target_(std::move(other.target_)), temporary_(std::exchange(other.temporary_, {})), descriptor_(std::exchange(other.descriptor_, -1)) {}
  AtomicFile& operator=(AtomicFile&&) = delete;

  // Without commit() nothing remains.
  ~AtomicFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  void write(std::span<const std::byte> bytes) { detail::write_all(descriptor_, bytes, target_); }
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  // Brings the bytes to the disk, where a full disk shows at last. Nothing can be written afterwards.
  void finish() {
    if (descriptor_ < 0) return;
    if (::fsync(descriptor_) != 0) throw_system_error(target_, "cannot write the file to the disk", errno);
    if (::close(std::exchange(descriptor_, -1)) != 0) throw_system_error(target_, "cannot close the file", errno);
  }

  // Finishes and gives the file its name, in place of an older file.
  void commit() {
    finish();
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) throw_system_error(target_, "cannot replace the file", errno);
    temporary_.clear();
    detail::sync_folder(target_.has_parent_path() ? target_.parent_path() : std::filesystem::path("."));
  }

 private:
  DELTATUNE_FUNCTION void open_temporary() {
    std::random_device random;
    do {
      temporary_ = target_.parent_path() / detail::temporary_name(target_.filename().string(), random());
      descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ < 0) throw_system_error(target_, "cannot create the file", errno);
  }

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

DELTATUNE_FUNCTION void write_text_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

// Removes what processes that were killed have left in `folder` on their way to `name`; only while no other process writes there.
DELTATUNE_FUNCTION void remove_leftovers(const std::filesystem::path& folder, const std::string& name) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
    if (detail::is_temporary_name(entry.path().filename().string(), name)) std::filesystem::remove_all(entry.path(), ignored);
}

// Creates the folder and those above it; one that is already there is fine.
DELTATUNE_FUNCTION void make_directory(const std::filesystem::path& path) {
  std::error_code failure;
  std::filesystem::create_directories(path, failure);
  if (failure) throw_system_error(path, "cannot create the folder", failure.value());
}

}  // namespace deltatune
