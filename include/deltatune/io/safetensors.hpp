// safetensors files, in and out: https://huggingface.co/docs/safetensors (section "Format").
//   8 bytes: header length n, little-endian | n bytes: JSON {name: {dtype, shape, data_offsets: [begin, end]}} | the data
// A file is memory-mapped and checked completely when it is opened, so that a tensor that can be named can be read.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <forward_list>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/half.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/parse_json.hpp"
#include "deltatune/io/tensor_info.hpp"

namespace deltatune {

class SafeTensors : public TensorTable {
 public:
  DELTATUNE_FUNCTION static SafeTensors open(const std::filesystem::path& path) {
    MappedFile file(path);
    SafeTensors tensors = parse(file.bytes(), path.string());
    tensors.file_ = std::move(file);
    return tensors;
  }

  // Reads from memory that the caller keeps; `name` stands for the file in messages.
  static SafeTensors parse(std::span<const std::byte> bytes, std::string name) {
    SafeTensors tensors(std::move(name));
    tensors.read(bytes);
    return tensors;
  }

  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Lets go of the memory that a tensor of this file takes; reading it again brings it back.
  void forget(const TensorInfo& tensor) const {
    if (file_) file_->forget(tensor.bytes);
  }

 private:
  static constexpr std::uint64_t kLengthBytes = 8;
  static constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

  explicit SafeTensors(std::string name) : TensorTable(std::move(name)) {}

  DELTATUNE_FUNCTION void read(std::span<const std::byte> bytes) {
    if (bytes.size() < kLengthBytes) {
      fail("not a safetensors file", {.expected = "at least 8 bytes", .got = std::to_string(bytes.size())});
    }
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), kLengthBytes);
    const std::uint64_t rest = bytes.size() - kLengthBytes;
    if (length > kMaxHeaderBytes) {
      fail("not a safetensors file: header length too large",
           {.expected = "at most " + std::to_string(kMaxHeaderBytes) + " bytes", .got = std::to_string(length)});
    }
    if (length > rest) {
      fail("header reaches beyond the end of the file: not a safetensors file, or truncated",
           {.expected = "a header of at most " + std::to_string(rest) + " bytes", .got = std::to_string(length)});
    }
    const auto header = bytes.subspan(kLengthBytes, static_cast<std::size_t>(length));
    if (header.empty() || header.front() != std::byte{'{'}) fail("not a safetensors file: the header does not begin with {");
    data_ = bytes.subspan(kLengthBytes + static_cast<std::size_t>(length));

    const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
    const nlohmann::json root = parse_json(text, name_ + ": header", DuplicateKeys::kRefused);
    for (const auto& [key, value] : root.items()) {
      if (key == "__metadata__") {
        read_metadata(value);
      } else {
        tensors_.emplace(key, read_tensor(key, value));
      }
    }
    check_layout();
  }

  DELTATUNE_FUNCTION void read_metadata(const nlohmann::json& value) {
    const std::string where = name_ + ": __metadata__";
    if (!value.is_object()) throw Error(where, "wrong type", {.expected = "an object of strings", .got = describe(value)});
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) throw Error(where + ": " + key, "wrong type", {.expected = "a string", .got = describe(text)});
      metadata_.emplace(key, text.get<std::string>());
    }
  }

  DELTATUNE_FUNCTION TensorInfo read_tensor(const std::string& name, const nlohmann::json& value) const {
    const std::string where = name_ + ": " + name;
    if (!value.is_object()) {
      throw Error(where, "wrong type", {.expected = "an object with dtype, shape and data_offsets", .got = describe(value)});
    }
    TensorInfo tensor{.name = name, .dtype = read_dtype(where, field(where, value, "dtype")), .shape = {}, .bytes = {}, .file = name_};
    const nlohmann::json& shape = field(where, value, "shape");
    if (!shape.is_array()) throw Error(where + ": shape", "wrong type", {.expected = "a list of integers", .got = describe(shape)});
    for (const auto& extent : shape) tensor.shape.push_back(read_size(where + ": shape", extent));
    const Index needed = detail::byte_count(where, tensor.dtype, tensor.shape);

    const nlohmann::json& offsets = field(where, value, "data_offsets");
    const std::string offsets_where = where + ": data_offsets";
    if (!offsets.is_array() || offsets.size() != 2) {
      throw Error(offsets_where, "wrong value", {.expected = "a list of two integers", .got = offsets.dump()});
    }
    const Index begin = read_size(offsets_where, offsets[0]);
    const Index end = read_size(offsets_where, offsets[1]);
    if (begin > end) throw Error(offsets_where, "the end lies before the beginning", {.got = offsets.dump()});
    if (static_cast<std::size_t>(end) > data_.size()) {
      throw Error(
          offsets_where, "reaches beyond the end of the file",
          {.expected = "at most " + std::to_string(data_.size()), .got = std::to_string(end), .remedy = "the file is truncated or corrupt; fetch it again"});
    }
    if (end - begin != needed) {
      throw Error(offsets_where, "the number of bytes does not fit dtype and shape",
                  {.expected = std::to_string(needed) + " for " + std::string(to_string(tensor.dtype)) + " " + to_string(tensor.shape),
                   .got = std::to_string(end - begin)});
    }
    tensor.bytes = data_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    return tensor;
  }

  static const nlohmann::json& field(const std::string& where, const nlohmann::json& object, const char* key) {
    const auto member = object.find(key);
    if (member == object.end()) throw Error(where + ": " + key, "is missing");
    return *member;
  }

  DELTATUNE_FUNCTION static DType read_dtype(const std::string& where, const nlohmann::json& value) {
    std::string known;
    for (const auto& row : detail::kDTypes) {
      if (value.is_string() && value.get_ref<const std::string&>() == row.name) return row.dtype;
      known += (known.empty() ? "" : ", ") + std::string(row.name);
    }
    throw Error(where + ": dtype", "unknown element type", {.expected = "one of " + known, .got = describe(value)});
  }

  DELTATUNE_FUNCTION static Index read_size(const std::string& where, const nlohmann::json& value) {
    constexpr std::uint64_t kLargest = std::numeric_limits<Index>::max();
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kLargest) {
      throw Error(where, "wrong value", {.expected = "an integer from 0 to 2^63-1", .got = describe(value)});
    }
    return value.get<Index>();
  }

  // The tensors must cover the data from the first byte to the last, each byte once.
  DELTATUNE_FUNCTION void check_layout() const {
    std::vector<const TensorInfo*> in_order;
    for (const auto& [name, tensor] : tensors_) in_order.push_back(&tensor);
    std::ranges::sort(in_order, {}, [this](const TensorInfo* tensor) { return std::pair(offset(*tensor), tensor->bytes.size()); });
    std::size_t covered = 0;
    const TensorInfo* previous = nullptr;
    for (const TensorInfo* const tensor : in_order) {
      if (offset(*tensor) < covered) {
        throw Error(name_ + ": " + tensor->name + ": data_offsets", "overlaps the tensor \"" + previous->name + "\"",
                    {.expected = "to begin at " + std::to_string(covered), .got = std::to_string(offset(*tensor))});
      }
      if (offset(*tensor) > covered) {
        throw Error(name_ + ": " + tensor->name + ": data_offsets", "leaves bytes before it that belong to no tensor",
                    {.expected = "to begin at " + std::to_string(covered), .got = std::to_string(offset(*tensor))});
      }
      covered += tensor->bytes.size();
      previous = tensor;
    }
    if (covered != data_.size()) {
      fail("bytes at the end belong to no tensor", {.expected = std::to_string(covered) + " bytes of data", .got = std::to_string(data_.size())});
    }
  }

  std::size_t offset(const TensorInfo& tensor) const { return static_cast<std::size_t>(tensor.bytes.data() - data_.data()); }

  [[noreturn]] void fail(const std::string& what, const ErrorDetail& detail = {}) const { throw Error(name_, what, detail); }

  std::optional<MappedFile> file_;
  std::span<const std::byte> data_;
  std::map<std::string, std::string> metadata_;
};

// Collects tensors and writes them as one file; equal input gives equal bytes.
// add() keeps a span: the values must live until write(). add_copy() keeps the values themselves.
class SafeTensorsWriter {
 public:
  void add(std::string name, Shape shape, std::span<const float> values) { put(std::move(name), DType::F32, std::move(shape), values); }
  void add(std::string name, Shape shape, std::span<const double> values) { put(std::move(name), DType::F64, std::move(shape), values); }
  void add(std::string name, Shape shape, std::span<const std::int64_t> values) { put(std::move(name), DType::I64, std::move(shape), values); }

  // As it stands in another file, whatever its dtype.
  void add(const TensorInfo& tensor) { put(tensor.name, tensor.dtype, tensor.shape, tensor.bytes); }

  // T is float, double or std::int64_t.
  template <class T>
  void add_copy(std::string name, Shape shape, const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    const auto& copy = owned_.emplace_front(bytes.begin(), bytes.end());
    add(std::move(name), std::move(shape), std::span(reinterpret_cast<const T*>(copy.data()), values.size()));
  }

  // Rounded to F16 or BF16, or as they are for any other type. Throws Error for a finite number that is too large for F16.
  DELTATUNE_FUNCTION void add_rounded(std::string name, Shape shape, const std::vector<float>& values, DType dtype) {
    if (dtype != DType::F16 && dtype != DType::BF16) return add_copy(std::move(name), std::move(shape), values);
    std::vector<std::uint16_t> rounded;
    rounded.reserve(values.size());
    for (const float value : values) {
      rounded.push_back(dtype == DType::F16 ? float_to_half(value) : float_to_bfloat16(value));
      if (dtype == DType::F16 && std::isfinite(value) && !std::isfinite(half_to_float(rounded.back())))
        throw Error(name, "holds a number that is too large for float16", {.expected = "at most 65504", .got = std::to_string(value)});
    }
    const auto bytes = std::as_bytes(std::span(rounded));
    const auto& copy = owned_.emplace_front(bytes.begin(), bytes.end());
    put(std::move(name), dtype, std::move(shape), std::span(reinterpret_cast<const std::uint16_t*>(copy.data()), values.size()));
  }

  void set_metadata(std::string key, std::string value) { metadata_.insert_or_assign(std::move(key), std::move(value)); }

  DELTATUNE_FUNCTION void write(const std::filesystem::path& path) const {
    AtomicFile file(path);
    const std::vector<const TensorInfo*> order = data_order();
    const std::string header = make_header(order);
    const std::uint64_t length = header.size();
    file.write(std::as_bytes(std::span(&length, 1)));
    file.write(header);
    for (const TensorInfo* const tensor : order) file.write(tensor->bytes);
    file.commit();
  }

 private:
  template <class T>
  void put(std::string name, DType dtype, Shape shape, std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    if (detail::byte_count(name, dtype, shape) != static_cast<Index>(bytes.size())) {
      throw Error(name, "the shape does not fit the number of values",
                  {.expected = std::to_string(static_cast<Index>(bytes.size()) / size_of(dtype)) + " elements", .got = to_string(shape)});
    }
    if (name == "__metadata__") throw Error(name, "is reserved by the safetensors format and cannot name a tensor");
    const auto [place, is_new] = tensors_.try_emplace(name);
    if (!is_new) throw Error(name, "a tensor of this name has been added already");
    place->second = TensorInfo{.name = std::move(name), .dtype = dtype, .shape = std::move(shape), .bytes = bytes, .file = {}};
  }

  // Wide elements first, then by name: each tensor is aligned to its element, which PyTorch's loader needs.
  DELTATUNE_FUNCTION std::vector<const TensorInfo*> data_order() const {
    std::vector<const TensorInfo*> order;
    for (const auto& [name, tensor] : tensors_) order.push_back(&tensor);
    std::ranges::sort(order, {}, [](const TensorInfo* tensor) { return std::pair(-size_of(tensor->dtype), std::string_view(tensor->name)); });
    return order;
  }

  DELTATUNE_FUNCTION std::string make_header(const std::vector<const TensorInfo*>& order) const {
    nlohmann::json root = nlohmann::json::object();  // keeps its keys sorted
    root["__metadata__"] = metadata_;
    std::size_t begin = 0;
    for (const TensorInfo* const tensor : order) {
      const std::size_t end = begin + tensor->bytes.size();
      root[tensor->name] = {{"dtype", to_string(tensor->dtype)}, {"shape", tensor->shape}, {"data_offsets", {begin, end}}};
      begin = end;
    }
    std::string header;
    try {
      header = root.dump();
    } catch (const nlohmann::json::exception&) {
      throw Error("safetensors", "a tensor's name or the metadata is not valid UTF-8");
    }
    constexpr std::size_t kAlignment = 8;
    header.resize((header.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
    return header;
  }

  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_{{"format", "pt"}};
  std::forward_list<std::vector<std::byte>> owned_;
};

}  // namespace deltatune
