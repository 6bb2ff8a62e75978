// Whatever the bytes: either an Error, or every tensor can be read.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "deltatune/io/torch_file.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

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

template <class T>
T number(std::span<const std::uint8_t> bytes, std::size_t at) {
  T value{};
  if (at < bytes.size() && bytes.size() - at >= sizeof(T)) std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// Gives every entry that the directory of a zip archive lists the checksum of its content, so that a changed content is read at all.
void mend_checksums(std::span<std::uint8_t> bytes) {
  if (bytes.size() < 22) return;
  std::size_t at = number<std::uint32_t>(bytes, bytes.size() - 6);
  while (number<std::uint32_t>(bytes, at) == 0x02014b50 && bytes.size() - at >= 46) {
    const std::size_t size = number<std::uint32_t>(bytes, at + 24);
    const std::size_t local = number<std::uint32_t>(bytes, at + 42);
    const std::size_t begin = local + 30 + number<std::uint16_t>(bytes, local + 26) + number<std::uint16_t>(bytes, local + 28);
    if (begin <= bytes.size() && size <= bytes.size() - begin) {
      const std::uint32_t crc = deltatune::detail::crc32(std::as_bytes(bytes.subspan(begin, size)));
      std::memcpy(bytes.data() + at + 16, &crc, sizeof(crc));
    }
    at += 46 + number<std::uint16_t>(bytes, at + 28) + number<std::uint16_t>(bytes, at + 30) + number<std::uint16_t>(bytes, at + 32);
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned) {
  const std::size_t changed = LLVMFuzzerMutate(data, size, max_size);
  mend_checksums({data, changed});
  return changed;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto file = deltatune::TorchFile::parse(std::as_bytes(std::span(data, size)), "input");
    for (const auto& [name, tensor] : file.tensors()) read(tensor);
  } catch (const deltatune::Error&) {
  }
  return 0;
}
