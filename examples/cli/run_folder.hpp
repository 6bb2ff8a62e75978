// The folder that a command writes its result to: what is not overwritten unasked, who else writes there, and what an earlier run has left.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "deltatune/io/folder_lock.hpp"
#include "deltatune/io/staged_folder.hpp"

namespace deltatune::cli {

// Throws Error when the two are the same folder, by whatever names. what: of the source, "the model", "the adapter".
void refuse_own_folder(const std::filesystem::path& out, const std::filesystem::path& source, const std::string& what);

// Throws Error when the file is the source, or lies in the folder that the source is. what: of the source.
void refuse_own_file(const std::filesystem::path& out, const std::filesystem::path& source, const std::string& what);

// Throws Error when a result must not go to the folder. Without `overwrite` it has to be empty, but for what a run that came to nothing has left; with it,
// what it holds is an earlier result, which goes when the new one is there, or lies beside the new one and stays. A file that is no part of an earlier
// result and that a new one would replace is never replaced. writes_model: a whole model, and not an adapter.
void check_out(const std::filesystem::path& out, bool overwrite, bool writes_model);

// What an earlier training run has left in `out` besides its result goes with that.
void replace_run_files(StagedFolder& staged, const std::filesystem::path& out);

enum class Resume { no, yes, automatic };  // automatic: a new run where there is no checkpoint

// Of a training run. Where an earlier result or run is to be replaced, the new run has a folder "unfinished" of its own in it until it is complete.
class RunFolder {
 public:
  // Changes nothing yet. Throws Error when the folder is the model's own, when another process writes to it, when it holds anything and neither `resume`
  // nor `overwrite` says what becomes of it (check_out()), and when there is no checkpoint to resume from.
  RunFolder(std::filesystem::path folder, const std::filesystem::path& model, Resume resume, bool overwrite, bool writes_model);

  const std::filesystem::path& path() const { return path_; }  // where the run writes
  std::filesystem::path checkpoint() const { return path_ / "checkpoint"; }
  bool replaces() const { return path_ != result_; }        // an earlier result, in the end
  bool resumes() const { return resumes_; }                 // from the checkpoint
  bool holds_finished_run() const { return is_finished_; }  // that was to be resumed

  // Creates the folder and keeps other processes out; removes what killed ones left, and for a new run what an earlier one has left at path(). Writes the
  // record: there is a run now. An earlier result stays until save(), or until finish() where the run replaces one.
  void begin(const nlohmann::json& record);

  // Puts the files that `write` writes to the folder it is given in place of the earlier result at path(): of all of it, at once.
  void save(const std::function<void(const std::filesystem::path&)>& write);

  // The run is complete: where it replaces an earlier result, it does so now.
  void finish();

  void remove_checkpoint() const;

 private:
  std::filesystem::path result_, path_;
  bool resumes_ = false, is_finished_ = false;
  std::optional<FolderLock> lock_;
};

}  // namespace deltatune::cli
