// Whatever the bytes: either an Error, or every tensor can be read.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "deltatune/io/safetensors.hpp"

namespace {

void read(const deltatune::TensorInfo& tensor) {
  try {
    deltatune::read_integers(tensor);
  } catch (const deltatune::Error&) {
  }
  try {
    std::vector<float> floats(tensor.bytes.size() / static_cast<std::size_t>(deltatune::size_of(tensor.dtype)));
    deltatune::read_floats<float>(tensor, floats);
  } catch (const deltatune::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto file = deltatune::SafeTensors::parse(std::as_bytes(std::span(data, size)), "input");
    for (const auto& [name, tensor] : file.tensors()) read(tensor);
  } catch (const deltatune::Error&) {
  }
  return 0;
}
