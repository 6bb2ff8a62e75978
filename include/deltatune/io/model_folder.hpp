// A folder of two files that belong together: tensors and the JSON that says what they are. Both appear, or neither.
#pragma once

#include <filesystem>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/io/staged_folder.hpp"

namespace deltatune {

DELTATUNE_FUNCTION void write_model_folder(const std::filesystem::path& folder, const char* tensors_name, const SafeTensorsWriter& tensors,
                                           const char* config_name, std::string_view config) {
  StagedFolder staged(folder);
  tensors.write(staged.path() / tensors_name);
  write_text_file(staged.path() / config_name, config);
  staged.commit();
}

}  // namespace deltatune
