// A random GPT-2 of two layers, for tests of what stands around the model.
#pragma once

#include "support/device.hpp"
#include "support/instances.hpp"
#include "support/shapes.hpp"

namespace deltatune::test {

inline test::Gpt2Shape tiny_gpt2_config() {
  test::Gpt2Shape config;
  config.vocab_size = 30;
  config.hidden_size = 12;
  config.layers = 2;
  config.heads = 3;
  config.intermediate_size = 20;
  config.max_position_embeddings = 16;
  config.eos_id = 29;
  config.initializer_range = 0.3;
  return config;
}

inline Gpt2<DeviceTensor> tiny_gpt2(Device::Context& ctx, Head head = Head::language_model()) {
  Gpt2<DeviceTensor> model(ctx, tiny_gpt2_config(), head);
  model.initialise(ctx, 5);
  return model;
}

}  // namespace deltatune::test
