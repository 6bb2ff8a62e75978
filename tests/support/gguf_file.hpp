// A GGUF file read back, as its format is described (io/gguf_writer.hpp): strings, numbers and float tensors.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/half.hpp"
#include "deltatune/core/shape.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune::test {

struct GgufFile {
  struct Tensor {
    Shape shape;  // outermost first
    std::vector<float> values;
    float at(Index i, Index j) const { return values.at(static_cast<std::size_t>(i * shape.at(1) + j)); }
  };
  std::map<std::string, std::string> texts;
  std::map<std::string, float> floats;
  std::map<std::string, std::uint32_t> numbers;
  std::map<std::string, Tensor> tensors;

  explicit GgufFile(const std::filesystem::path& path) : bytes_(content_of(path)) {
    if (take(4) != "GGUF" || number<std::uint32_t>() != 3) throw std::runtime_error("no GGUF of version 3");
    const auto tensor_count = number<std::uint64_t>(), settings = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < settings; ++i) {
      const std::string key = text();
      switch (number<std::uint32_t>()) {
        case 4:
          numbers[key] = number<std::uint32_t>();
          break;
        case 6:
          floats[key] = number<float>();
          break;
        case 8:
          texts[key] = text();
          break;
        default:
          throw std::runtime_error("a setting of another type: " + key);
      }
    }
    struct Place {
      std::uint32_t type;
      std::uint64_t offset;
    };
    std::map<std::string, Place> places;
    for (std::uint64_t i = 0; i < tensor_count; ++i) {
      const std::string name = text();
      Shape shape(number<std::uint32_t>());
      for (std::size_t d = shape.size(); d-- > 0;) shape[d] = static_cast<Index>(number<std::uint64_t>());
      tensors[name].shape = shape;
      const auto type = number<std::uint32_t>();
      places[name] = {type, number<std::uint64_t>()};
    }
    const std::size_t data = (at_ + 31) / 32 * 32;
    for (auto& [name, tensor] : tensors) {
      if (places.at(name).offset % 32 != 0) throw std::runtime_error("not aligned: " + name);
      at_ = data + places.at(name).offset;
      for (Index i = 0; i < element_count(tensor.shape); ++i)
        tensor.values.push_back(places.at(name).type == 1 ? half_to_float(number<std::uint16_t>()) : number<float>());
    }
  }

 private:
  std::string take(std::size_t size) {
    if (at_ + size > bytes_.size()) throw std::runtime_error("the file is cut off");
    return bytes_.substr(std::exchange(at_, at_ + size), size);
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string text() { return take(number<std::uint64_t>()); }

  std::string bytes_;
  std::size_t at_ = 0;
};

}  // namespace deltatune::test
