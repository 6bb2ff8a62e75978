// Tensors as they stand in a file of any format: what they are, and their numbers.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/half.hpp"
#include "deltatune/core/shape.hpp"

namespace deltatune {

static_assert(std::endian::native == std::endian::little, "tensors in files are little-endian and read in place");

enum class DType { F64, F32, F16, BF16, F8_E5M2, F8_E4M3, I64, I32, I16, I8, U64, U32, U16, U8, BOOL };

namespace detail {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  Index size;
};

inline constexpr DTypeRow kDTypes[] = {
    {DType::F64, "F64", 8},         {DType::F32, "F32", 4}, {DType::F16, "F16", 2}, {DType::BF16, "BF16", 2}, {DType::F8_E5M2, "F8_E5M2", 1},
    {DType::F8_E4M3, "F8_E4M3", 1}, {DType::I64, "I64", 8}, {DType::I32, "I32", 4}, {DType::I16, "I16", 2},   {DType::I8, "I8", 1},
    {DType::U64, "U64", 8},         {DType::U32, "U32", 4}, {DType::U16, "U16", 2}, {DType::U8, "U8", 1},     {DType::BOOL, "BOOL", 1},
};

}  // namespace detail

// Bytes of one element.
constexpr Index size_of(DType dtype) { return detail::kDTypes[static_cast<std::size_t>(dtype)].size; }

// As it stands in a file: "F32".
constexpr std::string_view to_string(DType dtype) { return detail::kDTypes[static_cast<std::size_t>(dtype)].name; }

namespace detail {

// Bytes of a whole tensor; `where` is for the message.
DELTATUNE_FUNCTION Index byte_count(const std::string& where, DType dtype, const Shape& shape) {
  Index bytes = size_of(dtype);
  for (const Index extent : shape) {
    if (extent < 0) throw Error(where + ": shape", "is negative", {.got = to_string(shape)});
    if (extent != 0 && bytes > std::numeric_limits<Index>::max() / extent) {
      throw Error(where + ": shape", "has too many elements for 64 bits", {.got = to_string(shape)});
    }
    bytes *= extent;
  }
  return bytes;
}

}  // namespace detail

struct TensorInfo {
  std::string name;
  DType dtype = DType::F32;
  Shape shape;
  std::span<const std::byte> bytes;  // in the file's memory, at any alignment; row-major
  std::string file;

  // Some elements in the order of the file, as a tensor of rank 1.
  DELTATUNE_FUNCTION TensorInfo part(Index first, Index count) const {
    TensorInfo result{name, dtype, {count}, {}, file};
    const std::size_t size = static_cast<std::size_t>(size_of(dtype));
    result.bytes = bytes.subspan(static_cast<std::size_t>(first) * size, static_cast<std::size_t>(count) * size);
    return result;
  }
};

// The tensors of one file, by name. Spans stay valid while the object, or the one it was moved to, lives.
class TensorTable {
 public:
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }

  // Null when there is no such tensor.
  const TensorInfo* find(std::string_view name) const {
    const auto tensor = tensors_.find(std::string(name));
    return tensor == tensors_.end() ? nullptr : &tensor->second;
  }

  const TensorInfo& at(std::string_view name) const {
    const TensorInfo* const tensor = find(name);
    if (tensor == nullptr) throw Error(name_, "has no tensor \"" + std::string(name) + "\"");
    return *tensor;
  }

  // The tensors under other names from now on; messages keep those of the file. Throws Error where two of them become one.
  void rename(const std::function<std::string(const std::string&)>& name_of) {
    std::map<std::string, TensorInfo> renamed;
    for (const auto& [name, tensor] : tensors_) {
      const auto [place, is_new] = renamed.emplace(name_of(name), tensor);
      if (!is_new) throw Error(name_ + ": " + name, "occurs twice, under two names", {.got = place->second.name});
    }
    tensors_ = std::move(renamed);
  }

 protected:
  explicit TensorTable(std::string name) : name_(std::move(name)) {}
  TensorTable(TensorTable&&) = default;  // moves with the class that owns the bytes, never without it
  TensorTable& operator=(TensorTable&&) = default;
  ~TensorTable() = default;

  std::string name_;  // of the file, for messages
  std::map<std::string, TensorInfo> tensors_;
};

namespace detail {

// Elements of any alignment, one after another, each through `convert`.
template <class Stored, class T, class Convert>
void read_elements(std::span<const std::byte> bytes, std::span<T> out, Convert convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored element;
    std::memcpy(&element, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<T>(convert(element));
  }
}

inline std::string place_of(const TensorInfo& tensor) { return tensor.file + ": " + tensor.name; }

}  // namespace detail

// Values of a floating-point tensor in the precision of T.
template <std::floating_point T>
void read_floats(const TensorInfo& tensor, std::span<T> out) {
  if (static_cast<Index>(out.size()) != element_count(tensor.shape)) {
    throw Error(detail::place_of(tensor), "wrong number of elements",
                {.expected = std::to_string(out.size()), .got = std::to_string(element_count(tensor.shape)) + ", shape " + to_string(tensor.shape)});
  }
  switch (tensor.dtype) {
    case DType::F64:
      return detail::read_elements<double>(tensor.bytes, out, [](double value) { return value; });
    case DType::F32:
      return detail::read_elements<float>(tensor.bytes, out, [](float value) { return value; });
    case DType::F16:
      return detail::read_elements<std::uint16_t>(tensor.bytes, out, half_to_float);
    case DType::BF16:
      return detail::read_elements<std::uint16_t>(tensor.bytes, out, bfloat16_to_float);
    default:
      throw Error(detail::place_of(tensor), "wrong dtype",
                  {.expected = "a floating-point tensor (F64, F32, F16 or BF16)", .got = std::string(to_string(tensor.dtype))});
  }
}

// Values of an integer tensor; BOOL gives 0 and 1.
DELTATUNE_FUNCTION std::vector<std::int64_t> read_integers(const TensorInfo& tensor) {
  std::vector<std::int64_t> values(tensor.bytes.size() / static_cast<std::size_t>(size_of(tensor.dtype)));
  const std::span out(values);
  const auto same = [](auto value) { return value; };
  switch (tensor.dtype) {
    case DType::I64:
      detail::read_elements<std::int64_t>(tensor.bytes, out, same);
      break;
    case DType::I32:
      detail::read_elements<std::int32_t>(tensor.bytes, out, same);
      break;
    case DType::I16:
      detail::read_elements<std::int16_t>(tensor.bytes, out, same);
      break;
    case DType::I8:
      detail::read_elements<std::int8_t>(tensor.bytes, out, same);
      break;
    case DType::U8:
      detail::read_elements<std::uint8_t>(tensor.bytes, out, same);
      break;
    case DType::BOOL:
      detail::read_elements<std::uint8_t>(tensor.bytes, out, [](std::uint8_t value) { return value != 0; });
      break;
    default:
      throw Error(detail::place_of(tensor), "wrong dtype",
                  {.expected = "an integer tensor (I64, I32, I16, I8, U8 or BOOL)", .got = std::string(to_string(tensor.dtype))});
  }
  return values;
}

}  // namespace deltatune
