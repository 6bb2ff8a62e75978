// A model folder as Hugging Face Transformers saves it: config.json beside model.safetensors,
// or beside model.safetensors.index.json and the shards that it names.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/hash.hpp"
#include "deltatune/io/folder_remedy.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/safetensors.hpp"

namespace deltatune {

class HfCheckpoint {
 public:
  DELTATUNE_FUNCTION static HfCheckpoint open(const std::filesystem::path& folder) {
    check_folder(folder);
    HfCheckpoint checkpoint(folder, JsonConfig::open(folder / "config.json"));
    if (std::filesystem::exists(folder / kSingleFile)) {
      checkpoint.add_file(folder / kSingleFile);
    } else {
      checkpoint.add_shards(JsonConfig::open(folder / kIndexFile));
    }
    return checkpoint;
  }

  const JsonConfig& config() const { return config_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const std::filesystem::path& folder() const { return folder_; }

  // Of the names, types, shapes and bytes of all tensors, however they are spread over files.
  DELTATUNE_FUNCTION std::string content_hash() const {
    ContentHash hash;
    for (const auto& [name, tensor] : tensors_) {
      hash.add(name + " " + std::string(to_string(tensor.dtype)) + " " + to_string(tensor.shape) + "\n");
      hash.add(tensor.bytes);
      forget(tensor);
    }
    return hash.text();
  }

  // Lets go of the memory of a tensor that has been read.
  void forget(const TensorInfo& tensor) const {
    for (const SafeTensors& file : files_)
      if (file.find(tensor.name) != nullptr) file.forget(tensor);
  }

 private:
  static constexpr const char* kSingleFile = "model.safetensors";
  static constexpr const char* kIndexFile = "model.safetensors.index.json";

  HfCheckpoint(std::filesystem::path folder, JsonConfig config) : folder_(std::move(folder)), config_(std::move(config)) {}

  DELTATUNE_FUNCTION static void check_folder(const std::filesystem::path& folder) {
    const auto has = [&folder](const char* file) { return std::filesystem::exists(folder / file); };
    const std::string place = folder.string();
    if (!std::filesystem::exists(folder)) {
      throw Error(place, "no such folder", {.expected = "a Hugging Face model folder", .remedy = missing_folder_remedy(folder)});
    }
    if (!std::filesystem::is_directory(folder)) {
      throw Error(place, "is not a folder", {.expected = "the folder that holds config.json and model.safetensors"});
    }
    if (!has("config.json")) {
      const std::string below = folder_above_remedy(folder, "config.json");
      throw Error(place, "has no config.json",
                  {.expected = "a Hugging Face model folder",
                   .remedy = has("adapter_config.json") ? "this is an adapter: give the folder of its base model here"
                             : below.empty()            ? "give the folder that holds config.json and model.safetensors"
                                                        : below});
    }
    if (!has(kSingleFile) && !has(kIndexFile)) {
      const bool pickled = has("pytorch_model.bin") || has("pytorch_model.bin.index.json");
      throw Error(place, pickled ? "holds its weights as pytorch_model.bin only" : "has no weights",
                  {.expected = std::string(kSingleFile) + " or " + kIndexFile,
                   .remedy = pickled ? "convert them: load the model with Transformers in Python and call save_pretrained(folder, "
                                       "safe_serialization=True)"
                                     : "is the download complete?"});
    }
  }

  DELTATUNE_FUNCTION void add_file(const std::filesystem::path& path) {
    files_.push_back(SafeTensors::open(path));
    for (const auto& [name, tensor] : files_.back().tensors()) {
      const auto [place, is_new] = tensors_.emplace(name, tensor);
      if (!is_new) throw Error(tensor.file + ": " + name, "stands in another shard too: " + place->second.file);
    }
  }

  DELTATUNE_FUNCTION void add_shards(const JsonConfig& index) {
    const JsonConfig weight_map = index.object("weight_map");
    std::set<std::string> shards;
    for (const auto& [name, unused] : weight_map.raw().items()) shards.insert(shard_of(weight_map, name));
    for (const std::string& shard : shards) {
      if (!std::filesystem::exists(folder_ / shard)) {
        throw Error((folder_ / shard).string(), "is missing", {.expected = "all shards named by " + index.name(), .remedy = "is the download complete?"});
      }
      add_file(folder_ / shard);
    }
    for (const auto& [name, unused] : weight_map.raw().items()) {
      const std::string shard = (folder_ / shard_of(weight_map, name)).string();
      const auto tensor = tensors_.find(name);
      if (tensor == tensors_.end() || tensor->second.file != shard) {
        throw Error(weight_map.name() + ": " + name, "the tensor is not in its shard",
                    {.expected = "it in " + shard, .got = tensor == tensors_.end() ? "it in no shard" : "it in " + tensor->second.file});
      }
    }
  }

  // Shards lie beside the index: a name with folders in it could lead anywhere.
  DELTATUNE_FUNCTION static std::string shard_of(const JsonConfig& weight_map, const std::string& name) {
    std::string shard = weight_map.get<std::string>(name);
    if (shard.empty() || shard == "." || shard == ".." || shard.find('/') != std::string::npos) {
      throw Error(weight_map.name() + ": " + name, "wrong shard", {.expected = "the name of a file in the same folder", .got = "\"" + shard + "\""});
    }
    return shard;
  }

  std::filesystem::path folder_;
  JsonConfig config_;
  std::vector<SafeTensors> files_;
  std::map<std::string, TensorInfo> tensors_;
};

}  // namespace deltatune
