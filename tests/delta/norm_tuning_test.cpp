// LayerNorm tuning: gradients through a norm, which norms, its folder, what it refuses.
#include "deltatune/delta/norm_tuning.hpp"

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/check/contract.hpp"
#include "deltatune/nn/norm.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bert.hpp"

namespace {

using namespace deltatune;

template <class X>
struct NormToy {
  Norm<X> norm;
  NormTuning<X> tuning;

  static std::vector<Parameter<X>*> parameters(Norm<X>& norm) {
    std::vector<Parameter<X>*> all;
    norm.visit([&](Parameter<X>& parameter) { all.push_back(&parameter); });
    return all;
  }
  NormToy(context_of<X>& ctx, Index width) : norm(ctx, "norm", width, {.epsilon = 1e-5}), tuning(ctx, parameters(norm)) {}
  template <class F>
  void visit(const F& f) {
    tuning.visit(f);
  }
};

auto norm_body(Index rows, Index width, bool frozen) {
  return [=]<class X>(check::Trial<X>& trial) {
    Pass<X>& pass = trial.pass();
    // The tuning points to the norm's parameters, so both are made where they stay.
    struct Placed {
      std::unique_ptr<NormToy<X>> toy;
      void visit(const ParameterVisitor<X>& f) { toy->visit(f); }
    };
    Placed fresh{std::make_unique<NormToy<X>>(trial.ctx(), width)};
    if (frozen) fresh.visit([](Parameter<X>& parameter) { parameter.set_mask(FreezeMask::frozen()); });
    NormToy<X>& toy = *trial.own(std::move(fresh)).toy;
    allocate_gradients(toy.norm, trial.ctx());
    const auto x = trial.input("x", rows, width);
    const auto y = trial.output("y", rows, width);
    toy.tuning.forward(pass);
    typename Norm<X>::Saved saved;
    toy.norm.forward(pass, x.value, {}, {}, y.value, saved);
    if (!trial.backward_wanted()) return;
    ops::copy<backend_of<X>, scalar_of<X>>(trial.ctx(), y.gradient, x.gradient);
    toy.norm.backward(pass, saved, x.gradient, {});
    toy.tuning.backward(pass);
    toy.tuning.backward(pass);  // has nothing left to take
  };
}

#ifndef DELTATUNE_TEST_CUDA
std::string message(const NormTuningPlan& plan) {
  test::DeviceContext ctx(1);
  Bert<test::DeviceTensor> model = test::tiny_bert(ctx);
  return test::error_text([&] { attach(ctx, model, plan); });
}
#endif

}  // namespace

TEST_CASE("norm tuning: gradients", "[delta][norm_tuning]") {
  const bool frozen = GENERATE(false, true);
  test::check_adjoint(norm_body(4, 6, frozen));
  test::check_device(norm_body(67, 45, frozen));
}

TEST_CASE("norm tuning keeps what every method promises", "[delta][norm_tuning][contract]") {
  test::DeviceContext ctx(1);
  const test::TemporaryFolder folder;
  PackedBatch batch;
  batch.add(std::vector<std::int32_t>{1, 2, 3, 4});
  batch.add(std::vector<std::int32_t>{5, 2});
  batch.labels = {0, 2};
  NormTuningPlan plan;
  Index norms = 5;
  SECTION("all") {}
  SECTION("some") {
    plan.targets = Targets::named({"attention.output.LayerNorm"});
    norms = 2;
  }
  const auto broken = check::contract(ctx, [](auto& context) { return test::tiny_bert(context); }, batch, plan,
                                      {.parameters = norms * 2 * 12, .merges = true, .folder = folder.path()});
  CHECK(broken == std::vector<std::string>{});
}

#ifndef DELTATUNE_TEST_CUDA
TEST_CASE("norm tuning: detached, the model has its own norms again", "[delta][norm_tuning]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  const std::string path = "bert.embeddings.LayerNorm.weight";
  const auto norm = [&]() -> Parameter<X>& {
    Parameter<X>* found = nullptr;
    model.visit([&](Parameter<X>& p) { found = p.path() == path ? &p : found; });
    return *found;
  };
  const std::vector<float> before = download_floats<X>(ctx, norm().value());
  auto attachment = attach(ctx, model, NormTuningPlan{});
  CHECK(norm().derived());
  std::vector<std::string> names;
  attachment.visit([&](Parameter<X>& p) {
    names.push_back(p.path());
    backend_of<X>::fill(ctx, p.value(), 3.0F);
  });
  CHECK(names.size() == 10);
  CHECK(names.front() == "bert.embeddings.LayerNorm.ln_tuning_layers.weight");
  attachment.merge(ctx);
  CHECK(download_floats<X>(ctx, norm().value()) == std::vector<float>(12, 3.0F));
  attachment.unmerge(ctx);
  CHECK(download_floats<X>(ctx, norm().value()) == before);
  attachment.detach();
  CHECK_FALSE(norm().derived());
  CHECK_FALSE(norm().trains());
  CHECK(download_floats<X>(ctx, norm().value()) == before);
}

TEST_CASE("norm tuning: mistakes", "[delta][norm_tuning]") {
  NormTuningPlan plan;
  plan.targets = Targets::named({"ln_1"});
  CHECK_THAT(message(plan), Catch::Contains("target_modules: \"ln_1\" matches nothing") && Catch::Contains("bert.embeddings.LayerNorm"));
  plan.targets = Targets::at({"bert.encoder.layer.9.output.LayerNorm"});
  CHECK_THAT(message(plan), Catch::Contains("layer.9.output.LayerNorm: the model has no such layer"));
  test::DeviceContext ctx(1);
  Bert<test::DeviceTensor> model = test::tiny_bert(ctx);
  attach(ctx, model, NormTuningPlan{});
  NormTuningPlan second;
  second.name = "second";
  CHECK_THROWS_WITH(attach_beside(ctx, model, second), Catch::Contains("computed by another delta"));
}
#endif
