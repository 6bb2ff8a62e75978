// Text token by token: the likeliest next one, or one drawn from the distribution of a language model, sharpened and cut off as Hugging Face's
// generate() does it: temperature first, then top-k, then top-p (Holtzman et al. 2019, arXiv 1904.09751).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/random.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune {

struct GenerationConfig {
  Index max_new_tokens = 20;
  double temperature = 0;  // 0: always the likeliest token
  Index top_k = 0;         // draw from so many likeliest tokens (and those as likely as the last of them); 0: from all
  double top_p = 1;        // draw from the fewest likeliest tokens that have this probability together; 1: from all
  std::uint64_t seed = 0;
  bool stops_at_end = true;  // after the model's end-of-text token

  void validate() const {
    if (max_new_tokens < 1) throw Error("generation: max_new_tokens", "is not usable", {.expected = "at least 1", .got = std::to_string(max_new_tokens)});
    if (!(temperature >= 0 && std::isfinite(temperature)))
      throw Error("generation: temperature", "is not usable", {.expected = "a number >= 0", .got = std::to_string(temperature)});
    if (top_k < 0) throw Error("generation: top_k", "is not usable", {.expected = "at least 0", .got = std::to_string(top_k)});
    if (!(top_p > 0 && top_p <= 1)) throw Error("generation: top_p", "is not usable", {.expected = "0 < value <= 1", .got = std::to_string(top_p)});
  }
};

// What the next token is drawn from, one probability a token. Temperature above 0.
DELTATUNE_FUNCTION std::vector<double> next_token_distribution(std::span<const double> logits, const GenerationConfig& config) {
  std::vector<Index> order(logits.size());
  std::iota(order.begin(), order.end(), Index{0});
  const auto logit = [&](Index token) { return logits[static_cast<std::size_t>(token)]; };
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return logit(a) != logit(b) ? logit(a) > logit(b) : a < b; });
  if (config.top_k > 0 && config.top_k < static_cast<Index>(order.size())) {
    const double last = logit(order[static_cast<std::size_t>(config.top_k) - 1]);
    order.erase(std::find_if(order.begin(), order.end(), [&](Index token) { return logit(token) < last; }), order.end());
  }
  std::vector<double> weights;  // in that order
  for (const Index token : order) weights.push_back(std::exp((logit(token) - logit(order[0])) / config.temperature));
  if (config.top_p < 1) {
    const double wanted = config.top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
    std::size_t kept = 0;
    for (double mass = 0; kept == 0 || (kept < weights.size() && mass < wanted); ++kept) mass += weights[kept];
    weights.resize(kept);
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> distribution(logits.size(), 0.0);
  for (std::size_t i = 0; i < weights.size(); ++i) distribution[static_cast<std::size_t>(order[i])] = weights[i] / total;
  return distribution;
}

// number: of the token in the text; with the seed names the random number.
DELTATUNE_FUNCTION std::int32_t choose_token(std::span<const double> logits, const GenerationConfig& config, Index number) {
  if (config.temperature == 0) return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const std::vector<double> distribution = next_token_distribution(logits, config);
  double left = (random_bits(derive(config.seed, static_cast<std::uint64_t>(number)), 0) + 0.5) * 0x1p-32;
  std::int32_t chosen = 0;
  for (std::size_t token = 0; token < distribution.size(); ++token) {
    if (distribution[token] == 0) continue;
    chosen = static_cast<std::int32_t>(token);  // the last one that has a chance, should rounding leave something
    left -= distribution[token];
    if (left < 0) break;
  }
  return chosen;
}

// Goes on with one sequence of tokens; deltas take part. Returns the new tokens, the end-of-text token included; on_token sees each at once.
template <class Model>
std::vector<std::int32_t> generate(typename Model::Context& ctx, Model& model, std::span<const std::int32_t> prompt, const GenerationConfig& config,
                                   const std::function<void(std::int32_t)>& on_token = {}) {
  using X = typename Model::Tensor;
  using T = scalar_of<X>;
  using B = backend_of<X>;
  config.validate();
  const Index length = static_cast<Index>(prompt.size()) + config.max_new_tokens - 1;  // the last token is not read any more
  const Index room = model.architecture().max_position_embeddings - model.layout().counted - model.layout().shift;
  if (length > room)
    throw Error("generation", "the prompt and the new tokens are longer than the model's positions",
                {.expected = "at most " + std::to_string(room + 1) + " tokens", .got = std::to_string(length + 1)});
  Workspace<B> saved(ctx), scratch(ctx);
  DeviceBatch<X> device(ctx);
  typename Model::Activations kept;
  typename Model::Cache cache = model.make_cache(ctx, length);
  PackedBatch batch;
  batch.add(prompt);
  std::vector<std::int32_t> tokens;
  while (static_cast<Index>(tokens.size()) < config.max_new_tokens) {
    device.upload(batch, false, tokens.empty() ? model.layout() : model.layout_behind());
    const WorkspaceScope<B> all(saved);
    Pass<X> pass{ctx, saved, scratch};
    const View<T> logits = pass.keep(1, model.architecture().vocab_size);
    model.continue_sequence(pass, device, logits, kept, cache);
    std::vector<T> host(static_cast<std::size_t>(logits.size()));
    B::copy_out(ctx, logits.data, host.data(), logits.size() * static_cast<Index>(sizeof(T)));
    B::synchronize(ctx);
    std::vector<double> numbers;
    for (const T& x : host) numbers.push_back(static_cast<double>(value_of(x)));
    const std::int32_t token = choose_token(numbers, config, static_cast<Index>(tokens.size()));
    tokens.push_back(token);
    if (on_token) on_token(token);
    if (config.stops_at_end && std::ranges::find(model.architecture().eos_ids, token) != model.architecture().eos_ids.end()) break;
    batch = {};
    batch.add(std::span<const std::int32_t>(&token, 1));
    batch.positions[0] = static_cast<std::int32_t>(static_cast<Index>(prompt.size() + tokens.size()) - 1);
  }
  return tokens;
}

}  // namespace deltatune
