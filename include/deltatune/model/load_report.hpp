// What happened to each tensor when a checkpoint was loaded.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace deltatune {

struct LoadReport {
  std::map<std::string, std::string> names;  // parameter path -> its name in the file, for those that were read
  std::vector<std::string> initialised;      // parameters of the head that the file does not hold, drawn at random
  std::vector<std::string> left_out;         // tensors of the file that this model does not use: another head, buffers
};

}  // namespace deltatune
