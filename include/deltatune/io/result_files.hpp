// The files of a result in a folder - an adapter, a model - told apart from whatever else lies there.
#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>

#include "deltatune/core/config.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/parse_json.hpp"

namespace deltatune {

namespace detail {

// As PEFT, AdapterHub and this library write them.
inline constexpr std::array kAdapterFiles{"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin",      "adapter.safetensors",
                                          "pytorch_adapter.bin", "model_head.safetensors",    "pytorch_model_head.bin", "head_config.json"};
inline constexpr std::array kWeightFiles{"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"};
inline constexpr std::array kTokenizerFiles{
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "sentencepiece.bpe.model", "added_tokens.json", "vocab.txt",
    "vocab.json",     "tokenizer.model",       "chat_template.jinja",     "chat_template.json",      "spiece.model",      "spm.model",
    "merges.txt"};
inline constexpr std::array kModelFiles{"config.json", "generation_config.json"};  // and kTokenizerFiles
// What a run of the program adds.
inline constexpr std::array kRunFiles{"adapters.json", "labels.json", "run.json"};
inline constexpr const char* kMoreChatTemplates = "additional_chat_templates";  // folder

DELTATUNE_FUNCTION bool is_shard(std::string_view name) {
  return (name.starts_with("model-") && name.ends_with(".safetensors")) || (name.starts_with("pytorch_model-") && name.ends_with(".bin"));
}

template <class Names>
bool holds_one_of(const std::filesystem::path& folder, const Names& names) {
  return std::any_of(names.begin(), names.end(), [&folder](const char* name) { return std::filesystem::exists(folder / name); });
}

}  // namespace detail

// The files without which a reader takes the folder for nothing: the last to appear and the first to go.
DELTATUNE_FUNCTION bool is_result_marker(const std::filesystem::path& file) {
  return file.filename() == "adapter_config.json" || file.filename() == "config.json" || file.filename() == "adapters.json";
}

DELTATUNE_FUNCTION bool holds_model(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "config.json") && detail::holds_one_of(folder, detail::kWeightFiles);
}

// The name of a file that makes the folder a result; empty where there is none.
DELTATUNE_FUNCTION std::string result_in(const std::filesystem::path& folder) {
  for (const char* const name : {"adapters.json", "adapter_config.json"})
    if (std::filesystem::exists(folder / name)) return name;
  return holds_model(folder) ? "config.json" : "";
}

// The folders of several methods, which adapters.json lists.
DELTATUNE_FUNCTION std::set<std::filesystem::path> adapter_parts(const std::filesystem::path& folder) {
  std::set<std::filesystem::path> parts;
  nlohmann::json names;
  try {
    const nlohmann::json list = parse_json(MappedFile(folder / "adapters.json").text(), "adapters.json");
    if (list.is_object()) names = list.value("adapters", nlohmann::json::array());
  } catch (const Error&) {  // no list, or one that names nothing
  }
  for (const nlohmann::json& name : names) {
    const std::filesystem::path part = name.is_string() ? name.get<std::string>() : std::string();
    if (!part.empty() && part == part.filename() && part != "." && part != "..") parts.insert(part);  // nothing outside the folder
  }
  return parts;
}

// Those of an adapter, relative to the folder, and what a run of the program adds to it.
DELTATUNE_FUNCTION std::set<std::filesystem::path> adapter_files(const std::filesystem::path& folder) {
  std::set<std::filesystem::path> files;
  std::set<std::filesystem::path> places = adapter_parts(folder);
  places.insert("");
  for (const std::filesystem::path& place : places) {
    for (const char* const name : detail::kAdapterFiles)
      if (std::filesystem::exists(folder / place / name)) files.insert(place / name);
    for (const char* const name : detail::kRunFiles)
      if (std::filesystem::exists(folder / place / name)) files.insert(place / name);
  }
  return files;
}

// Those of a tokenizer, its chat templates included, relative to the folder.
DELTATUNE_FUNCTION std::set<std::filesystem::path> tokenizer_files(const std::filesystem::path& folder) {
  std::set<std::filesystem::path> files;
  for (const char* const name : detail::kTokenizerFiles)
    if (std::filesystem::exists(folder / name)) files.insert(name);
  const std::filesystem::path more = folder / detail::kMoreChatTemplates;
  if (!std::filesystem::is_directory(more)) return files;
  for (const auto& entry : std::filesystem::directory_iterator(more))
    if (entry.path().extension() == ".jinja") files.insert(std::filesystem::path(detail::kMoreChatTemplates) / entry.path().filename());
  return files;
}

// Those of a whole model. A config.json alone may be anybody's.
DELTATUNE_FUNCTION std::set<std::filesystem::path> model_files(const std::filesystem::path& folder) {
  std::set<std::filesystem::path> files;
  if (!holds_model(folder)) return files;
  for (const char* const name : detail::kModelFiles)
    if (std::filesystem::exists(folder / name)) files.insert(name);
  files.merge(tokenizer_files(folder));
  for (const char* const name : detail::kWeightFiles)
    if (std::filesystem::exists(folder / name)) files.insert(name);
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (detail::is_shard(entry.path().filename().string())) files.insert(entry.path().filename());
  return files;
}

// A tokenizer, file by file, from the folder of one model to another. Throws Error when a file cannot be read or written.
DELTATUNE_FUNCTION void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const std::filesystem::path& file : tokenizer_files(from)) {
    make_directory((to / file).parent_path());
    write_text_file(to / file, MappedFile(from / file).text());
  }
}

}  // namespace deltatune
