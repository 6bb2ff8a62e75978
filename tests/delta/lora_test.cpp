// LoRA in a layer: gradients on both paths, products of its own and products of the layer, which must agree.
#include "deltatune/delta/lora.hpp"

#include <string>
#include <vector>

#include "deltatune/nn/feed_forward.hpp"
#include "deltatune/nn/linear.hpp"
#include "support/weight_delta.hpp"

using namespace deltatune;

namespace {

// Which of the layer's parts carry what, and who multiplies.
struct LoraCase {
  double dropout = 0;
  bool arranged = true;  // the layer may multiply with A
  bool wide = true;      // and has columns for u in its output
  bool base_trains = false;
  bool one_rests = false;  // one delta is attached and switched off
  bool below = true;       // something below wants dx
  bool bias = false;       // the deltas have biases
};

// Query and value carry LoRA of different ranks, the value two of them; the key none.
auto linear_body(const LoraCase& plan, Index rows, Index in, Index out) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    Linear<X> fresh(ctx, in, {{"query", out}, {"key", out}, {"value", out + 1}});
    if (plan.base_trains) unfreeze(fresh, {"key.**", "value.bias"});
    fresh.visit_sites([&](LinearSite<X>& site) {
      const Index width = site.width;
      const auto add = [&](const std::string& name, Index rank) {
        site.deltas.add(name, Lora<X>(ctx, site.path + "." + name, in, width, {rank, 3.0, plan.dropout, false, plan.bias}, derive(1)));
      };
      if (site.path == "query") add("first", 2);
      if (site.path == "value") add("first", 3);
      if (site.path == "value") add("second", 1);
      if (plan.one_rests && site.deltas.has("second")) site.deltas.set_enabled("second", false);
    });
    if (plan.one_rests) freeze(fresh, {"**.second.**"});
    if (plan.arranged) fresh.arrange(ctx);
    Linear<X>& layer = trial.own(std::move(fresh));
    View<const T> x;
    View<T> dx;
    if (plan.below) {
      const auto input = trial.input("x", rows, in);
      x = input.value;
      dx = input.gradient;
    } else {
      x = trial.constant(rows, in);
    }
    const auto y = trial.output("y", rows, layer.out());
    const View<T> output = plan.wide ? layer.keep_output(trial.pass(), rows) : y.value;
    typename Linear<X>::Saved saved;
    layer.forward(trial.pass(), x, output, saved);
    if (plan.wide) ops::copy<B, T>(ctx, output.column_range(0, layer.out()), y.value);
    if (!trial.backward_wanted()) return;
    View<T> dy = y.gradient;
    if (plan.wide) {
      dy = layer.take_output(trial.pass(), rows);
      ops::copy<B, T>(ctx, y.gradient, dy.column_range(0, layer.out()));
    }
    layer.backward(trial.pass(), saved, x, dy, plan.below ? GradientSink<T>::fresh(dx) : GradientSink<T>::none());
  };
}

}  // namespace

TEST_CASE("lora: gradients, on every path through the layer", "[delta][lora]") {
  const LoraCase plan =
      GENERATE(LoraCase{}, LoraCase{.wide = false}, LoraCase{.arranged = false}, LoraCase{.arranged = false, .wide = false}, LoraCase{.base_trains = true},
               LoraCase{.wide = false, .base_trains = true}, LoraCase{.one_rests = true}, LoraCase{.wide = false, .one_rests = true}, LoraCase{.below = false},
               LoraCase{.wide = false, .below = false}, LoraCase{.dropout = 0.3}, LoraCase{.dropout = 0.3, .wide = false},
               LoraCase{.dropout = 0.3, .below = false}, LoraCase{.bias = true}, LoraCase{.arranged = false, .bias = true});
  test::check_adjoint(linear_body(plan, 4, 6, 5));
  test::check_device(linear_body(plan, 4, 6, 5));
  test::check_device(linear_body(plan, 67, 45, 33));
}

TEST_CASE("lora: the layer's products and products of its own agree", "[delta][lora]") {
  using X = Tensor<double, Reference>;
  Reference::Context ctx;
  const auto run = [&](const LoraCase& plan) {
    check::Trial<X> trial(ctx, {.seed = 5, .backward = true});
    linear_body(plan, 9, 6, 5)(trial);
    std::vector<std::vector<double>> numbers;
    for (const auto& output : trial.outputs()) numbers.push_back(trial.values(output));
    for (const auto& varied : trial.varied()) numbers.push_back(trial.gradient(varied));
    return numbers;
  };
  const auto separate = run({.arranged = false, .wide = false});
  REQUIRE(separate.size() == 1 + 6 + 1);
  for (const LoraCase& plan : {LoraCase{}, LoraCase{.wide = false}}) {
    const auto together = run(plan);
    REQUIRE(together.size() == separate.size());
    for (std::size_t i = 0; i < separate.size(); ++i)
      for (std::size_t j = 0; j < separate[i].size(); ++j) CHECK(together[i][j] == Approx(separate[i][j]).epsilon(1e-12).margin(1e-12));
  }
}

TEST_CASE("lora: shapes of the products, concatenated where there is no dropout", "[delta][lora]") {
  test::DeviceContext ctx(1);
  const auto products = [&](const LoraCase& plan) {
    check::Trial<test::DeviceTensor> trial(ctx, {.seed = 5, .backward = true});
    std::vector<GemmRecord> records;
    ctx.trace_gemms(&records);
    linear_body(plan, 9, 6, 5)(trial);
    ctx.trace_gemms(nullptr);
    std::vector<std::vector<Index>> shapes;
    for (const GemmRecord& r : records) shapes.push_back({r.m, r.n, r.k});
    return shapes;
  };
  using Shapes = std::vector<std::vector<Index>>;
  constexpr Index n = 9, in = 6, query = 5, value = 6, out = 16, ranks = 2 + 3 + 1;
  const Shapes up{{n, query, 2}, {n, value, 3}, {n, value, 1}};
  const auto backward_of = [&](Index width, Index rank) { return Shapes{{width, rank, n}, {n, rank, width}, {rank, in, n}}; };  // dB, du, dA
  Shapes backward = backward_of(value, 1);
  for (const Shapes& more : {backward_of(value, 3), backward_of(query, 2)}) backward.insert(backward.end(), more.begin(), more.end());

  Shapes together{{n, out + ranks, in}};
  together.insert(together.end(), up.begin(), up.end());
  together.insert(together.end(), backward.begin(), backward.end());
  together.push_back({n, in, out + ranks});  // no product of an A with its own input or gradient, none of a frozen weight
  CHECK(products({}) == together);

  Shapes narrow{{n, out, in}, {n, ranks, in}};
  narrow.insert(narrow.end(), up.begin(), up.end());
  narrow.insert(narrow.end(), backward.begin(), backward.end());
  narrow.push_back({n, in, out});
  narrow.push_back({n, in, ranks});
  CHECK(products({.wide = false}) == narrow);

  CHECK(products({.dropout = 0.3}).size() == 1 + 2 * 3 + 4 * 3 + 1);
}

TEST_CASE("lora: merged equals attached, with a bias too", "[delta][lora]") {
  test::DeviceContext ctx(1);
  const bool bias = GENERATE(false, true);
  const auto prepare = [bias](auto& trial) {
    return [&trial, bias]<class X>(LinearSite<X>& site) {
      site.deltas.add("delta", Lora<X>(trial.ctx(), site.path, site.weight.shape()[1], site.width, {.rank = 2, .alpha = 3, .bias = bias}, derive(1)));
    };
  };
  CHECK(test::merged_difference<test::DeviceTensor>(ctx, prepare, 9, 33, 17) < 1e-5);
}

TEST_CASE("lora: A keeps its values when the layer takes it in, and again when another comes", "[delta][lora]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  Linear<X> layer(ctx, 6, {{"a", 5}, {"b", 4}});
  std::vector<Lora<X>*> deltas;
  std::vector<std::vector<float>> before;
  const auto add = [&](const std::string& name) {
    layer.visit_sites([&](LinearSite<X>& site) {
      deltas.push_back(&site.deltas.add(name, Lora<X>(ctx, site.path + "." + name, 6, site.width, {.rank = 2, .alpha = 4}, derive(deltas.size() + 1))));
      before.push_back(test::on_host<X>(ctx, deltas.back()->a().value()));
    });
    layer.arrange(ctx);
  };
  const auto unchanged = [&] {
    for (std::size_t i = 0; i < deltas.size(); ++i) CHECK(test::on_host<X>(ctx, deltas[i]->a().value()) == before[i]);
  };
  layer.visit([&](Parameter<X>& p) { test::from_host<X>(ctx, std::vector<float>(static_cast<std::size_t>(p.size()), 0.5F), p.value()); });
  add("one");
  unchanged();
  CHECK(deltas[0]->a().value().data + 12 == deltas[1]->a().value().data);  // neighbours: one matrix
  add("two");
  REQUIRE(deltas.size() == 4);
  unchanged();
  layer.visit_sites([&](LinearSite<X>& site) {
    CHECK(test::on_host<X>(ctx, site.weight.value()) == std::vector<float>(static_cast<std::size_t>(site.weight.size()), 0.5F));
  });
}
