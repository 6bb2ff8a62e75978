// A T5 of one layer that reads and two that write, for tests of what stands around the model. Heads are narrower than the model, and six buckets of distances
// are all used.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/check/gradcheck.hpp"
#include "deltatune/model/families.hpp"
#include "deltatune/model/transformer.hpp"
#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "support/device.hpp"

namespace deltatune::test {

inline Architecture tiny_t5(bool gated = false) {
  const std::string settings = gated ? R"("feed_forward_proj": "gated-gelu", "tie_word_embeddings": false)" : R"("feed_forward_proj": "relu")";
  return family::t5(JsonConfig::parse(R"({"model_type": "t5", "vocab_size": 20, "d_model": 12, "d_kv": 3, "d_ff": 10, "num_layers": 1, "num_heads": 2,
      "num_decoder_layers": 2, "relative_attention_num_buckets": 6, "relative_attention_max_distance": 5, "dropout_rate": 0.1, "pad_token_id": 0,
      "eos_token_id": 1, )" + settings + "}",
                                      "config.json"));
}

// Three, with six tokens to predict.
inline PackedBatch text_pairs() {
  PackedBatch batch, source;
  for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{4, 8, 15, 16, 3, 9, 1}, {3}, {7, 12, 11, 5}}) source.add(tokens);
  for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{0, 5}, {0, 9, 14, 6}, {0}}) batch.add(tokens);
  batch.token_labels = {5, 1, 9, ops::kIgnoredLabel, 6, 1, 1};
  batch.source.push_back(source);
  return batch;
}

// The body of a gradient check: the model's loss of text_pairs(), and its gradients.
template <class X>
void check_pairs_loss(check::Trial<X>& trial, Transformer<X> of) {
  Transformer<X>& model = trial.own(std::move(of));
  allocate_gradients(model, trial.ctx());  // loss() takes the gradient through the head at once
  DeviceBatch<X> batch(trial.ctx());
  batch.upload(text_pairs(), model.embeddings_train(), model.layout());
  typename Transformer<X>::Activations kept;
  const auto loss = trial.loss("loss");
  backend_of<X>::fill(trial.ctx(), loss.value, scalar_of<X>(0));
  model.loss(trial.pass(), batch, {.total_weight = 6}, loss.value, kept);
  if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept);
}

}  // namespace deltatune::test
