// The weights of a model that a test makes up.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deltatune/core/random.hpp"
#include "deltatune/io/safetensors.hpp"

namespace deltatune::test {

// Normal numbers, of a stream of its own for each tensor.
class RandomTensors {
 public:
  void add(const std::string& name, const Shape& shape, float mean, double spread) {
    std::vector<float> values;
    const RandomKey key = derive(1, stream_++);
    for (Index i = 0; i < element_count(shape); ++i) values.push_back(mean + static_cast<float>(spread * normal(key, static_cast<std::uint64_t>(i))));
    writer_.add_copy(name, shape, values);
  }
  void write(const std::filesystem::path& path) { writer_.write(path); }

 private:
  SafeTensorsWriter writer_;
  std::uint64_t stream_ = 0;
};

}  // namespace deltatune::test
