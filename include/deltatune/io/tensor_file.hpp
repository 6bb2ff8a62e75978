// A file of named tensors: safetensors, or whatever torch.save has written when its name does not end in .safetensors.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "deltatune/io/safetensors.hpp"
#include "deltatune/io/tensor_info.hpp"
#include "deltatune/io/torch_file.hpp"

namespace deltatune {

class TensorFile {
 public:
  static TensorFile open(const std::filesystem::path& path) {
    if (path.extension() == ".safetensors") return TensorFile(SafeTensors::open(path));
    return TensorFile(TorchFile::open(path));
  }

  const std::map<std::string, TensorInfo>& tensors() const { return table().tensors(); }
  const TensorInfo* find(std::string_view name) const { return table().find(name); }  // null when there is no such tensor
  const TensorInfo& at(std::string_view name) const { return table().at(name); }
  void rename(const std::function<std::string(const std::string&)>& name_of) {
    std::visit([&](TensorTable& table) { table.rename(name_of); }, file_);
  }

 private:
  using File = std::variant<SafeTensors, TorchFile>;

  explicit TensorFile(File file) : file_(std::move(file)) {}

  const TensorTable& table() const {
    return std::visit([](const TensorTable& table) -> const TensorTable& { return table; }, file_);
  }

  File file_;
};

}  // namespace deltatune
