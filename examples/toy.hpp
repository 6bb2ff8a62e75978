// What the numbered examples share: a BERT small enough to learn in a second, and a task for it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#if defined(__CUDACC__)
#include "deltatune/cuda.hpp"
#else
#include "deltatune/deltatune.hpp"  // which knows of deltatune::compiled, as single headers do not
#endif

namespace toy {

using namespace deltatune;

inline constexpr std::int32_t kStart = 1, kFirstWord = 2, kWanted = 7;

inline constexpr std::int32_t kWords = 24;

// As a config.json would say it.
inline Architecture architecture(Index positions) {
  const std::string json = R"({"model_type": "bert", "vocab_size": 24, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "type_vocab_size": 2, "pad_token_id": 0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.2, "max_position_embeddings": )";
  return architecture_of(JsonConfig::parse(json + std::to_string(positions) + "}", "toy"));
}

// A random model with a classifier of two classes.
template <class X>
Bert<X> model(context_of<X>& ctx, Index positions = 16) {
  Bert<X> model(ctx, architecture(positions), Head::classifier(2));
  model.initialise(ctx, 1);
  return model;
}

// Sequences of 6 to 12 random tokens. Class 1: token 7 is among them, which is so for half of them.
inline Dataset data(Index count, std::uint64_t seed) {
  Dataset data;
  for (Index i = 0; i < count; ++i) {
    const RandomKey key = derive(seed, i);
    const auto draw = [&](std::uint64_t n, Index bound) { return static_cast<std::int32_t>(random_bits(key, n) % static_cast<std::uint32_t>(bound)); };
    Example example{.ids = {kStart}, .types = {}, .label = draw(0, 2)};
    const std::int32_t length = 6 + draw(1, 7);
    for (std::int32_t t = 0; t < length; ++t) {
      const std::int32_t token = kFirstWord + draw(static_cast<std::uint64_t>(10 + t), kWords - kFirstWord - 1);
      example.ids.push_back(token >= kWanted ? token + 1 : token);
    }
    if (example.label == 1) example.ids[static_cast<std::size_t>(1 + draw(2, length))] = kWanted;
    data.add(std::move(example));
  }
  return data;
}

template <class Model>
Evaluation test(Trainer<Model>& trainer, const char* when) {
  const Evaluation result = evaluate(data(500, 99), 100, 2, [&](const PackedBatch& batch) { return trainer.logits(batch); });
  std::printf("%-16s loss %.3f, %5.1f %% of %d right\n", when, result.loss, 100 * result.accuracy, static_cast<int>(result.examples));
  return result;
}

}  // namespace toy
