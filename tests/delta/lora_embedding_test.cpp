// LoRA and DoRA on a table of embeddings: gradients, where the table's rows are added to others, and merge.
#include "deltatune/delta/lora_embedding.hpp"

#include <map>
#include <string>
#include <vector>

#include "deltatune/nn/embedding.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

const std::vector<std::int32_t> kIds{3, 1, -1, 3, 6, 0, 1, 1, 4};

struct TableCase {
  bool dora = false;
  bool accumulate = false;
  bool table_trains = false;
};

template <class X>
struct DeltasOf {
  LookupSlot<X>* slot;
  template <class F>
  void visit(const F& f) {
    slot->visit(f);
  }
};

template <class X>
void add(context_of<X>& ctx, LookupSite<X>& site, bool dora) {
  const LoraConfig config{.rank = 2, .alpha = 3};
  if (dora) {
    site.deltas.add("delta", DoraEmbedding<X>(ctx, site, config, derive(1)));
  } else {
    site.deltas.add("delta", LoraEmbedding<X>(ctx, site, config, derive(1)));
  }
}

template <class X>
RowGroups groups_of(check::Trial<X>& trial, const std::vector<std::int32_t>& ids) {
  std::map<std::int32_t, std::vector<Index>> rows;
  for (std::size_t i = 0; i < ids.size(); ++i) rows[ids[i]].push_back(static_cast<Index>(i));
  std::vector<Index> starts{0}, order;
  std::vector<std::int32_t> keys;
  for (const auto& [id, members] : rows) {
    keys.push_back(id);
    order.insert(order.end(), members.begin(), members.end());
    starts.push_back(static_cast<Index>(order.size()));
  }
  return {trial.array(starts), trial.array(order), trial.array(keys), static_cast<Index>(keys.size())};
}

auto table_body(const TableCase& plan) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    Embedding<X> fresh(trial.ctx(), "table", 7, 5);
    if (plan.table_trains) unfreeze(fresh, {"**"});
    Embedding<X>& table = trial.own(std::move(fresh));
    add<X>(trial.ctx(), table.site(), plan.dora);
    // The delta's parameters, as own() would draw them.
    trial.own(DeltasOf<X>{&table.site().deltas});
    const Index rows = static_cast<Index>(kIds.size());
    const auto before = trial.input("before", rows, 5);
    const auto y = trial.output("y", rows, 5);
    const std::int32_t* ids = trial.array(kIds);
    ops::copy<B, T>(trial.ctx(), before.value, y.value);
    typename Embedding<X>::Saved saved;
    table.forward(trial.pass(), ids, y.value, plan.accumulate, saved);
    if (!trial.backward_wanted()) return;
    B::fill(trial.ctx(), before.gradient, T(0));
    if (plan.accumulate) ops::copy<B, T>(trial.ctx(), y.gradient, before.gradient);
    table.backward(trial.pass(), y.gradient, groups_of(trial, kIds), saved);
  };
}

}  // namespace

TEST_CASE("lora on embeddings: gradients", "[delta][lora]") {
  const TableCase plan = GENERATE(TableCase{}, TableCase{.accumulate = true}, TableCase{.table_trains = true}, TableCase{.dora = true},
                                  TableCase{.dora = true, .accumulate = true}, TableCase{.dora = true, .accumulate = true, .table_trains = true});
  test::check_adjoint(table_body(plan));
  test::check_device(table_body(plan));
}

TEST_CASE("lora on embeddings: starts as nothing, merges to what it computes, counts and names", "[delta][lora]") {
  using X = test::DeviceTensor;
  const bool dora = GENERATE(false, true);
  test::DeviceContext ctx(1);
  Embedding<X> table(ctx, "table", 7, 5);
  std::vector<float> numbers;
  for (int i = 0; i < 35; ++i) numbers.push_back(static_cast<float>(normal(derive(1), static_cast<std::uint64_t>(i))));
  test::from_host<X>(ctx, numbers, table.table().value());
  check::Trial<X> trial(ctx, {.seed = 2});
  const std::int32_t* ids = trial.array(kIds);
  const auto run = [&] {
    const View<float> y = trial.pass().take(static_cast<Index>(kIds.size()), 5);
    Embedding<X>::Saved saved;
    table.forward(trial.pass(), ids, y, false, saved);
    return test::on_host<X>(ctx, y);
  };
  const std::vector<float> plain = run();
  add<X>(ctx, table.site(), dora);
  Index count = 0;
  std::vector<std::string> names;
  table.site().deltas.visit([&](Parameter<X>& p) {
    count += p.size();
    names.push_back(p.path() + " " + to_string(p.file_shape()));
  });
  CHECK(count == 2 * (7 + 5) + (dora ? 5 : 0));
  CHECK(names[0] == "table.lora_embedding_A " + to_string(Shape{2, 7}));
  CHECK(names[1] == "table.lora_embedding_B " + to_string(Shape{5, 2}));
  const auto near = [](const std::vector<float>& a, const std::vector<float>& b) {
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(static_cast<double>(a[i] - b[i])));
    return largest < 1e-5;
  };
  CHECK(near(run(), plain));
  table.site().deltas.visit([&](Parameter<X>& p) {
    std::vector<float> values;
    for (Index i = 0; i < p.size(); ++i) values.push_back(static_cast<float>(1 + 0.5 * normal(derive(3), static_cast<std::uint64_t>(i))));
    test::from_host<X>(ctx, values, p.value());
  });
  const std::vector<float> attached = run();
  CHECK_FALSE(near(attached, plain));
  table.site().deltas.merge("delta", ctx, table.table().value(), {});
  table.site().deltas.set_enabled("delta", false);
  CHECK(near(run(), attached));
}

TEST_CASE("lora on embeddings: the padding row learns nothing", "[delta][lora]") {
  using X = Tensor<double, Reference>;
  Reference::Context ctx;
  check::Trial<X> trial(ctx, {.seed = 2, .backward = true});
  Embedding<X> table(ctx, "table", 7, 5, 1);
  add<X>(ctx, table.site(), false);
  allocate_gradients(table, ctx);
  const View<double> y = trial.pass().take(static_cast<Index>(kIds.size()), 5);
  Embedding<X>::Saved saved;
  table.forward(trial.pass(), trial.array(kIds), y, false, saved);
  Reference::fill(ctx, y, 1.0);
  table.backward(trial.pass(), y, groups_of(trial, kIds), saved);
  table.site().deltas.visit([&](Parameter<X>& p) {
    if (!p.path().ends_with("_A")) return;
    CHECK(p.gradient()(1, 0) == 0);
    CHECK(p.gradient()(3, 0) != 0);
  });
}
