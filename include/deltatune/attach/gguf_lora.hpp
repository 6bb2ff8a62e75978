// A LoRA in PEFT's folder as one GGUF file, which llama.cpp loads beside a GGUF of the base model (--lora FILE). Needs deltatune::regex.
//
//   lora_A (r, in), lora_B (out, r)                       NAME.weight.lora_a (r, in), NAME.weight.lora_b (out, r)
//   lora_embedding_A (r, V), lora_embedding_B (C, r)      token_embd.weight.lora_a (V, r), token_embd.weight.lora_b (C, r)
//
// llama.cpp scales each pair by alpha / r, with the one adapter.lora.alpha of the file. PEFT scales by alpha / r or alpha / √r, with an alpha and an r for
// each site: where that is another number, lora_b is multiplied by the ratio of the two.
#pragma once

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/attach/peft_format.hpp"
#include "deltatune/attach/peft_keys.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/io/gguf_names.hpp"
#include "deltatune/io/gguf_writer.hpp"
#include "deltatune/io/hf_checkpoint.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

// What a GGUF file of an adapter holds.
struct GgufLora {
  std::string architecture;  // as llama.cpp names it
  float alpha = 0;
  Index pairs = 0;
  Index rescaled = 0;              // pairs whose lora_b carries a factor
  std::vector<std::string> notes;  // settings of the folder that have no effect
};

namespace detail {

// A folder's plan, where it is a LoRA that a GGUF file can hold.
DELTATUNE_FUNCTION LoraPlan plan_for_gguf(const std::filesystem::path& folder) {
  const std::string remedy = "turn it into a plain LoRA first: deltatune convert --to lora";
  const JsonConfig json = JsonConfig::open(folder / "adapter_config.json");
  const std::string type = json.get_or<std::string>("peft_type", "none, an adapter of another library");
  if (type != LoraPlan::kPeftType)
    throw Error(json.name() + ": peft_type", "cannot be held by a GGUF adapter", {.expected = "LORA", .got = type, .remedy = remedy});
  const LoraPlan plan = read_plan<LoraPlan>(json);
  if (plan.dora) throw Error(json.name() + ": use_dora", "cannot be held by a GGUF adapter: it has no magnitudes", {.expected = "false", .remedy = remedy});
  if (plan.start)
    throw Error(json.name() + ": init_lora_weights", "changes the base weights, which a GGUF adapter cannot do",
                {.expected = "a LoRA of the base", .remedy = remedy});
  return plan;
}

inline constexpr const char* kBaseCopy = ".base_layer.weight";

struct LoraPair {
  std::string site;  // the path that patterns are matched with
  const TensorInfo *a = nullptr, *b = nullptr;
  bool embedding = false;
};

// The pairs of a file, by site. Throws Error for a tensor that is no half of a pair.
DELTATUNE_FUNCTION std::vector<LoraPair> lora_pairs(const TensorFile& file, const std::string& in_file) {
  std::map<std::string, LoraPair> pairs;
  for (const auto& entry : file.tensors()) {
    const std::string &key = entry.first, path = PeftKey::of(key).path;
    const TensorInfo& tensor = entry.second;
    const auto belongs = [&](const std::string& end, const TensorInfo* LoraPair::*half, bool embedding) {
      if (!path.ends_with(end)) return false;
      LoraPair& pair = pairs[path.substr(0, path.size() - end.size())];
      if (pair.*half != nullptr) throw Error(in_file + ": " + key, "occurs twice, under two names", {.got = (pair.*half)->name});
      pair.*half = &tensor;
      pair.embedding = embedding;
      const std::string written = key.starts_with(kPeftPrefix) ? key.substr(std::string(kPeftPrefix).size()) : path;
      pair.site = written.ends_with(end) ? written.substr(0, written.size() - end.size()) : path.substr(0, path.size() - end.size());
      return true;
    };
    if (belongs(".lora_A.weight", &LoraPair::a, false) || belongs(".lora_B.weight", &LoraPair::b, false) || belongs(".lora_embedding_A", &LoraPair::a, true) ||
        belongs(".lora_embedding_B", &LoraPair::b, true))
      continue;
    if (path.ends_with(kBaseCopy)) continue;  // PEFT saves tables that have a LoRA; check_base_copies()
    const bool is_bias = key.ends_with(".lora_B.bias"), is_magnitude = key.find("lora_magnitude_vector") != std::string::npos;
    throw Error(in_file + ": " + key, "cannot be held by a GGUF adapter",
                {.expected = "pairs of lora_A and lora_B alone",
                 .got = is_bias        ? "a bias of LoRA"
                        : is_magnitude ? "the magnitudes of a DoRA"
                                       : "a parameter of the model, which was trained or saved whole",
                 .remedy = is_magnitude ? "turn it into a plain LoRA first: deltatune convert --to lora" : "merge the adapter, and convert the merged model"});
  }
  std::vector<LoraPair> found;
  for (const auto& [path, pair] : pairs) {
    if (pair.a == nullptr || pair.b == nullptr)
      throw Error(in_file, "has no " + std::string(pair.a == nullptr ? "lora_A" : "lora_B") + " for " + path, {.remedy = "is the file complete?"});
    const Shape &a = pair.a->shape, &b = pair.b->shape;
    if (a.size() != 2 || b.size() != 2 || a[0] != b[1] || a[0] == 0)
      throw Error(in_file + ": " + path, "lora_A and lora_B do not fit each other",
                  {.expected = "shapes [r, in] and [out, r]", .got = to_string(a) + " and " + to_string(b)});
    found.push_back(pair);
  }
  if (found.empty()) throw Error(in_file, "holds no tensors of this method", {.expected = "names that end in .lora_A.weight"});
  return found;
}

// The tables that PEFT saves beside a LoRA on them have to be those of the base. Returns a note where the model's folder has none to compare with.
DELTATUNE_FUNCTION std::string check_base_copies(const TensorFile& file, const std::string& in_file, const std::filesystem::path& model) {
  std::optional<HfCheckpoint> base;
  if (std::filesystem::exists(model / "model.safetensors") || std::filesystem::exists(model / "model.safetensors.index.json"))
    base.emplace(HfCheckpoint::open(model));
  std::vector<std::string> unknown;
  for (const auto& [key, tensor] : file.tensors()) {
    const std::string path = PeftKey::of(key).path;
    if (!path.ends_with(kBaseCopy)) continue;
    const std::string name = path.substr(0, path.size() - std::string(kBaseCopy).size()) + ".weight";
    const TensorInfo* of_base = nullptr;
    if (base)
      for (const auto& [other, candidate] : base->tensors())
        if (PeftKey::of(other).path == name) of_base = &candidate;
    if (of_base == nullptr) {
      unknown.push_back(name);
    } else if (of_base->shape != tensor.shape || !same_values(*of_base, tensor)) {
      throw Error(in_file + ": " + key, "differs from the base model's, which a GGUF adapter cannot change",
                  {.remedy = "merge the adapter, and convert the merged model"});
    }
  }
  return unknown.empty() ? "" : in_file + ": taken for the base model's, with which it could not be compared: " + shortened_list(unknown);
}

DELTATUNE_FUNCTION std::vector<float> floats_of(const TensorInfo& tensor) {
  std::vector<float> values(static_cast<std::size_t>(element_count(tensor.shape)));
  read_floats(tensor, std::span<float>(values));
  return values;
}

}  // namespace detail

// Writes the LoRA of a PEFT folder as a GGUF file. model: the base's folder, of which config.json is read. dtype: F32 or F16. Throws Error for what the
// file cannot hold or llama.cpp cannot apply: other methods, magnitudes of DoRA, biases, whole weights, places that it has no tensor for.
DELTATUNE_FUNCTION GgufLora export_gguf_lora(const std::filesystem::path& adapter, const std::filesystem::path& model, const std::filesystem::path& file,
                                             DType dtype = DType::F32) {
  const JsonConfig config = JsonConfig::open(model / "config.json");
  const GgufNames names = GgufNames::of(config);
  const LoraPlan plan = detail::plan_for_gguf(adapter);
  const std::filesystem::path tensors_path = detail::tensors_file(adapter);
  const std::string in_file = tensors_path.string(), in_config = (adapter / "adapter_config.json").string();
  const TensorFile tensors = TensorFile::open(tensors_path);
  GgufLora result{names.architecture(), 0, 0, 0, {}};
  detail::note_unread(in_config, plan.unread, result.notes);

  if (std::string note = detail::check_base_copies(tensors, in_file, model); !note.empty()) result.notes.push_back(std::move(note));

  const auto scaled_by = [](const LoraConfig& lora) {
    const double rank = static_cast<double>(lora.rank);
    return lora.alpha / (lora.rank_stabilized ? std::sqrt(rank) : rank);
  };
  result.alpha = static_cast<float>(scaled_by(plan.lora) * static_cast<double>(plan.lora.rank));
  if (result.alpha == 0) result.alpha = 1;  // with 0, llama.cpp does not scale at all

  GgufWriter writer;
  writer.set("general.architecture", names.architecture());
  writer.set("general.type", std::string("adapter"));
  writer.set("general.name", std::filesystem::weakly_canonical(adapter).filename().string());
  writer.set("general.file_type", dtype == DType::F16 ? std::uint32_t{1} : std::uint32_t{0});
  writer.set("adapter.type", std::string("lora"));
  writer.set("adapter.lora.alpha", result.alpha);
  for (const detail::LoraPair& pair : detail::lora_pairs(tensors, in_file)) {
    const std::string place = in_file + ": " + pair.site, tensor = names.tensor_of(pair.site);
    if (tensor.empty())
      throw Error(place, "has no tensor in llama.cpp that an adapter applies to",
                  {.expected = "a linear layer of the model's " + std::to_string(names.layers()) + " layers, its table of words or its language head",
                   .remedy = "merge the adapter, and convert the merged model"});
    if (names.tied() && (tensor == "output" || tensor == "token_embd"))
      throw Error(place, "cannot be held by a GGUF adapter: llama.cpp has one table for embeddings and language head (tie_word_embeddings)",
                  {.remedy = "merge the adapter, and convert the merged model"});
    if (pair.embedding != (tensor == "token_embd"))
      throw Error(place, "is a table in one of adapter and model and a linear layer in the other", {.remedy = "is --model the adapter's base model?"});
    const Index rank = pair.a->shape[0], rows = pair.b->shape[0];
    const LoraConfig lora = plan.at(pair.site, in_config);
    if (lora.rank != rank)
      throw Error(place, "has another rank than " + in_config + " says", {.expected = std::to_string(lora.rank), .got = std::to_string(rank)});

    std::vector<float> a = detail::floats_of(*pair.a), b = detail::floats_of(*pair.b);
    const float factor = static_cast<float>(scaled_by(lora) * static_cast<double>(rank) / static_cast<double>(result.alpha));
    if (factor != 1) {
      for (float& x : b) x *= factor;
      ++result.rescaled;
    }
    if (const Index heads = names.permuted_heads_of(tensor); heads != 0) {
      if (heads < 0 || rows % (2 * heads) != 0)
        throw Error(place, "does not fit the heads of " + config.name(),
                    {.expected = "a multiple of 2 · " + std::to_string(heads) + " rows",
                     .got = std::to_string(rows),
                     .remedy = "is --model the adapter's base model?"});
      b = detail::permuted_heads(b, heads, rank);
    }
    Shape a_shape = pair.a->shape;
    if (pair.embedding) {
      a = detail::transposed(a, a_shape);
      std::swap(a_shape[0], a_shape[1]);
    }
    writer.add(tensor + ".weight.lora_a", a_shape, a, dtype);
    writer.add(tensor + ".weight.lora_b", pair.b->shape, b, dtype);
    ++result.pairs;
  }
  writer.write(file);
  return result;
}

}  // namespace deltatune
