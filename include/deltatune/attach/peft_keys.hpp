// Keys of PEFT's files as other tools leave them, and as PEFT writes them.
//
//   _orig_mod. (torch.compile), module. (DDP, accelerate), _fsdp_wrapped_module., _checkpoint_wrapped_module.   in front or inside
//   base_model.model. twice, or not at all;  model. of a wrapper;  with and without bert. or transformer.
//   lora_A.default.weight, modules_to_save.default.weight: a state dict with the adapter's name in it
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/attach/save_adapter.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/tensor_file.hpp"
#include "deltatune/seam/architecture.hpp"

namespace deltatune::detail {

// A key without what wrappers add: the path in the model, and what the adapter's name was if it was in it.
struct PeftKey {
  std::string path = {};     // "bert.encoder.layer.0.attention.self.query.lora_A.weight", "classifier.weight", "vera_A"
  std::string adapter = {};  // "default", or empty

  DELTATUNE_FUNCTION static PeftKey of(const std::string& key) {
    std::vector<std::string> parts;
    for (std::size_t first = 0; first <= key.size();) {
      const std::size_t last = std::min(key.find('.', first), key.size());
      const std::string part = key.substr(first, last - first);
      const bool leads = parts.empty() && (part == "module" || part == "base_model" || part == "model");
      if (!leads && part != "_orig_mod" && part != "_fsdp_wrapped_module" && part != "_checkpoint_wrapped_module") parts.push_back(part);
      first = last + 1;
    }
    PeftKey result;
    const auto is_value = [](const std::string& part) { return part == "weight" || part == "bias"; };
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::string& part = parts[i];
      const bool names_adapter = i + 1 < parts.size() && !is_value(parts[i + 1]);
      if (part != "modules_to_save" || !names_adapter) result.path += (result.path.empty() ? "" : ".") + part;
      if (names_adapter && (part == "modules_to_save" || holds_values(part))) result.adapter = parts[++i];
      if (part == "lora_magnitude_vector") break;  // a vector in files, a module with a weight in memory
    }
    return result;
  }

 private:
  static bool holds_values(const std::string& part) {
    constexpr std::array<std::string_view, 13> kParts{"lora_A",
                                                      "lora_B",
                                                      "lora_E",
                                                      "lora_embedding_A",
                                                      "lora_embedding_B",
                                                      "lora_magnitude_vector",
                                                      "ln_tuning_layers",
                                                      "ia3_l",
                                                      "miss_block",
                                                      "vera_lambda_b",
                                                      "vera_lambda_d",
                                                      "vera_A",
                                                      "vera_B"};
    return std::find(kParts.begin(), kParts.end(), part) != kParts.end();
  }
};

// "bert." of a model whose paths begin so, else "".
template <class Model>
std::string base_prefix(Model& model) {
  const std::string& path = model.input().path;
  return path.substr(0, path.rfind('.') + 1);
}

// A path of the file as one of the model, which has the family's prefix ("bert.") or none.
DELTATUNE_FUNCTION std::string with_model_prefix(const std::string& path, const Architecture& architecture, const std::string& prefix) {
  const std::string bare = architecture.without_prefix(path);
  return bare != path || architecture.is_base(bare) ? prefix + bare : path;
}

// Gives the tensors of a file the keys that PEFT writes for this model. prefix: of the model's paths, "bert." or "". bare: of a method at the input, whose
// keys have base_model. and not base_model.model. Returns what to say about it, or nothing. Throws Error where the file holds several adapters.
DELTATUNE_FUNCTION std::string use_peft_keys(TensorFile& file, const std::string& in_file, const Architecture& architecture, const std::string& prefix,
                                             bool bare) {
  std::set<std::string> adapters;
  for (const auto& [key, tensor] : file.tensors())
    if (const std::string adapter = PeftKey::of(key).adapter; !adapter.empty()) adapters.insert(adapter);
  if (adapters.size() > 1) {
    std::string names;
    for (const std::string& adapter : adapters) names += (names.empty() ? "" : ", ") + adapter;
    throw Error(in_file, "holds several adapters",
                {.expected = "one", .got = names, .remedy = "save one of them: save_pretrained(folder, selected_adapters=[NAME])"});
  }
  std::set<std::string> as_written;
  for (const auto& [key, tensor] : file.tensors()) as_written.insert(key);
  std::string note;
  file.rename([&](const std::string& key) {
    const std::string path = with_model_prefix(PeftKey::of(key).path, architecture, prefix);
    if (bare && path.find(".prefix_gate.") != std::string::npos) return key;  // PEFT has no gates: they have this library's names
    const bool is_rows = path.ends_with("prompt_embeddings"), of_model = path != "vera_A" && path != "vera_B";
    const std::string name = is_rows ? path : std::string(bare || !of_model ? "base_model." : kPeftPrefix) + path;
    if (name == key || as_written.contains(name)) return key;  // a copy under a second key stays what it is
    if (note.empty()) note = in_file + ": keys such as " + key + " are read as " + name;
    return name;
  });
  return note;
}

}  // namespace deltatune::detail
