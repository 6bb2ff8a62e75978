#include "run_folder.hpp"

#include <utility>

#include "deltatune/io/json_config.hpp"
#include "deltatune/io/staged_folder.hpp"
#include "deltatune/train/checkpoint.hpp"

namespace deltatune::cli {

namespace fs = std::filesystem;

namespace {

// A run has saved its best result so far and was not finished.
bool is_unfinished(const fs::path& folder) {
  if (!fs::exists(folder / "run.json")) return false;
  try {
    return !JsonConfig::open(folder / "run.json").get_or<bool>("finished", true);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void refuse_own_folder(const fs::path& out, const fs::path& source, const std::string& what) {
  std::error_code ignored;  // one of them does not exist
  if (fs::equivalent(out, source, ignored)) throw Error(out.string(), "is " + what + "'s own folder", {.remedy = "write to another one"});
}

void refuse_earlier_result(const fs::path& out) {
  const std::string found = result_in(out);
  if (found.empty()) return;
  throw Error(out.string(),
              std::string("already holds ") + (found == "config.json" ? "a model" : "the result of a training run or an adapter") + " (" + found + ")",
              {.remedy = "choose another --out, or replace it with --overwrite"});
}

RunFolder::RunFolder(fs::path folder, const fs::path& model, Resume resume, bool overwrite)
    : path_(std::move(folder)), resumes_(resume != Resume::no && has_checkpoint(checkpoint())) {
  refuse_own_folder(path_, model, "the model");
  if (fs::is_directory(path_)) lock_.emplace(path_);
  if (resumes_) return;
  if (resume == Resume::yes)
    throw Error(checkpoint().string(), "holds no checkpoint to resume from", {.remedy = "--resume auto starts from the beginning where there is none"});
  if (overwrite || (resume == Resume::automatic && is_unfinished(path_))) return;
  if (has_checkpoint(checkpoint()) && (result_in(path_).empty() || is_unfinished(path_)))
    throw Error(path_.string(), "holds a run that was not finished",
                {.remedy = "go on from its checkpoint with --resume, start anew with --overwrite, or choose another --out"});
  refuse_earlier_result(path_);
}

void RunFolder::begin() {
  make_directory(path_);
  if (!lock_) lock_.emplace(path_);
  StagedFolder::remove_abandoned(path_);
  for (const char* const name : {"metrics.jsonl", "loss.svg", "run.json"}) remove_leftovers(path_, name);
  if (fs::is_directory(checkpoint())) remove_leftovers(checkpoint(), detail::kCheckpointFile);
  if (resumes_) return;
  std::error_code ignored;
  fs::remove(checkpoint() / detail::kCheckpointFile, ignored);
  fs::remove(checkpoint(), ignored);  // where it is empty now
  fs::remove(path_ / "loss.svg", ignored);
}

void RunFolder::save(const std::function<void(const fs::path&)>& write) {
  StagedFolder staged(path_, Replaces::any_kind, &*lock_);
  write(staged.path());
  staged.commit();
}

}  // namespace deltatune::cli
