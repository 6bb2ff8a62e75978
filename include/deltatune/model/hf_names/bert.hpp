// Names of BERT's tensors in Hugging Face checkpoints.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deltatune::bert_names {

// Names under which a file may hold the parameter `path` (which carries the prefix "bert." or "" of the model in memory), likeliest first:
// with and without the prefix, and LayerNorm's old names gamma and beta.
inline std::vector<std::string> candidates(const std::string& path, std::string_view prefix) {
  std::vector<std::string> names{path};
  if (path.starts_with("classifier.")) return names;
  const std::string bare = path.substr(prefix.size());
  names = {"bert." + bare, bare};
  for (const auto& [current, old] : {std::pair{"LayerNorm.weight", "LayerNorm.gamma"}, std::pair{"LayerNorm.bias", "LayerNorm.beta"}}) {
    if (!bare.ends_with(current)) continue;
    const std::string renamed = bare.substr(0, bare.size() - std::string_view(current).size()) + old;
    names.push_back("bert." + renamed);
    names.push_back(renamed);
  }
  return names;
}

// Tensors that a model may leave out: heads it does not have and buffers that are not parameters.
inline bool belongs_to_another_head(std::string_view name) {
  for (const std::string_view head : {"cls.", "classifier.", "qa_outputs.", "pooler.", "bert.pooler."})
    if (name.starts_with(head)) return true;
  return name.ends_with("embeddings.position_ids") || name.ends_with("embeddings.token_type_ids");
}

}  // namespace deltatune::bert_names
