// Granite 3: Granite Team 2024; Llama with multipliers of embeddings, scores, branches and logits (maximal update parametrisation; Yang et al. 2022,
// arXiv 2203.03466). As Hugging Face's GraniteModel and its models with a head.
#pragma once

#include "deltatune/model/family/llama.hpp"

namespace deltatune::family {

DELTATUNE_FUNCTION Architecture granite(const JsonConfig& json) {
  Architecture a = decoder(json, "Granite", "Granite");
  a.input.scale = json.get_or<double>("embedding_multiplier", 1.0);
  a.input.scales_prompts = true;
  a.stack.branch_scale = json.get_or<double>("residual_multiplier", 1.0);
  a.head.logit_scale = 1 / json.get_or<double>("logits_scaling", 1.0);
  for (LayerSpec& layer : a.stack.layers) layer.attention.scale = json.get_or<double>("attention_multiplier", 1.0);
  return a;
}

}  // namespace deltatune::family
