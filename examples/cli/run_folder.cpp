#include "run_folder.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "deltatune/io/json_config.hpp"
#include "deltatune/train/checkpoint.hpp"
#include "model_card.hpp"
#include "run_record.hpp"

namespace deltatune::cli {

namespace fs = std::filesystem;

namespace {

constexpr const char* kOfReplacing = "unfinished";  // folder of a run that is to replace a result
constexpr std::array kOfRun{kRunRecord, kRunOptions, "labels.json", "metrics.jsonl", "loss.svg"};

bool is_temporary(const fs::path& file) { return file.filename().string().starts_with('.') && file.extension() == ".tmp"; }

// A folder of which a run that was killed has not made anything yet, or a checkpoint.
bool is_left_by_run(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  const fs::directory_iterator entries(folder);
  return std::all_of(begin(entries), end(entries),
                     [](const auto& entry) { return is_temporary(entry.path()) || entry.path().filename() == deltatune::detail::kCheckpointFile; });
}

// Names in the folder that are neither a result nor left by a run.
std::vector<std::string> others_in(const fs::path& folder) {
  std::vector<std::string> others;
  if (!fs::is_directory(folder)) return others;
  const bool has_run = has_run_record(folder);
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool is_of_run = has_run && std::find(kOfRun.begin(), kOfRun.end(), name) != kOfRun.end();
    const bool is_card = name == kModelCard && is_model_card(entry.path());
    const bool is_folder_of_run = (name == "checkpoint" || name == kOfReplacing) && is_left_by_run(entry.path());
    if (!is_temporary(entry.path()) && !is_of_run && !is_card && !is_folder_of_run) others.push_back(name);
  }
  std::sort(others.begin(), others.end());
  return others;
}

void refuse_earlier_result(const fs::path& out) {
  const std::string found = result_in(out);
  if (found.empty()) return;
  throw Error(out.string(),
              std::string("already holds ") + (found == "config.json" ? "a model" : "the result of a training run or an adapter") + " (" + found + ")",
              {.remedy = "choose another --out, or replace it with --overwrite"});
}

void refuse_others(const fs::path& out) {
  constexpr std::size_t kShown = 5;
  const std::vector<std::string> others = others_in(out);
  if (others.empty()) return;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, others.size()); ++i) text += (i == 0 ? "" : ", ") + others[i];
  throw Error(out.string(), "holds something else than a result",
              {.expected = "a new or an empty folder",
               .got = text + (others.size() > kShown ? " and " + std::to_string(others.size() - kShown) + " more" : ""),
               .remedy = "choose another --out, or write beside that with --overwrite"});
}

// Files of a result's names that no result has brought.
void refuse_foreign_files(const fs::path& out, bool writes_model) {
  std::vector<std::string> foreign;
  const auto add = [&](const auto& names) {
    for (const char* const name : names)
      if (fs::exists(out / name)) foreign.push_back(name);
  };
  if (!has_run_record(out)) add(std::array{kRunRecord});
  if (!has_run_record(out) && result_in(out).empty()) {
    add(kOfRun);
    add(deltatune::detail::kTokenizerFiles);
  }
  if (writes_model && !holds_model(out)) {
    add(deltatune::detail::kModelFiles);
    add(deltatune::detail::kWeightFiles);
  }
  if (!foreign.empty())
    throw Error((out / foreign.front()).string(), "is no part of an earlier result, and would be replaced",
                {.remedy = "choose another --out, or move it away"});
}

}  // namespace

void refuse_own_folder(const fs::path& out, const fs::path& source, const std::string& what) {
  std::error_code ignored;  // one of them does not exist
  if (fs::equivalent(out, source, ignored)) throw Error(out.string(), "is " + what + "'s own folder", {.remedy = "write to another one"});
}

void refuse_own_file(const fs::path& out, const fs::path& source, const std::string& what) {
  std::error_code ignored;
  if (!fs::is_regular_file(out, ignored)) return;
  const fs::path folder = out.has_parent_path() ? out.parent_path() : fs::path(".");
  if (fs::equivalent(out, source, ignored) || (fs::is_directory(source, ignored) && fs::equivalent(folder, source, ignored)))
    throw Error(out.string(), "is " + what + (fs::is_directory(source, ignored) ? "'s own file" : " itself"), {.remedy = "write to another file"});
}

void check_out(const fs::path& out, bool overwrite, bool writes_model) {
  if (overwrite) return refuse_foreign_files(out, writes_model);
  refuse_earlier_result(out);
  refuse_others(out);
}

void replace_run_files(StagedFolder& staged, const fs::path& out) {
  for (const char* const name : kOfRun) staged.removes(name);
  if (is_model_card(out / kModelCard)) staged.removes(kModelCard);
  for (const fs::path& file : tokenizer_files(out)) staged.removes(file);
  staged.removes(fs::path("checkpoint") / deltatune::detail::kCheckpointFile);
}

RunFolder::RunFolder(fs::path folder, const fs::path& model, Resume resume, bool overwrite, bool writes_model) : result_(std::move(folder)), path_(result_) {
  refuse_own_folder(result_, model, "the model");
  if (fs::is_directory(result_)) lock_.emplace(result_);
  const fs::path replacing = result_ / kOfReplacing;
  if (has_run_record(replacing)) path_ = replacing;  // the latest run
  const bool has_state = has_checkpoint(checkpoint()), unfinished = is_unfinished(path_);
  if (resume != Resume::no && (has_state || is_finished(path_))) {
    resumes_ = has_state;
    is_finished_ = is_finished(path_);
    return;
  }
  if (resume == Resume::yes)
    throw Error(checkpoint().string(), "holds no checkpoint to resume from", {.remedy = "--resume auto starts from the beginning where there is none"});
  const bool starts_anew = overwrite || (resume == Resume::automatic && unfinished);
  if (!starts_anew && (replaces() || (has_state && (result_in(path_).empty() || unfinished))))
    throw Error(path_.string(), "holds a run that was not finished",
                {.remedy = "go on from its checkpoint with --resume, start anew with --overwrite, or choose another --out"});
  check_out(result_, starts_anew, writes_model);
  if (replaces() || !overwrite || (result_in(result_).empty() && !has_state)) return;
  if (fs::exists(replacing) && !is_left_by_run(replacing))
    throw Error(replacing.string(), "is in the way of the new run, which has a folder of this name until it is complete", {.remedy = "move it away"});
  path_ = replacing;
}

void RunFolder::begin(const nlohmann::json& record) {
  make_directory(result_);
  if (!lock_) lock_.emplace(result_);
  if (replaces() && !resumes_) fs::remove_all(path_);
  make_directory(path_);
  StagedFolder::remove_abandoned(result_);
  StagedFolder::remove_abandoned(path_);
  for (const char* const name : kOfRun) remove_leftovers(path_, name);
  remove_leftovers(path_, kModelCard);
  if (fs::is_directory(checkpoint())) remove_leftovers(checkpoint(), deltatune::detail::kCheckpointFile);
  if (resumes_) return;
  remove_checkpoint();
  std::error_code ignored;
  fs::remove(path_ / "loss.svg", ignored);
  write_text_file(path_ / kRunRecord, record.dump(2) + "\n");
}

void RunFolder::save(const std::function<void(const fs::path&)>& write) {
  StagedFolder staged(path_, Replaces::any_kind, replaces() ? nullptr : &*lock_);
  write(staged.path());
  staged.commit();
}

void RunFolder::finish() {
  if (!replaces()) return;
  {
    StagedFolder staged(result_, Replaces::any_kind, &*lock_);
    for (const auto& entry : fs::recursive_directory_iterator(path_)) {
      if (!entry.is_regular_file() || is_temporary(entry.path())) continue;
      const fs::path to = staged.path() / entry.path().lexically_relative(path_);
      make_directory(to.parent_path());
      std::error_code failure;
      fs::create_hard_link(entry.path(), to, failure);
      if (failure) fs::copy_file(entry.path(), to);
    }
    replace_run_files(staged, result_);
    staged.commit();
  }
  fs::remove_all(path_);
  path_ = result_;
}

void RunFolder::remove_checkpoint() const {
  std::error_code ignored;
  fs::remove(checkpoint() / deltatune::detail::kCheckpointFile, ignored);
  fs::remove(checkpoint(), ignored);  // where it is empty now
}

}  // namespace deltatune::cli
