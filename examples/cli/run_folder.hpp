// The folder that a command writes its result to: what is not overwritten unasked, who else writes there, and what an earlier run has left.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "deltatune/io/folder_lock.hpp"

namespace deltatune::cli {

// Throws Error when the two are the same folder, by whatever names. what: of the source, "the model", "the adapter".
void refuse_own_folder(const std::filesystem::path& out, const std::filesystem::path& source, const std::string& what);

// Throws Error when the folder holds a result already.
void refuse_earlier_result(const std::filesystem::path& out);

enum class Resume { no, yes, automatic };  // automatic: a new run where there is no checkpoint

// Of a training run.
class RunFolder {
 public:
  // Changes nothing yet. Throws Error when the folder is the model's own, when another process writes to it, when it holds a result or a checkpoint and
  // neither `resume` nor `overwrite` says what becomes of it, and when there is no checkpoint to resume from.
  RunFolder(std::filesystem::path folder, const std::filesystem::path& model, Resume resume, bool overwrite);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoint() const { return path_ / "checkpoint"; }
  bool resumes() const { return resumes_; }  // from the checkpoint

  // Creates the folder and keeps other processes out; removes what killed ones left, and for a new run the checkpoint of an earlier one. An earlier result
  // stays until save().
  void begin();

  // Puts the files that `write` writes to the folder it is given in place of the earlier result: of all of it, at once.
  void save(const std::function<void(const std::filesystem::path&)>& write);

 private:
  std::filesystem::path path_;
  bool resumes_;
  std::optional<FolderLock> lock_;
};

}  // namespace deltatune::cli
