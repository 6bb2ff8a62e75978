// What to try where a folder does not hold what it should.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "deltatune/core/config.hpp"

namespace deltatune {

// For a folder that is not there: a name such as "bert-base-uncased" or "sentence-transformers/all-MiniLM-L6-v2" is one of the Hugging Face Hub.
DELTATUNE_FUNCTION std::string missing_folder_remedy(const std::filesystem::path& folder) {
  const std::string name = folder.string();
  const bool could_be_hub = !name.empty() && std::count(name.begin(), name.end(), '/') <= 1 && name.find_first_of("/.~") != 0 && !name.ends_with('/');
  if (!could_be_hub) return "check the spelling";
  return "check the spelling; nothing is downloaded here: for a name of the Hugging Face Hub run `hf download " + name +
         " --local-dir FOLDER`, and give FOLDER";
}

// For a folder without `file`: the folders in it that have one, at most two levels down. "" where there is none.
DELTATUNE_FUNCTION std::string folder_above_remedy(const std::filesystem::path& folder, const char* file) {
  std::vector<std::string> found;
  std::error_code ignored;
  const auto end = std::filesystem::recursive_directory_iterator();
  for (auto entry = std::filesystem::recursive_directory_iterator(folder, std::filesystem::directory_options::skip_permission_denied, ignored); entry != end;
       entry.increment(ignored)) {
    if (entry.depth() >= 2) entry.disable_recursion_pending();
    if (entry->path().filename() == file && entry->path().parent_path() != folder) found.push_back(entry->path().parent_path().string());
  }
  if (found.empty()) return {};
  std::sort(found.begin(), found.end());
  constexpr std::size_t kShown = 3;
  std::string text = found.size() == 1 ? "give the folder below it: " : "give one of the folders below it: ";
  for (std::size_t i = 0; i < found.size() && i < kShown; ++i) text += (i == 0 ? "" : ", ") + found[i];
  return found.size() > kShown ? text + ", ..." : text;
}

}  // namespace deltatune
