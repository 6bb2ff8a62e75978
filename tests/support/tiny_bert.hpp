// A random BERT of two layers and three classes, for tests of what stands around the model.
#pragma once

#include "support/device.hpp"
#include "support/instances.hpp"
#include "support/shapes.hpp"

namespace deltatune::test {

inline Bert<DeviceTensor> tiny_bert(Device::Context& ctx) {
  test::BertShape config;
  config.vocab_size = 30;
  config.hidden_size = 12;
  config.layers = 2;
  config.heads = 3;
  config.intermediate_size = 20;
  config.max_position_embeddings = 16;
  config.initializer_range = 0.3;
  Bert<DeviceTensor> model(ctx, config, Head::classifier(3));
  model.initialise(ctx, 5);
  return model;
}

}  // namespace deltatune::test
