// Tensors that a file holds in place of parameters, where a method is written in another form than it is trained in.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "deltatune/core/shape.hpp"

namespace deltatune {

struct FileTensor {
  Shape shape;
  std::vector<float> values;
};

// By the path of the parameter.
using FileTensors = std::map<std::string, FileTensor>;

}  // namespace deltatune
