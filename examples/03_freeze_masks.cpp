// Freeze masks: of the word embeddings only the rows of tokens 1 and 7 train, of the classifier only four weights. All other values keep their bits.
#include <map>
#include <string>

#include "toy.hpp"

int main() {
  using namespace deltatune;
  using X = Tensor<float, DefaultCpu>;
  DefaultCpu::Context ctx(1);
  Bert<X> model = toy::model<X>(ctx);

  freeze(model, {"**"});
  set_mask(model, {"**.word_embeddings.weight"}, FreezeMask::rows({toy::kStart, toy::kWanted}));
  set_mask(model, {"classifier.weight"}, FreezeMask::elements({0, 1, 32, 33}));  // row-major: the first two columns
  std::printf("%d of %d parameters train\n", static_cast<int>(trainable_count(model)), static_cast<int>(parameter_count(model)));
  std::map<std::string, std::vector<float>> original;
  model.visit([&](Parameter<X>& p) { original[p.path()] = download_floats<X>(ctx, p.value()); });

  Trainer trainer(ctx, model, {.optimizer = {.learning_rate = 3e-2}});
  const Evaluation before = toy::test(trainer, "before training:");
  const Dataset data = toy::data(2000, 1);
  BatchOrder order(data.size(), 50, 1);
  for (Index step = 0; step < 200; ++step) trainer.step(data.batch(order.members(step)));
  const Evaluation after = toy::test(trainer, "after 200 steps:");

  Index changed = 0;
  model.visit([&](Parameter<X>& p) {
    const std::vector<float> now = download_floats<X>(ctx, p.value());
    for (std::size_t i = 0; i < now.size(); ++i) changed += now[i] != original[p.path()][i] ? 1 : 0;
  });
  std::printf("%d values have changed\n", static_cast<int>(changed));
  return changed == 2 * 32 + 4 && changed == trainable_count(model) && after.loss < 0.8 * before.loss ? 0 : 1;
}
