// A result of several files, put into its folder as one: they are written into a temporary folder first. A reader, or whoever looks after a
// crash, finds the complete old result or the complete new one.
//
//   the folder is new                         the temporary folder gets its name: one rename
//   one file differs                          one rename
//   there was no result                       renames, the file that makes it one (result_files.hpp) last
//   there was another result                  the two folders change places (renameat2, RENAME_EXCHANGE), with all else that lies there hard-linked
//                                             into the new one before. Where that cannot be - another file system, a mount point, the process's own
//                                             working folder - the old result goes first: in between there is none, and never a mixture.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/sort_stably.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/folder_lock.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/result_files.hpp"

namespace deltatune {

// Which files of an earlier result go, besides those that get a successor: those of its kind, an adapter's or a model's; or both.
enum class Replaces { same_kind, any_kind };

class StagedFolder {
 public:
  // lock: the caller's, if it holds one on the folder. Throws Error when the folder cannot be made.
  explicit StagedFolder(const std::filesystem::path& target, Replaces replaces = Replaces::same_kind, FolderLock* lock = nullptr)
      : target_(resolved(target)), replaces_(replaces), lock_(lock) {
    make_stage();
  }
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  // Without commit() nothing remains.
  ~StagedFolder() {
    std::error_code ignored;
    if (!container_.empty()) std::filesystem::remove_all(container_, ignored);
  }

  // Where to write the files.
  const std::filesystem::path& path() const { return stage_; }

  // A file of the earlier result, by its place in the folder, that goes with it and is none of those that the kind names.
  void removes(const std::filesystem::path& file) { removed_.insert(file); }

  // Throws Error when the folder cannot be written, or another process writes to it.
  DELTATUNE_FUNCTION void commit() {
    const std::vector<Path> staged = files_in(stage_);
    for (const Path& file : staged) detail::sync_folder((stage_ / file).parent_path());
    if (!exists_) {
      if (::rename(stage_.c_str(), target_.c_str()) != 0) throw_system_error(target_, "cannot give the folder its name", errno);
      detail::sync_folder(target_.parent_path());
      std::error_code ignored;
      std::filesystem::remove_all(container_, ignored);
      return;
    }
    std::optional<FolderLock> own;
    if (lock_ == nullptr) lock_ = &own.emplace(target_);
    Changes changes = changes_by(staged);
    if (changes.count() <= 1 || !exchangeable_ || !exchange(staged, changes)) move_into_place(changes);
    std::error_code ignored;
    std::filesystem::remove_all(container_, ignored);
  }

  // What processes that were killed left on their way to `target`: the temporary folders that no one holds any more.
  DELTATUNE_FUNCTION static void remove_abandoned(const std::filesystem::path& target) {
    const Path folder = resolved(target);
    remove_abandoned(folder.parent_path(), folder.filename().string());
    remove_abandoned(folder, kWithin);
  }

 private:
  using Path = std::filesystem::path;
  static constexpr const char* kWithin = "result";  // of the temporary folder, where it lies within the target

  struct Changes {
    std::vector<Path> written, removed;  // relative to the folder
    std::size_t count() const { return written.size() + removed.size(); }
  };

  DELTATUNE_FUNCTION static Path resolved(const Path& target) {
    if (target.empty()) throw Error("\"\"", "names no folder", {.expected = "the name of a folder to write"});
    std::error_code failure;
    Path path = std::filesystem::absolute(target, failure);  // a name alone has no folder above it
    if (!failure) path = std::filesystem::weakly_canonical(path, failure);
    if (failure) throw_system_error(target, "cannot create the folder", failure.value());
    return path.has_filename() ? path : path.parent_path();
  }

  DELTATUNE_FUNCTION void make_stage() {
    exists_ = std::filesystem::exists(target_);
    if (exists_ && !std::filesystem::is_directory(target_)) throw Error(target_.string(), "is not a folder", {.expected = "the name of a folder to write"});
    if (!exists_) make_directory(target_.parent_path());
    remove_abandoned(target_);
    exchangeable_ = exists_ && !result_in(target_).empty() && can_change_places();
    if (!exists_ || exchangeable_) {
      const int failure = make_temporary(target_.parent_path(), target_.filename().string());
      if (failure == 0) return;
      if (!exists_) throw_system_error(target_, "cannot create the folder", failure);
      exchangeable_ = false;
    }
    if (const int failure = make_temporary(target_, kWithin); failure != 0) throw_system_error(target_, "cannot write to the folder", failure);
  }

  // Returns 0 or an errno value.
  DELTATUNE_FUNCTION int make_temporary(const Path& in, const std::string& name) {
    std::random_device random;
    while (true) {
      const Path path = in / detail::temporary_name(name, random());
      if (::mkdir(path.c_str(), 0777) == 0) {
        container_ = path;
        alive_.emplace(container_);
        stage_ = container_ / "new";
        return ::mkdir(stage_.c_str(), 0777) == 0 ? 0 : errno;
      }
      if (errno != EEXIST) return errno;
    }
  }

  DELTATUNE_FUNCTION static void remove_abandoned(const Path& in, const std::string& name) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(in, ignored)) {
      if (!detail::is_temporary_name(entry.path().filename().string(), name) || !entry.is_directory(ignored)) continue;
      try {
        const FolderLock abandoned(entry.path());
        std::filesystem::remove_all(entry.path(), ignored);
      } catch (const Error&) {  // another process is at work there
      }
    }
  }

  // Not a mount point, nor where the process is at work: it would be left in the folder of the old result.
  DELTATUNE_FUNCTION bool can_change_places() const {
    struct stat target {
    }, parent{};
    if (::stat(target_.c_str(), &target) != 0 || ::stat(target_.parent_path().c_str(), &parent) != 0 || target.st_dev != parent.st_dev) return false;
    std::error_code failure;
    const Path here = std::filesystem::current_path(failure);
    return !failure && !std::equal(target_.begin(), target_.end(), here.begin(), std::next(here.begin(), std::min(length(target_), length(here))));
  }
  static std::ptrdiff_t length(const Path& path) { return std::distance(path.begin(), path.end()); }

  DELTATUNE_FUNCTION static std::vector<Path> files_in(const Path& folder) {
    std::vector<Path> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) files.push_back(entry.path().lexically_relative(folder));
    std::sort(files.begin(), files.end());
    return files;
  }

  DELTATUNE_FUNCTION std::set<Path> earlier_files(const std::vector<Path>& staged) const {
    const auto writes = [&staged](const char* name) { return std::binary_search(staged.begin(), staged.end(), Path(name)); };
    std::set<Path> files;
    if (replaces_ == Replaces::any_kind || writes("adapter_config.json") || writes("adapters.json")) files = adapter_files(target_);
    if (replaces_ == Replaces::any_kind || writes("config.json")) files.merge(model_files(target_));
    for (const Path& file : removed_)
      if (std::filesystem::exists(target_ / file)) files.insert(file);
    return files;
  }

  DELTATUNE_FUNCTION Changes changes_by(const std::vector<Path>& staged) const {
    Changes changes;
    for (const Path& file : staged)
      if (!same_content(stage_ / file, target_ / file)) changes.written.push_back(file);
    for (const Path& file : earlier_files(staged))
      if (!std::binary_search(staged.begin(), staged.end(), file)) changes.removed.push_back(file);
    return changes;
  }

  DELTATUNE_FUNCTION static bool same_content(const Path& a, const Path& b) {
    if (!std::filesystem::is_regular_file(b) || std::filesystem::is_symlink(b) || std::filesystem::file_size(a) != std::filesystem::file_size(b)) return false;
    return MappedFile(a).text() == MappedFile(b).text();
  }

  // False where the system cannot: nothing has changed then.
  DELTATUNE_FUNCTION bool exchange(const std::vector<Path>& staged, const Changes& changes) {
#ifdef RENAME_EXCHANGE
    struct stat old {};
    if (::stat(target_.c_str(), &old) != 0 || ::chmod(stage_.c_str(), old.st_mode & 07777U) != 0) return false;
    struct stat now {};
    if (::stat(stage_.c_str(), &now) != 0) return false;
    if ((now.st_uid != old.st_uid || now.st_gid != old.st_gid) && ::chown(stage_.c_str(), old.st_uid, old.st_gid) != 0) return false;
    std::set<Path> replaced(staged.begin(), staged.end());
    replaced.insert(changes.removed.begin(), changes.removed.end());
    if (!link_others(replaced)) return false;
    FolderLock next(stage_);
    if (::renameat2(AT_FDCWD, stage_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0) return false;
    detail::sync_folder(target_.parent_path());
    *lock_ = std::move(next);
    return true;  // the stage is the old one now
#else
    static_cast<void>(staged);
    static_cast<void>(changes);
    return false;
#endif
  }

  // Whatever else lies in the target, once more in the stage: the same files, not copies of them.
  DELTATUNE_FUNCTION bool link_others(const std::set<Path>& replaced) const {
    std::error_code failure;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(target_)) {
      const Path file = entry.path().lexically_relative(target_);
      if (replaced.contains(file)) continue;
      if (entry.is_symlink()) {
        std::filesystem::copy_symlink(entry.path(), stage_ / file, failure);
      } else if (entry.is_directory()) {
        if (!holds_only(file, replaced)) std::filesystem::create_directory(stage_ / file, entry.path(), failure);
      } else if (entry.is_regular_file()) {
        std::filesystem::create_hard_link(entry.path(), stage_ / file, failure);
      } else {
        return false;  // a socket, a pipe
      }
      if (failure) return false;
    }
    return true;
  }

  // Whether a folder would be empty without the files that are replaced: the part of an earlier result.
  DELTATUNE_FUNCTION bool holds_only(const Path& folder, const std::set<Path>& replaced) const {
    if (std::filesystem::is_empty(target_ / folder)) return false;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(target_ / folder))
      if (!replaced.contains(entry.path().lexically_relative(target_))) return false;
    return true;
  }

  // The markers of the old result go first, those of the new one come last.
  DELTATUNE_FUNCTION void move_into_place(Changes& changes) const {
    const auto unlink_one = [this](const Path& file) {
      if (::unlink((target_ / file).c_str()) != 0 && errno != ENOENT) throw_system_error(target_ / file, "cannot remove the earlier file", errno);
    };
    const auto rename_one = [this](const Path& file) {
      make_directory((target_ / file).parent_path());
      if (::rename((stage_ / file).c_str(), (target_ / file).c_str()) != 0) throw_system_error(target_ / file, "cannot replace the file", errno);
    };
    const auto depth = [](const Path& file) { return length(file); };
    const bool several = changes.count() > 1;
    for (std::vector<Path>* files : {&changes.written, &changes.removed})
      detail::sort_stably(files->begin(), files->end(), [&](const Path& a, const Path& b) { return depth(a) > depth(b); });
    for (const std::vector<Path>* files : {&changes.removed, &changes.written})
      for (auto file = files->rbegin(); several && file != files->rend(); ++file)
        if (is_result_marker(*file)) unlink_one(*file);
    for (const Path& file : changes.removed) {
      unlink_one(file);
      std::error_code ignored;
      if (file.has_parent_path()) std::filesystem::remove(target_ / file.parent_path(), ignored);  // where it is empty now
    }
    for (const bool marker : {false, true})
      for (const Path& file : changes.written)
        if (is_result_marker(file) == marker) rename_one(file);
    detail::sync_folder(target_);
  }

  Path target_, container_, stage_;
  std::set<Path> removed_;
  std::optional<FolderLock> alive_;  // on the container
  Replaces replaces_;
  FolderLock* lock_;
  bool exists_ = false;
  bool exchangeable_ = false;
};

}  // namespace deltatune
