// A tiny GPT-2 with a tokenizer that knows every byte: a model folder as a user would have it.
#pragma once

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/random_tensors.hpp"
#include "deltatune/core/utf8.hpp"

namespace deltatune::test {

// Width 16, 2 layers, 2 heads; 256 bytes, one word and the end-of-text token.
inline void make_language_model(const std::filesystem::path& folder, Index positions = 40) {
  constexpr Index kWidth = 16, kLayers = 2, kVocabulary = 258;
  std::filesystem::create_directories(folder);
  const nlohmann::json config{{"model_type", "gpt2"},      {"architectures", {"GPT2LMHeadModel"}},
                              {"vocab_size", kVocabulary}, {"n_embd", kWidth},
                              {"n_layer", kLayers},        {"n_head", 2},
                              {"n_positions", positions},  {"activation_function", "gelu_new"},
                              {"eos_token_id", 257},       {"bos_token_id", 257}};
  std::ofstream(folder / "config.json") << config.dump();

  RandomTensors tensors;
  const auto add = [&](const std::string& name, const Shape& shape, float mean, double spread) { tensors.add("transformer." + name, shape, mean, spread); };
  add("wte.weight", {kVocabulary, kWidth}, 0, 0.3);
  add("wpe.weight", {positions, kWidth}, 0, 0.1);
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {kWidth}, 1, 0.1);
    add(name + ".bias", {kWidth}, 0, 0.1);
  };
  const auto linear = [&](const std::string& name, Index in, Index out) {
    add(name + ".weight", {in, out}, 0, 0.2);
    add(name + ".bias", {out}, 0, 0.1);
  };
  for (Index l = 0; l < kLayers; ++l) {
    const std::string layer = "h." + std::to_string(l) + ".";
    norm(layer + "ln_1");
    linear(layer + "attn.c_attn", kWidth, 3 * kWidth);
    linear(layer + "attn.c_proj", kWidth, kWidth);
    norm(layer + "ln_2");
    linear(layer + "mlp.c_fc", kWidth, 4 * kWidth);
    linear(layer + "mlp.c_proj", 4 * kWidth, kWidth);
  }
  norm("ln_f");
  tensors.write(folder / "model.safetensors");

  // The bytes that are printed as themselves, the others as characters from 256 on: GPT-2's alphabet.
  nlohmann::json vocabulary;
  char32_t next = 256;
  for (std::int32_t byte = 0; byte < 256; ++byte) {
    const bool printed = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    std::string token;
    append_utf8(printed ? static_cast<char32_t>(byte) : next++, token);
    vocabulary[token] = byte;
  }
  vocabulary["he"] = 256;
  vocabulary["<|endoftext|>"] = 257;
  std::ofstream(folder / "vocab.json") << vocabulary.dump();
  std::ofstream(folder / "merges.txt") << "#version: 0.2\nh e\n";
}

}  // namespace deltatune::test
