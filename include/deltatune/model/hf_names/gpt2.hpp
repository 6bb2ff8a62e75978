// Names of GPT-2's tensors in Hugging Face checkpoints.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deltatune::gpt2_names {

inline constexpr std::string_view kPrefix = "transformer.";

// What lies on top of the decoder has no prefix.
inline bool is_head(std::string_view path) { return path.starts_with("score.") || path.starts_with("lm_head."); }

// Names under which a file may hold the parameter `path` (which carries the prefix "transformer." or "" of the model in memory), likeliest
// first: with and without the prefix.
inline std::vector<std::string> candidates(const std::string& path, std::string_view prefix) {
  if (is_head(path)) return {path};
  const std::string bare = path.substr(prefix.size());
  return {std::string(kPrefix) + bare, bare};
}

// Tensors that a model may leave out: heads it does not have, the copy of a tied table, and the causal masks that old files hold.
inline bool belongs_to_another_head(std::string_view name) {
  return is_head(name) || name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") || name.starts_with("multiple_choice_head.");
}

}  // namespace deltatune::gpt2_names
