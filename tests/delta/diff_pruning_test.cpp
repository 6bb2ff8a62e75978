// Diff pruning: gradients through the gates, the penalty, pruning, and what every method promises.
#include "deltatune/delta/diff_pruning.hpp"

#include <catch2/catch.hpp>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/attach/diff_pruning_plan.hpp"
#include "deltatune/check/contract.hpp"
#include "deltatune/nn/linear.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bert.hpp"

namespace {

using namespace deltatune;

template <class X>
struct DiffToy {
  Linear<X> layer;
  DiffPruning<X> diff;

  static std::vector<Parameter<X>*> parameters(Linear<X>& layer) {
    std::vector<Parameter<X>*> all;
    layer.visit([&](Parameter<X>& parameter) { all.push_back(&parameter); });
    return all;
  }
  DiffToy(context_of<X>& ctx, Index in, Index out, const DiffPruningConfig& config)
      : layer(ctx, in, {{"site", out}}), diff(ctx, parameters(layer), config, false) {}
  template <class F>
  void visit(const F& f) {
    diff.visit(f);
  }
};

auto diff_body(const DiffPruningConfig& config, Mode mode, Index rows, Index in, Index out) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    Pass<X>& pass = trial.pass();
    pass.mode = mode;
    DiffToy<X>& toy = trial.own(DiffToy<X>(trial.ctx(), in, out, config));
    allocate_gradients(toy.layer, trial.ctx());
    const auto x = trial.input("x", rows, in);
    const auto y = trial.output("y", rows, out);
    const auto loss = trial.output("penalty", 1, 1);
    toy.diff.forward(pass);
    typename Linear<X>::Saved saved;
    toy.layer.forward(pass, x.value, y.value, saved);
    backend_of<X>::fill(trial.ctx(), loss.value, T(0));
    if (trial.backward_wanted()) {
      toy.layer.backward(pass, saved, x.value, y.gradient, GradientSink<T>::fresh(x.gradient));
      toy.diff.backward(pass);
    }
  };
}

PackedBatch two_sequences() {
  PackedBatch batch;
  batch.add(std::vector<std::int32_t>{1, 2, 3, 4});
  batch.add(std::vector<std::int32_t>{5, 2});
  batch.labels = {0, 2};
  return batch;
}

}  // namespace

TEST_CASE("diff pruning: gradients through the gates", "[delta][diff_pruning]") {
  const Mode mode = GENERATE(Mode::differentiate, Mode::train);
  const bool structured = GENERATE(false, true);
  const DiffPruningConfig config{.penalty = 0, .structured = structured};
  test::check_adjoint(diff_body(config, mode, 4, 6, 5));
  test::check_device(diff_body(config, mode, 4, 6, 5));
  test::check_device(diff_body(config, mode, 33, 67, 45));
}

TEST_CASE("diff pruning: the penalty and its gradient", "[delta][diff_pruning]") {
  using X = Tensor<double, Reference>;
  Reference::Context ctx;
  Workspace<Reference> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch, Mode::train};
  for (const bool structured : {false, true}) {
    Linear<X> layer(ctx, 3, {{"site", 2}});
    DiffPruning<X> diff(ctx, DiffToy<X>::parameters(layer), {.penalty = 0.5, .structured = structured}, false);
    Index next = 0;
    diff.visit([&](Parameter<X>& parameter) {
      parameter.allocate_gradient(ctx);
      for (Index i = 0; i < parameter.size(); ++i) parameter.value().data[i] = 0.3 * static_cast<double>(next++ % 7) - 0.8;
    });
    const auto penalty = [&] {
      double value = 0;
      diff.visit([&](Parameter<X>& p) { backend_of<X>::fill(ctx, p.gradient(), 0.0); });
      diff.penalty(pass, {&value, 1, 1});
      return value;
    };
    const auto sigmoid = [](double a) { return 1.0 / (1.0 + std::exp(-a)); };
    double expected = 0, sum = 0;
    diff.visit([&](Parameter<X>& p) {
      if (p.path().ends_with(".log_alpha")) {
        sum = 0;
        for (Index i = 0; i < p.size(); ++i) sum += sigmoid(p.value().data[i]);
        if (!structured) expected += 0.5 * sum;
      } else if (p.path().ends_with("_group")) {
        expected += 0.5 * sum * sigmoid(p.value().data[0]);
      }
    });
    CHECK(penalty() == Approx(expected).epsilon(1e-12));
    diff.visit([&](Parameter<X>& p) {
      for (Index i = 0; i < p.size(); ++i) {
        penalty();
        const double gradient = p.gradient().data[i], at = p.value().data[i], h = 1e-6;
        p.value().data[i] = at + h;
        const double above = penalty();
        p.value().data[i] = at - h;
        const double below = penalty();
        p.value().data[i] = at;
        CHECK(gradient == Approx((above - below) / (2 * h)).margin(1e-8));
      }
    });
  }
}

#ifndef DELTATUNE_TEST_CUDA
TEST_CASE("diff pruning: the share that is largest stays, the rest is 0 for good, and the file holds it alone", "[delta][diff_pruning]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  const test::TemporaryFolder folder;
  Bert<X> model = test::tiny_bert(ctx);
  DiffPruningPlan plan;
  plan.diff = {.density = 0.1, .penalty = 1e-4, .structured = true, .prune_at = 3};
  auto attachment = attach(ctx, model, plan);
  Trainer<Bert<X>> trainer(ctx, model, {.optimizer = {.learning_rate = 0.01}});
  const auto differences = [&] {
    std::pair<Index, Index> count{0, 0};  // not 0, all
    attachment.visit([&](Parameter<X>& p) {
      if (!p.path().ends_with(".diff")) return;
      for (const float d : download_floats<X>(ctx, p.value())) count.first += d != 0 ? 1 : 0;
      count.second += p.size();
    });
    return count;
  };
  for (int i = 0; i < 3; ++i) trainer.step(two_sequences());
  const auto [kept, all] = differences();
  CHECK(kept <= all / 10);
  CHECK(kept > all / 20);
  for (int i = 0; i < 3; ++i) trainer.step(two_sequences());
  CHECK(differences().first <= kept);
  CHECK(differences().first > kept - kept / 10);

  save_adapter(ctx, folder.path(), model, plan, attachment, "base");
  const SafeTensors file = SafeTensors::open(folder.path() / "adapter_model.safetensors");
  CHECK(file.find("bert.encoder.layer.0.attention.self.query.weight.diff.indices") != nullptr);
  CHECK(file.find("bert.encoder.layer.0.attention.self.query.weight.log_alpha") == nullptr);
  Bert<X> again = test::tiny_bert(ctx);
  const Adapter<X> loaded = load_adapter(ctx, again, folder.path());
  CHECK(check::detail::outputs(ctx, again, two_sequences()) == check::detail::outputs(ctx, model, two_sequences()));
}

TEST_CASE("diff pruning: mistakes", "[delta][diff_pruning]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  DiffPruningPlan plan;
  plan.diff.density = 0;
  CHECK_THROWS_WITH(attach(ctx, model, plan), Catch::Contains("density") && Catch::Contains("got 0"));
  plan.diff.density = 0.1;
  plan.parameters = {"**.nonsense"};
  CHECK_THROWS_WITH(attach(ctx, model, plan), Catch::Contains("nonsense"));
  plan.parameters = {};
  attach(ctx, model, plan);
  plan.name = "second";
  CHECK_THROWS_WITH(attach_beside(ctx, model, plan), Catch::Contains("computed by another delta"));
  Trainer<Bert<X>> trainer(ctx, model, {});
  CHECK_THROWS_WITH(trainer.step(two_sequences()), Catch::Contains("at which to prune"));
}
#endif

TEST_CASE("diff pruning keeps what every method promises", "[delta][diff_pruning][contract]") {
  test::DeviceContext ctx(1);
  const test::TemporaryFolder folder;
  DiffPruningPlan plan;
  plan.diff = {.penalty = 1e-5, .structured = GENERATE(false, true), .prune_at = 100};
  plan.parameters = {"**.layer.1.**"};
  const Index elements = 4 * 12 * 12 + 2 * 12 * 20 + 9 * 12 + 20;  // of one block: weights, biases and norms
  const Index expected = 2 * elements + (plan.diff.structured ? 16 : 0);
  const auto broken = check::contract(ctx, [](auto& context) { return test::tiny_bert(context); }, two_sequences(), plan,
                                      {.parameters = expected, .merges = true, .folder = folder.path()});
  for (const std::string& sentence : broken) FAIL_CHECK(sentence);
}
