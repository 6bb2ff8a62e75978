// GGUF files, version 3, as llama.cpp reads them: settings with types, and tensors behind them.
//
//   "GGUF", version, number of tensors, number of settings
//   a setting: key, type, value        a string: length (u64), bytes; a list: type of its entries, length (u64), entries
//   a tensor:  name, number of extents, extents (innermost first), type, offset in the data
//   zeros up to a multiple of 32, then the tensors, each of which ends in zeros up to a multiple of 32
//
// All numbers are little-endian.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/half.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/tensor_info.hpp"

namespace deltatune {

using GgufValue = std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t, float, bool, std::string, std::uint64_t,
                               std::int64_t, double, std::vector<std::uint32_t>, std::vector<std::int32_t>, std::vector<float>, std::vector<std::string>>;

namespace detail {

// The format's number for the type of a value that is no list.
template <class T>
constexpr std::uint32_t gguf_type() {
  if constexpr (std::is_same_v<T, std::uint8_t>) return 0;
  if constexpr (std::is_same_v<T, std::int8_t>) return 1;
  if constexpr (std::is_same_v<T, std::uint16_t>) return 2;
  if constexpr (std::is_same_v<T, std::int16_t>) return 3;
  if constexpr (std::is_same_v<T, std::uint32_t>) return 4;
  if constexpr (std::is_same_v<T, std::int32_t>) return 5;
  if constexpr (std::is_same_v<T, float>) return 6;
  if constexpr (std::is_same_v<T, bool>) return 7;
  if constexpr (std::is_same_v<T, std::string>) return 8;
  if constexpr (std::is_same_v<T, std::uint64_t>) return 10;
  if constexpr (std::is_same_v<T, std::int64_t>) return 11;
  if constexpr (std::is_same_v<T, double>) return 12;
}
inline constexpr std::uint32_t kGgufList = 9;

template <class T>
void put_gguf(std::string& out_io, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    put_gguf(out_io, static_cast<std::uint64_t>(value.size()));
    out_io += value;
  } else if constexpr (std::is_same_v<T, bool>) {
    out_io += value ? '\1' : '\0';
  } else {
    out_io.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
}

}  // namespace detail

// Collects settings and tensors, and writes them in the order in which they came.
class GgufWriter {
 public:
  static constexpr std::size_t kAlignment = 32;

  // Throws Error for a key that is there already.
  DELTATUNE_FUNCTION void set(const std::string& key, GgufValue value) {
    if (!keys_.insert(key).second) throw Error(key, "is set twice in a GGUF file");
    settings_.emplace_back(key, std::move(value));
  }

  // values: row-major; dtype: F32 or F16. Throws Error for a name that the format cannot hold or that is there already, for values that do not fit the
  // shape, and for a finite number that is too large for F16.
  DELTATUNE_FUNCTION void add(const std::string& name, const Shape& shape, std::span<const float> values, DType dtype) {
    constexpr std::size_t kLongest = 63, kMaxExtents = 4;
    if (name.empty() || name.size() > kLongest) throw Error(name, "cannot name a tensor of a GGUF file", {.expected = "1 to 63 bytes"});
    if (!names_.insert(name).second) throw Error(name, "a tensor of this name has been added already");
    if (shape.empty() || shape.size() > kMaxExtents || element_count(shape) != static_cast<Index>(values.size()))
      throw Error(name, "the shape does not fit the number of values",
                  {.expected = std::to_string(values.size()) + " elements in 1 to 4 extents", .got = to_string(shape)});
    if (dtype != DType::F32 && dtype != DType::F16)
      throw Error(name, "cannot be written to a GGUF file in this type", {.expected = "F32 or F16", .got = std::string(to_string(dtype))});
    Tensor tensor{name, shape, dtype, {}};
    tensor.data.reserve(padded(values.size() * static_cast<std::size_t>(size_of(dtype))));
    for (const float value : values) {
      if (dtype == DType::F32) {
        detail::put_gguf(tensor.data, value);
        continue;
      }
      const std::uint16_t half = float_to_half(value);
      if (std::isfinite(value) && !std::isfinite(half_to_float(half)))
        throw Error(name, "holds a number that is too large for float16", {.expected = "at most 65504", .got = std::to_string(value)});
      detail::put_gguf(tensor.data, half);
    }
    tensor.data.resize(padded(tensor.data.size()), '\0');
    tensors_.push_back(std::move(tensor));
  }

  // Throws Error when the file cannot be written; then an older one stays as it was.
  DELTATUNE_FUNCTION void write(const std::filesystem::path& path) const {
    AtomicFile file(path);
    file.write(header());
    for (const Tensor& tensor : tensors_) file.write(tensor.data);
    file.commit();
  }

 private:
  struct Tensor {
    std::string name;
    Shape shape;
    DType dtype;
    std::string data;  // with the zeros behind it
  };

  static constexpr std::size_t padded(std::size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

  DELTATUNE_FUNCTION std::string header() const {
    std::string text = "GGUF";
    detail::put_gguf(text, std::uint32_t{3});
    detail::put_gguf(text, static_cast<std::uint64_t>(tensors_.size()));
    detail::put_gguf(text, static_cast<std::uint64_t>(settings_.size()));
    for (const auto& [key, value] : settings_) {
      detail::put_gguf(text, key);
      std::visit(
          [&text]<class T>(const T& held) {
            if constexpr (requires { typename T::value_type; } && !std::is_same_v<T, std::string>) {
              detail::put_gguf(text, detail::kGgufList);
              detail::put_gguf(text, detail::gguf_type<typename T::value_type>());
              detail::put_gguf(text, static_cast<std::uint64_t>(held.size()));
              for (const auto& entry : held) detail::put_gguf(text, entry);
            } else {
              detail::put_gguf(text, detail::gguf_type<T>());
              detail::put_gguf(text, held);
            }
          },
          value);
    }
    std::uint64_t offset = 0;
    for (const Tensor& tensor : tensors_) {
      detail::put_gguf(text, tensor.name);
      detail::put_gguf(text, static_cast<std::uint32_t>(tensor.shape.size()));
      for (std::size_t i = tensor.shape.size(); i-- > 0;) detail::put_gguf(text, static_cast<std::uint64_t>(tensor.shape[i]));
      detail::put_gguf(text, std::uint32_t{tensor.dtype == DType::F16 ? 1U : 0U});
      detail::put_gguf(text, offset);
      offset += tensor.data.size();
    }
    text.resize(padded(text.size()), '\0');
    return text;
  }

  std::vector<std::pair<std::string, GgufValue>> settings_;
  std::vector<Tensor> tensors_;
  std::set<std::string> keys_, names_;
};

}  // namespace deltatune
