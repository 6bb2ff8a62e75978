// AdaLoRA: the delta in a layer, the penalty, and which triplets the budget leaves.
#include "deltatune/delta/adalora.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/check/contract.hpp"
#include "deltatune/train/checkpoint.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bert.hpp"
#include "support/weight_delta.hpp"

using namespace deltatune;

namespace {

// "second" has less left than "first".
auto adalora_sites(double dropout, Index left) {
  return [=](auto& trial) {
    return [&trial, dropout, left]<class X>(LinearSite<X>& site) {
      const AdaLoraConfig config{.rank = 3, .alpha = 4, .dropout = dropout};
      site.deltas.add("delta",
                      AdaLora<X>(trial.ctx(), site.path, site.weight.shape()[1], site.width, config, site.path == "second" ? left : 3, derive(1), derive(2)));
    };
  };
}

// Two sites of other sizes, on the host.
struct AdaLoraToy {
  using X = Tensor<double, Reference>;

  Reference::Context ctx;
  AdaLoraConfig config;
  AdaLora<X> one, other;
  AdaLoraBudget<X> budget;

  explicit AdaLoraToy(const AdaLoraConfig& settings)
      : config(settings),
        one(ctx, "one", 5, 4, config, config.rank, derive(1), derive(2)),
        other(ctx, "other", 3, 6, config, config.rank, derive(3), derive(4)),
        budget(ctx, config, {&one, &other}) {
    visit([&](Parameter<X>& p) {
      p.allocate_gradient(ctx);
      for (Index i = 0; i < p.size(); ++i) p.value().data[i] = number();
    });
  }
  template <class F>
  void visit(const F& f) {
    one.visit(f);
    other.visit(f);
  }
  double number() { return static_cast<double>(uniform(derive(7), next++)) - 0.4; }

  std::uint64_t next = 0;
};

PackedBatch adalora_sequences() {
  PackedBatch batch;
  batch.add(std::vector<std::int32_t>{1, 2, 3, 4});
  batch.add(std::vector<std::int32_t>{5, 2});
  batch.labels = {0, 2};
  return batch;
}

}  // namespace

TEST_CASE("adalora: gradients, on every path through the layer", "[delta][adalora]") {
  test::check_layers(adalora_sites(0, 2));
  test::check_layers(adalora_sites(0.3, 2));
  test::check_layers(adalora_sites(0, 0));
}

TEST_CASE("adalora: merged equals attached", "[delta][adalora]") {
  test::DeviceContext ctx(1);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, adalora_sites(0, 2), 9, 33, 17) < 1e-5);
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, adalora_sites(0, 0), 9, 33, 17) < 1e-5);
}

TEST_CASE("adalora: the penalty and its gradient", "[delta][adalora]") {
  using X = AdaLoraToy::X;
  AdaLoraToy toy({.rank = 3, .target = 2, .penalty = 0.7});
  Workspace<Reference> saved(toy.ctx), scratch(toy.ctx);
  Pass<X> pass{toy.ctx, saved, scratch, Mode::train};
  const auto penalty = [&] {
    double value = 0;
    toy.visit([&](Parameter<X>& p) { Reference::fill(toy.ctx, p.gradient(), 0.0); });
    toy.budget.penalty(pass, {&value, 1, 1});
    return value;
  };
  double expected = 0;
  toy.visit([&](Parameter<X>& p) {
    if (p.path().ends_with("E")) return;
    const bool is_a = p.path().ends_with("A");
    double squares = 0;
    for (Index i = 0; i < 3; ++i)
      for (Index j = 0; j < 3; ++j) {
        double m = i == j ? -1 : 0;
        for (Index l = 0; l < (is_a ? p.shape()[1] : p.shape()[0]); ++l) m += is_a ? p.value()(i, l) * p.value()(j, l) : p.value()(l, i) * p.value()(l, j);
        squares += m * m;
      }
    expected += 0.7 / 4 * std::sqrt(squares);
  });
  CHECK(penalty() == Approx(expected).epsilon(1e-12));
  toy.visit([&](Parameter<X>& p) {
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
  toy.one.a().set_mask(FreezeMask::frozen());
  CHECK(penalty() < expected);
}

// Written down once more, plainly: what is left after each of 12 updates with random gradients.
TEST_CASE("adalora: the triplets of the highest scores stay", "[delta][adalora]") {
  using X = AdaLoraToy::X;
  const Index total = 12;
  AdaLoraToy toy({.rank = 3, .target = 1, .first = 2, .last = 3, .every = 2, .beta1 = 0.8, .beta2 = 0.7});
  const double clipping = 0.5;
  struct Averages {
    double importance = 0, uncertainty = 0;
  };
  std::map<std::string, std::vector<Averages>> averages;
  std::vector<Index> left;
  std::vector<bool> kept(6, true);
  for (Index step = 1; step <= total; ++step) {
    toy.visit([&](Parameter<X>& p) {
      for (Index i = 0; i < p.size(); ++i) {
        p.value().data[i] += 0.1 * toy.number();
        p.gradient().data[i] = toy.number();
      }
    });
    const Index t = step - 1;
    if (t < total - 3)
      toy.visit([&](Parameter<X>& p) {
        std::vector<Averages>& of = averages[p.path()];
        of.resize(static_cast<std::size_t>(p.size()));
        for (std::size_t i = 0; i < of.size(); ++i) {
          const double now = std::fabs(p.value().data[i] * p.gradient().data[i] * clipping);
          of[i].importance = 0.8 * of[i].importance + 0.2 * now;
          of[i].uncertainty = 0.7 * of[i].uncertainty + 0.3 * std::fabs(now - of[i].importance);
        }
      });
    const bool chooses = t == total - 3 || (t > 2 && t < total - 3 && t % 2 == 0);
    if (chooses) {
      std::vector<double> scores;
      for (AdaLora<X>* const site : {&toy.one, &toy.other})
        for (Index k = 0; k < 3; ++k) {
          const auto product = [&](Parameter<X>& p, Index i) {
            const Averages& a = averages[p.path()][static_cast<std::size_t>(i)];
            return a.importance * a.uncertainty;
          };
          const Index in = site->a().shape()[1], out = site->b().shape()[0];
          double score = product(site->e(), k);
          for (Index j = 0; j < in; ++j) score += product(site->a(), k * in + j) / static_cast<double>(in);
          for (Index i = 0; i < out; ++i) score += product(site->b(), i * 3 + k) / static_cast<double>(out);
          scores.push_back(score);
        }
      const double share = 1.0 - static_cast<double>(t - 2) / (total - 3 - 2);
      const auto pruned = static_cast<std::size_t>(6 - static_cast<Index>(4 * share * share * share + 2));
      std::vector<double> sorted = scores;
      std::sort(sorted.begin(), sorted.end());
      for (std::size_t k = 0; k < 6; ++k) kept[k] = scores[k] > sorted[pruned - 1];
    }
    std::vector<double> expected;
    for (AdaLora<X>* const site : {&toy.one, &toy.other})
      for (Index k = 0; k < 3; ++k) expected.push_back(site->e().value()(k, 0));
    if (chooses || t > total - 3)
      for (std::size_t k = 0; k < 6; ++k) expected[k] = kept[k] ? expected[k] : 0;
    toy.budget.after_step(toy.ctx, {.step = step, .total = total, .gradient_scale = clipping});
    std::vector<double> got;
    for (AdaLora<X>* const site : {&toy.one, &toy.other})
      for (Index k = 0; k < 3; ++k) got.push_back(site->e().value()(k, 0));
    INFO("update " << step);
    CHECK(got == expected);
    left.push_back(static_cast<Index>(std::count_if(got.begin(), got.end(), [](double e) { return e != 0; })));
  }
  CHECK(left == std::vector<Index>{6, 6, 6, 6, 3, 6, 2, 6, 2, 2, 2, 2});
}

TEST_CASE("adalora: frozen, its importance stays as it was", "[delta][adalora]") {
  AdaLoraToy toy({.rank = 2, .target = 1, .total = 4});
  toy.visit([&](Parameter<AdaLoraToy::X>& p) { p.set_mask(FreezeMask::frozen()); });
  const double before = toy.one.e().value().data[0];
  for (Index step = 1; step <= 4; ++step) toy.budget.after_step(toy.ctx, {.step = step});
  CHECK(toy.one.e().value().data[0] == before);
}

TEST_CASE("adalora: mistakes", "[delta][adalora]") {
  AdaLoraToy toy({.rank = 2, .target = 1});
  CHECK_THROWS_WITH(toy.budget.after_step(toy.ctx, {.step = 1}), Catch::Contains("length of the run") && Catch::Contains("total_step"));
  AdaLoraToy short_run({.rank = 2, .target = 1, .first = 3, .last = 2});
  CHECK_THROWS_WITH(short_run.budget.after_step(short_run.ctx, {.step = 1, .total = 5}), Catch::Contains("no update to prune in"));
  const auto message = [](AdaLoraConfig config) { return test::error_text([&] { config.validate("plan"); }); };
  AdaLoraConfig().validate("plan");
  CHECK_THAT(message({.rank = 0}), Catch::Contains("plan: init_r") && Catch::Contains("at least 1"));
  CHECK_THAT(message({.rank = 4, .target = 5}), Catch::Contains("target_r"));
  CHECK_THAT(message({.alpha = std::nan("")}), Catch::Contains("lora_alpha"));
  CHECK_THAT(message({.dropout = 1}), Catch::Contains("lora_dropout"));
  CHECK_THAT(message({.penalty = -1}), Catch::Contains("orth_reg_weight"));
  CHECK_THAT(message({.every = 0}), Catch::Contains("deltaT"));
  CHECK_THAT(message({.beta1 = 1}), Catch::Contains("beta1"));
  CHECK_THAT(message({.first = 5, .last = 5, .total = 10}), Catch::Contains("total_step"));
}

TEST_CASE("adalora: the budget falls by a cubic from all ranks to the target", "[delta][adalora]") {
  const AdaLoraConfig config{.rank = 4, .target = 2, .first = 2, .last = 3};
  std::vector<Index> budgets;
  for (Index t = 0; t < 13; ++t) budgets.push_back(config.budget(t, 13, 12, 3));
  CHECK(budgets == std::vector<Index>{12, 12, 12, 10, 8, 7, 6, 6, 6, 6, 6, 6, 6});
}

TEST_CASE("adalora keeps what every method promises", "[delta][adalora][contract]") {
  test::DeviceContext ctx(1);
  const test::TemporaryFolder folder;
  AdaLoraPlan plan;
  plan.adalora = {.rank = 4, .target = 2, .dropout = GENERATE(0.0, 0.1), .first = 6};
  const auto broken = check::contract(ctx, [](auto& context) { return test::tiny_bert(context); }, adalora_sequences(), plan,
                                      {.parameters = 4 * 4 * (12 + 12 + 1), .merges = true, .folder = folder.path()});
  CHECK(broken == std::vector<std::string>{});
}

TEST_CASE("adalora: a pruned run, its folder, and a run that was interrupted", "[delta][adalora]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  const test::TemporaryFolder folder;
  AdaLoraPlan plan;
  plan.modules_to_save = {};
  plan.adalora = {.rank = 4, .target = 1, .first = 1, .last = 2};
  const TrainerConfig config{.optimizer = {.learning_rate = 0.02}, .schedule = {Schedule::Kind::linear, 0, 8}};
  Bert<X> model = test::tiny_bert(ctx);
  auto attachment = attach(ctx, model, plan, 3);
  Trainer<Bert<X>> trainer(ctx, model, config);
  for (int i = 0; i < 8; ++i) {
    if (i == 4) save_checkpoint(folder.path() / "checkpoint", trainer, {.step = 4}, nlohmann::json::object());
    trainer.step(adalora_sequences());
  }
  const auto outputs = check::detail::outputs(ctx, model, adalora_sequences());

  save_adapter(ctx, folder.path() / "adapter", model, plan, attachment, "base");
  const SafeTensors file = SafeTensors::open(folder.path() / "adapter" / "adapter_model.safetensors");
  Index left = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    if (name.ends_with("lora_E")) left += tensor.shape[0];
    CHECK_FALSE(name.ends_with("kept"));
  }
  CHECK(left == 4);
  CHECK(file.tensors().size() == 12);
  Bert<X> again = test::tiny_bert(ctx);
  freeze_base(again);
  Adapter<X> loaded = load_adapter(ctx, again, folder.path() / "adapter");
  CHECK(check::detail::largest_difference(outputs, check::detail::outputs(ctx, again, adalora_sequences())) < 1e-6);
  // Written once more it is the same, and it goes on training without pruning.
  save_adapter(ctx, folder.path() / "twice", again, loaded.plan, loaded.attachment, "base");
  const JsonConfig first = JsonConfig::open(folder.path() / "adapter" / "adapter_config.json"),
                   second = JsonConfig::open(folder.path() / "twice" / "adapter_config.json");
  CHECK(first.raw().at("rank_pattern").size() == 4);
  CHECK(first.raw().at("rank_pattern") == second.raw().at("rank_pattern"));
  Trainer<Bert<X>> more(ctx, again, config);
  for (int i = 0; i < 8; ++i) more.step(adalora_sequences());
  loaded.attachment.visit([&](Parameter<X>& p) {
    if (!p.path().ends_with("lora_E")) return;
    for (const float e : download_floats<X>(ctx, p.value())) CHECK(e != 0.0F);
  });

  Bert<X> resumed = test::tiny_bert(ctx);
  attach(ctx, resumed, plan, 3);
  Trainer<Bert<X>> rest(ctx, resumed, config);
  load_checkpoint(folder.path() / "checkpoint", rest, nlohmann::json::object());
  for (int i = 4; i < 8; ++i) rest.step(adalora_sequences());
  CHECK(check::detail::outputs(ctx, resumed, adalora_sequences()) == outputs);
}
