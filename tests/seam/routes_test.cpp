// One batch through several adapters.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/attach/prefix_plan.hpp"
#include "deltatune/attach/selection_plan.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/nn/linear.hpp"
#include "deltatune/train/trainer.hpp"
#include "support/gradient_checks.hpp"
#include "support/tiny_bert.hpp"

using namespace deltatune;

namespace {

using X = test::DeviceTensor;
using Model = Bert<X>;

// Six sequences through a, b, none, a, a, b; a third adapter takes all rows. dx: fresh, or holds a contribution.
auto routed_body(bool fresh, double dropout) {
  return [=]<class Y>(check::Trial<Y>& trial) {
    using T = scalar_of<Y>;
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    const std::vector<Index> lengths{3, 5, 2, 4, 1, 6};
    Linear<Y> layer(ctx, 7, {{"query", 6}, {"value", 5}});
    layer.visit_sites([&](LinearSite<Y>& site) {
      int number = 0;
      for (const std::string name : {"a", "all", "b"})
        site.deltas.add(name, Lora<Y>(ctx, site.path + "." + name, 7, site.width, {2, 3.0, name == "all" ? 0.0 : dropout, false}, derive(1, number++)));
      for (const std::string name : {"a", "b"}) site.deltas.set_routed(name, true);
    });
    layer.arrange(ctx);
    Linear<Y>& owned = trial.own(std::move(layer));
    std::vector<Index> offsets{0};
    for (const Index length : lengths) offsets.push_back(offsets.back() + length);
    const Routes routes = routes_of({"a", "b", "", "a", "a", "b"}, offsets);
    CHECK(routes.size() == 4);  // a, b, a of two sequences, b
    trial.pass().routes = &routes;
    const auto x = trial.input("x", offsets.back(), 7);
    const auto y = trial.output("y", offsets.back(), owned.out());
    typename Linear<Y>::Saved saved;
    owned.forward(trial.pass(), x.value, y.value, saved);
    if (trial.backward_wanted()) {
      if (!fresh) backend_of<Y>::fill(ctx, x.gradient, T(0));
      owned.backward(trial.pass(), saved, x.value, y.gradient, fresh ? GradientSink<T>::fresh(x.gradient) : GradientSink<T>::accumulating(x.gradient));
    }
    trial.pass().routes = nullptr;
  };
}

PackedBatch batch_of(const std::vector<std::string>& adapters) {
  PackedBatch batch;
  for (std::size_t b = 0; b < adapters.size(); ++b) {
    std::vector<std::int32_t> ids(3 + 2 * b % 5);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(1 + (7 * b + 3 * i) % 29);
    batch.add(ids);
    batch.labels.push_back(static_cast<std::int32_t>(b % 3));
  }
  batch.adapters = adapters;
  return batch;
}

LoraPlan plan_of(const std::string& name) {
  LoraPlan plan;
  plan.name = name;
  plan.lora = {2, 4, 0.0, false};
  plan.targets.all_linear = true;
  return plan;
}

}  // namespace

TEST_CASE("routes: rows of a layer go through their adapters, forward and backward", "[routes]") {
  const bool fresh = GENERATE(true, false);
  const double dropout = GENERATE(0.0, 0.3);
  test::check_adjoint(routed_body(fresh, dropout));
  test::check_device(routed_body(fresh, dropout));
}

TEST_CASE("routes: a mixed batch gives what each adapter gives alone", "[routes]") {
  test::DeviceContext ctx(2);
  Model model = test::tiny_bert(ctx);
  const std::vector<std::string> names{"a", "b", "c"};
  std::vector<Attachment<X>> attachments;
  for (std::size_t i = 0; i < names.size(); ++i) {
    attachments.push_back(attach(ctx, model, plan_of(names[i]), i));
    // B is not zero.
    attachments.back().visit([&](Parameter<X>& parameter) {
      std::vector<float> values;
      for (Index j = 0; j < parameter.size(); ++j) values.push_back(static_cast<float>(0.1 * normal(derive(i, 9), static_cast<std::uint64_t>(j))));
      upload_values(ctx, std::span<const float>(values), parameter);
    });
  }
  const std::vector<std::string> mixture{"b", "a", "", "c", "c", "a"};
  Trainer<Model> trainer(ctx, model, {});
  std::vector<std::vector<float>> alone(4);  // by adapter; the last without any
  PackedBatch batch = batch_of(mixture);
  batch.adapters.clear();
  for (std::size_t which = 0; which < 4; ++which) {
    for (std::size_t i = 0; i < 3; ++i) attachments[i].set_enabled(i == which);
    alone[which] = trainer.logits(batch);
  }
  for (auto& attachment : attachments) {
    attachment.set_enabled(true);
    attachment.set_routed(true);
  }
  const std::vector<float> mixed = trainer.logits(batch_of(mixture));
  for (std::size_t b = 0; b < mixture.size(); ++b) {
    const std::size_t which = mixture[b].empty() ? 3 : static_cast<std::size_t>(mixture[b][0] - 'a');
    for (std::size_t k = 0; k < 3; ++k) CHECK(mixed[3 * b + k] == Approx(alone[which][3 * b + k]).margin(1e-5));
  }
  CHECK(alone[0] != alone[1]);
  CHECK(trainer.logits(batch) == alone[3]);  // a batch that names none goes through none

  // And they learn, each from its own sequences.
  Trainer<Model> training(ctx, model, {.optimizer = {.learning_rate = 1e-2, .weight_decay = 0}});
  const PackedBatch without_c = batch_of({"b", "a", "", "b", "a", "a"});
  training.plan(without_c);
  const auto values_of = [&](Attachment<X>& attachment) {
    std::vector<float> values;
    attachment.visit([&](Parameter<X>& parameter) {
      for (const float x : download_floats<X>(ctx, parameter.value())) values.push_back(x);
    });
    return values;
  };
  std::vector<std::vector<float>> before;
  for (auto& attachment : attachments) before.push_back(values_of(attachment));
  ctx.reset_counters();
  const double first = training.step(without_c).loss;
  double last = first;
  for (int i = 0; i < 10; ++i) last = training.step(without_c).loss;
  CHECK(last < first);
  CHECK(ctx.allocations() == 0);
  for (std::size_t i = 0; i < 3; ++i) CHECK((values_of(attachments[i]) == before[i]) == (i == 2));
}

TEST_CASE("routes: mistakes", "[routes]") {
  test::DeviceContext ctx;
  Model model = test::tiny_bert(ctx);
  auto a = attach(ctx, model, plan_of("a"));
  Trainer<Model> trainer(ctx, model, {});
  CHECK_THROWS_WITH(trainer.logits(batch_of({"a", ""})), Catch::Contains("\"a\"") && Catch::Contains("set_routed"));
  a.set_routed(true);
  trainer.logits(batch_of({"a", ""}));
  CHECK_THROWS_WITH(trainer.logits(batch_of({"a", "z"})), Catch::Contains("\"z\""));
  PackedBatch short_by_one = batch_of({"a", "a"});
  short_by_one.adapters.pop_back();
  CHECK_THROWS_WITH(trainer.logits(short_by_one), Catch::Contains("one per sequence"));
  PrefixPlan prefix;
  prefix.name = "prefix";
  auto attached = attach_beside(ctx, model, prefix);
  CHECK_THROWS_WITH(attached.set_routed(true), Catch::Contains("prefix") && Catch::Contains("cannot be routed"));
  CHECK_THROWS_WITH(a.merge(ctx), Catch::Contains("routed"));
  auto biases = attach_beside(ctx, model, SelectionPlan(bitfit(family_of(model))));
  CHECK_THROWS_WITH(biases.set_routed(true), Catch::Contains("no deltas"));
  a.set_routed(false);
  a.merge(ctx);
  CHECK_THROWS_WITH(a.set_routed(true), Catch::Contains("merged"));
}
