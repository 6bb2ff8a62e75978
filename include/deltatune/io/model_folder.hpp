// A folder of two files that belong together: tensors and the JSON that says what they are. Neither gets its name before both are on the disk.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/safetensors.hpp"

namespace deltatune {

DELTATUNE_FUNCTION void write_model_folder(const std::filesystem::path& folder, const char* tensors_name, const SafeTensorsWriter& tensors, const char* config_name,
                               std::string_view config) {
  make_directory(folder);
  std::vector<AtomicFile> files;
  files.emplace_back(folder / tensors_name);
  tensors.write_to(files.back());
  files.emplace_back(folder / config_name);
  files.back().write(config);
  commit_all(files);
}

}  // namespace deltatune
