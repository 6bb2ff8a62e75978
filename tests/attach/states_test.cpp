// Attachments through every order of attach, disable, route, merge, unmerge and detach, compared with models rebuilt from nothing: bits of
// outputs, weights and gradients, bytes held, products, and what trains.
#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "deltatune/attach/diff_pruning_plan.hpp"
#include "deltatune/attach/ia3_plan.hpp"
#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/attach/norm_tuning_plan.hpp"
#include "deltatune/attach/prefix_plan.hpp"
#include "deltatune/attach/selection_plan.hpp"
#include "deltatune/attach/union_plan.hpp"
#include "deltatune/core/sort_stably.hpp"
#include "deltatune/delta/lora_start.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/train/trainer.hpp"
#include "support/error_text.hpp"
#include "support/tiny_bert.hpp"
#include "support/tiny_gpt2.hpp"

using namespace deltatune;

namespace states {

namespace {

using X = test::DeviceTensor;
using Context = test::DeviceContext;

using Model = Transformer<X>;

// A method, and what of it may be done.
struct Method {
  std::string name;
  std::function<Attachment<X>(Context&, Model&)> attach = {};
  bool has_deltas = true;
  bool routes = false;
  bool merges = false;
  bool on_weights = false;    // at the same places as the other's deltas
  bool outermost = false;     // runs around sums: (IA)3
  bool reads_weight = false;  // DoRA
};

Model tiny(Context& ctx, const std::string& family) { return family == "gpt2" ? test::tiny_gpt2(ctx, Head::classifier(3)) : test::tiny_bert(ctx); }

// Deltas that do something: their start values, and noise that depends on their names alone.
void stir(Context& ctx, Attachment<X>& attachment) {
  std::uint64_t number = static_cast<unsigned char>(attachment.name().front());
  attachment.visit([&](Parameter<X>& parameter) {
    ++number;
    if (!parameter.updated()) return;
    std::vector<float> values = download_floats<X>(ctx, parameter.value());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += 0.1F * static_cast<float>(normal(derive(number), i));
    upload_values(ctx, std::span<const float>(values), parameter);
  });
}

template <class Plan>
std::function<Attachment<X>(Context&, Model&)> attaches(Plan plan, const std::string& name) {
  plan.name = name;
  return [plan = std::move(plan)](Context& ctx, Model& model) {
    Attachment<X> attachment = attach_beside(ctx, model, plan, 3);
    stir(ctx, attachment);
    return attachment;
  };
}

Method lora(const std::string& name, Index rank, bool dora = false) {
  LoraPlan plan;
  plan.lora = {rank, 4, 0.0, false};
  plan.targets = Targets::every_linear();
  plan.dora = dora;
  return {name, attaches(plan, name), true, true, true, true, false, dora};
}

Method method(const std::string& kind, const std::string& name) {
  if (kind == "lora") return lora(name, 3);
  if (kind == "dora") return lora(name, 2, true);
  if (kind == "ia3") {
    const Ia3Plan plan;
    return {name, attaches(plan, name), true, false, true, true, true};
  }
  if (kind == "prefix") {
    PrefixPlan plan;
    plan.prefix.rows = 3;
    return {name, attaches(plan, name)};
  }
  if (kind == "bitfit")
    return {name, [name](Context& ctx, Model& model) { return attaches(SelectionPlan(bitfit(family_of(model))), name)(ctx, model); }, false};
  if (kind == "diff pruning") {
    DiffPruningPlan plan;
    plan.parameters = {"**.LayerNorm.*"};
    return {name, attaches(plan, name), true, false, true};
  }
  if (kind == "norms") {
    const NormTuningPlan plan;
    return {name, attaches(plan, name), true, false, true};
  }
  UnionPlan plan = adapterhub_preset("houlsby");
  std::get<BottleneckPlan>(plan.members[0]).reduction.factor = 4;
  return {name, attaches(plan, name)};
}

PackedBatch batch_for(const std::vector<std::string>& routed) {
  PackedBatch batch;
  for (std::size_t b = 0; b < 3; ++b) {
    std::vector<std::int32_t> ids(3 + 2 * b);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(1 + (7 * b + 3 * i) % 27);
    batch.add(ids);
    batch.labels.push_back(static_cast<std::int32_t>(b % 3));
    if (!routed.empty()) batch.adapters.push_back(b < routed.size() ? routed[b] : "");  // the last through none
  }
  return batch;
}

using Products = std::vector<std::tuple<Index, Index, Index>>;

struct Seen {
  Index bytes = 0;
  std::vector<float> outputs;
  std::vector<std::pair<std::string, std::vector<float>>> base, gradients;
  Products forward, backward;
};

Products products(const std::vector<GemmRecord>& records) {
  Products all;
  for (const GemmRecord& r : records) all.emplace_back(r.m, r.n, r.k);
  return all;
}

Seen look(Context& ctx, Model& model, const std::vector<std::string>& routed) {
  Seen seen;
  seen.bytes = ctx.live_bytes();
  const PackedBatch host = batch_for(routed);
  Workspace<test::Device> saved(ctx), scratch(ctx);
  DeviceBatch<X> batch(ctx);
  std::vector<GemmRecord> records;
  typename Model::Activations kept;
  ctx.trace_gemms(&records);
  {
    Pass<X> pass{ctx, saved, scratch};
    batch.upload(host, false, model.layout());
    const View<float> logits = pass.keep(host.count(), model.num_labels());
    model.forward(pass, batch, logits, kept);
    seen.outputs = test::on_host<X>(ctx, logits);
  }
  seen.forward = products(records);
  records.clear();
  allocate_gradients(model, ctx);
  if (trainable_count(model) > 0) {
    Pass<X> pass{ctx, saved, scratch, Mode::differentiate};
    X loss(ctx, {1});
    batch.upload(host, model.embeddings_train(), model.layout());
    model.loss(pass, batch, Objective<X>{0, {}, 3}, loss.view(), kept);
    model.backward(pass, batch, kept);
  }
  seen.backward = products(records);
  ctx.trace_gemms(nullptr);
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.role() != Role::delta) seen.base.emplace_back(parameter.path(), test::on_host<X>(ctx, parameter.value()));
    if (parameter.trains()) seen.gradients.emplace_back(parameter.path(), test::on_host<X>(ctx, parameter.gradient()));
  });
  return seen;
}

// What a sequence of calls should have led to.
struct State {
  bool attached = false, enabled = true, routed = false, merged = false;
  int order = 0;         // of attachment; of detaching where it is settled
  bool settled = false;  // merged and detached: part of the base

  bool active() const { return attached && enabled && !merged; }
  auto key() const { return std::tuple(attached, enabled, routed, merged, settled); }
};

enum class Call { attach, disable, enable, route, share, merge, unmerge, detach };
constexpr Call kCalls[] = {Call::attach, Call::disable, Call::enable, Call::route, Call::share, Call::merge, Call::unmerge, Call::detach};
const char* const kNames[] = {"attach", "disable", "enable", "route", "share", "merge", "unmerge", "detach"};

class Orders {
 public:
  using Step = std::pair<std::size_t, Call>;

  Orders(std::string family, Method a, Method b) : family_(std::move(family)), methods_{std::move(a), std::move(b)} {}

  // All sequences of so many calls that begin like this.
  void run(std::vector<Step> beginning, std::size_t calls) {
    std::vector<State> states(2);
    for (std::size_t i = 0; i < beginning.size(); ++i) apply(states, beginning[i], static_cast<int>(i));
    walk(beginning, states, beginning.size() + calls);
  }
  int sequences() const { return sequences_; }

 private:
  void walk(std::vector<Step>& steps, const std::vector<State>& states, std::size_t most) {
    if (steps.size() == most) return;
    for (std::size_t which = 0; which < 2; ++which)
      for (const Call call : kCalls) {
        steps.emplace_back(which, call);
        std::vector<State> next = states;
        const bool allowed = apply(next, steps.back(), static_cast<int>(steps.size()));
        check(steps, allowed, next);
        if (allowed && next[which].key() != states[which].key()) walk(steps, next, most);
        steps.pop_back();
      }
  }

  // The table of attach/attachment.hpp. Returns whether the call is allowed; if not, nothing changes.
  bool apply(std::vector<State>& states, const Step& step, int number) const {
    const auto& [which, call] = step;
    const Method& method = methods_[which];
    State next = states[which];
    if (call == Call::attach) {
      if (next.attached || next.settled) return false;
      next = {.attached = true, .order = number};
    } else if (!next.attached) {
      return false;
    } else if (call == Call::disable || call == Call::enable) {
      if (next.merged || !method.has_deltas) return false;
      next.enabled = call == Call::enable;
    } else if (call == Call::route) {
      if (next.merged || !method.routes) return false;
      next.routed = true;
    } else if (call == Call::share) {
      if (next.merged) return false;
      next.routed = false;
    } else if (call == Call::merge) {
      if (next.merged || next.routed || !method.merges) return false;
      next.merged = true;
    } else if (call == Call::unmerge) {
      if (!next.merged) return false;
      next.merged = false;
    } else {
      if (next.merged && states[1 - which].merged && runs_before(1 - which, states[1 - which], which, next)) return false;
      next = {.order = next.merged ? number : 0, .settled = next.merged};
    }
    std::vector<State> all = states;
    all[which] = next;
    for (const std::size_t active : {0U, 1U}) {
      const std::size_t merged = 1 - active;
      if (call == Call::detach || !all[active].active() || !all[merged].merged) continue;
      if (methods_[active].reads_weight || runs_before(active, all[active], merged, all[merged])) return false;
    }
    for (const std::size_t first : {0U, 1U}) {
      const std::size_t second = 1 - first;
      if (all[first].merged && all[second].merged && methods_[second].reads_weight && runs_before(first, all[first], second, all[second])) return false;
    }
    states = all;
    return true;
  }
  // Whether a runs before b, and would do something else behind it.
  bool runs_before(std::size_t a, const State& of_a, std::size_t b, const State& of_b) const {
    const Method &first = methods_[a], &second = methods_[b];
    if (!first.on_weights || !second.on_weights) return false;
    if (!first.outermost && !second.outermost && !first.reads_weight && !second.reads_weight) return false;  // sums
    return first.outermost == second.outermost ? of_a.order < of_b.order : second.outermost;
  }

  static std::string text(const std::vector<Step>& steps) {
    std::string all;
    for (const auto& [which, call] : steps) all += std::string(1, static_cast<char>('a' + which)) + "." + kNames[static_cast<int>(call)] + " ";
    return all;
  }

  void call(Context& ctx, Model& model, std::vector<std::optional<Attachment<X>>>& handles, const Step& step) const {
    auto& handle = handles[step.first];
    if (step.second == Call::attach) {
      if (handle && !handle->detached()) {
        if (!methods_[step.first].has_deltas) throw Error("test", "selections may be attached several times");
        const Attachment<X> second = methods_[step.first].attach(ctx, model);  // throws
        return;
      }
      if (handle && handle->merged()) throw Error("test", "is part of the base already");
      handle.emplace(methods_[step.first].attach(ctx, model));
      return;
    }
    if (!handle) throw Error("test", "is not attached");
    switch (step.second) {
      case Call::attach:
        return;
      case Call::disable:
        return handle->set_enabled(false);
      case Call::enable:
        return handle->set_enabled(true);
      case Call::route:
        return handle->set_routed(true);
      case Call::share:
        return handle->set_routed(false);
      case Call::merge:
        return handle->merge(ctx);
      case Call::unmerge:
        return handle->unmerge(ctx);
      case Call::detach:
        if (handle->detached()) throw Error("test", "is detached");
        return handle->detach();
    }
  }

  // Whichever way the model came into a state, it is this one.
  const std::pair<Seen, Seen>& expected(const std::vector<State>& states) {
    const auto key = std::tuple(states[0].key(), states[1].key(), states[0].order < states[1].order);
    const auto known = expected_.find(key);
    if (known != expected_.end()) return known->second;
    const auto build = [&](bool all) {
      Context ctx(1);
      Model model = tiny(ctx, family_);
      std::vector<std::optional<Attachment<X>>> handles(2);
      std::vector<std::size_t> order{0, 1};
      if (states[1].order < states[0].order) std::swap(order[0], order[1]);
      // What is part of the base first.
      deltatune::detail::sort_stably(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return states[i].settled && !states[j].settled; });
      for (const std::size_t i : order) {
        if (!states[i].settled) continue;
        handles[i].emplace(methods_[i].attach(ctx, model));
        handles[i]->merge(ctx);
        handles[i]->detach();
      }
      for (const std::size_t i : order)
        if (states[i].attached && (all || states[i].enabled || states[i].merged)) handles[i].emplace(methods_[i].attach(ctx, model));
      for (const std::size_t i : order)
        if (states[i].attached && handles[i]) {
          if (all && !states[i].enabled) handles[i]->set_enabled(false);
          if (states[i].routed) handles[i]->set_routed(true);
        }
      if (all) {
        const std::size_t first = methods_[0].outermost || methods_[1].reads_weight ? 1 : 0;
        for (const std::size_t i : {first, 1 - first})
          if (states[i].merged) handles[i]->merge(ctx);
      }
      return look(ctx, model, routed(states, all));
    };
    Seen same = build(true), running = build(false);
    return expected_.emplace(key, std::pair(std::move(same), std::move(running))).first->second;
  }
  // all: or those alone that are switched on.
  std::vector<std::string> routed(const std::vector<State>& states, bool all) const {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < 2; ++i) names.push_back(states[i].attached && states[i].routed && (all || states[i].enabled) ? methods_[i].name : "");
    if (names[0].empty() && names[1].empty()) names.clear();
    return names;
  }

  void check(const std::vector<Step>& steps, bool allowed, const std::vector<State>& states) {
    ++sequences_;
    INFO(text(steps));
    Context ctx(1);
    Model model = tiny(ctx, family_);
    std::vector<std::optional<Attachment<X>>> handles(2);
    for (std::size_t i = 0; i + 1 < steps.size(); ++i) call(ctx, model, handles, steps[i]);
    std::string error;
    try {
      call(ctx, model, handles, steps.back());
    } catch (const Error& e) {
      error = e.what();
    }
    INFO(error);
    REQUIRE(error.empty() == allowed);
    for (std::size_t i = 0; i < 2; ++i) {
      if (!handles[i]) continue;
      REQUIRE(handles[i]->detached() == !states[i].attached);
      REQUIRE(handles[i]->merged() == (states[i].merged || states[i].settled));
      if (!states[i].attached) continue;
      REQUIRE(handles[i]->enabled() == states[i].enabled);
      REQUIRE(handles[i]->routed() == states[i].routed);
    }
    const auto& [same, running] = expected(states);
    const Seen seen = look(ctx, model, routed(states, true));
    REQUIRE(seen.bytes == same.bytes);
    REQUIRE(seen.base == same.base);
    REQUIRE(seen.outputs == same.outputs);
    REQUIRE(seen.forward == same.forward);
    REQUIRE(seen.backward == same.backward);
    REQUIRE(seen.gradients == same.gradients);
    const bool any_merged = states[0].merged || states[1].merged;
    // And what is switched off isn't there at all, what is merged computes the same.
    for (std::size_t i = 0; i < seen.outputs.size(); ++i) REQUIRE(seen.outputs[i] == Approx(running.outputs[i]).margin(2e-4));
    if (any_merged) return;
    REQUIRE(seen.outputs == running.outputs);
    REQUIRE(seen.forward == running.forward);
    // Heads train as long as a method is attached.
    if (states[0].active() || states[1].active()) REQUIRE(seen.backward == running.backward);
  }

  std::string family_;
  std::vector<Method> methods_;
  using Key = decltype(State().key());
  std::map<std::tuple<Key, Key, bool>, std::pair<Seen, Seen>> expected_;
  int sequences_ = 0;
};

void every_order(const std::string& family, const std::string& a, const std::string& b, std::size_t from_nothing, std::size_t from_both) {
  INFO(a + " and " + b + " on " + family);
  Orders orders(family, a == "lora" ? lora("a", 2) : method(a, "a"), method(b, "b"));
  orders.run({}, from_nothing);
  orders.run({{0, Call::attach}, {1, Call::attach}}, from_both);
  CHECK(orders.sequences() > 100);
}

}  // namespace

TEST_CASE("states: LoRA beside LoRA, every order of calls", "[attach][states]") {
  every_order("bert", "lora", "lora", 4, 4);
  every_order("gpt2", "lora", "lora", 3, 2);
}

TEST_CASE("states: LoRA beside other methods, every order of calls", "[attach][states]") {
  for (const char* const other : {"ia3", "dora", "prefix", "bottleneck", "bitfit"}) every_order("bert", "lora", other, 4, 2);
  for (const char* const other : {"ia3", "prefix", "bitfit"}) every_order("gpt2", "lora", other, 3, 2);
}

TEST_CASE("states: methods that replace values of the model, every order of calls", "[attach][states]") {
  every_order("bert", "lora", "diff pruning", 4, 2);
  every_order("bert", "lora", "norms", 4, 2);
}

namespace {

using Tiny = Model;

std::vector<std::vector<float>> values_of(Context& ctx, Attachment<X>& attachment) {
  std::vector<std::vector<float>> values;
  attachment.visit([&](Parameter<X>& parameter) { values.push_back(test::on_host<X>(ctx, parameter.value())); });
  return values;
}
Parameter<X>& parameter_at(Tiny& model, const std::string& path) {
  Parameter<X>* found = nullptr;
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.path() == path) found = &parameter;
  });
  REQUIRE(found != nullptr);
  return *found;
}
void add_to_first(Context& ctx, Parameter<X>& parameter, float change) {
  std::vector<float> values = download_floats<X>(ctx, parameter.value());
  values[0] += change;
  upload_values(ctx, std::span<const float>(values), parameter);
}

const std::string kQuery = "bert.encoder.layer.0.attention.self.query";

}  // namespace

TEST_CASE("states: what is trained while a delta is merged is not lost", "[attach][states]") {
  Context ctx(1);
  Tiny model = tiny(ctx, "bert");
  auto a = lora("a", 2).attach(ctx, model);
  auto biases = method("bitfit", "b").attach(ctx, model);
  const auto query = test::on_host<X>(ctx, parameter_at(model, kQuery + ".weight").value());
  a.merge(ctx);
  Trainer<Tiny> trainer(ctx, model, {});
  trainer.step(batch_for({}));
  const auto bias = test::on_host<X>(ctx, parameter_at(model, kQuery + ".bias").value());
  a.unmerge(ctx);  // which leaves biases alone
  CHECK(test::on_host<X>(ctx, parameter_at(model, kQuery + ".bias").value()) == bias);
  CHECK(test::on_host<X>(ctx, parameter_at(model, kQuery + ".weight").value()) == query);

  a.merge(ctx);
  add_to_first(ctx, parameter_at(model, kQuery + ".weight"), 1);
  const auto changed = test::on_host<X>(ctx, parameter_at(model, kQuery + ".weight").value());
  CHECK_THROWS_WITH(a.unmerge(ctx), Catch::Contains(kQuery + ".weight") && Catch::Contains("has changed") && Catch::Contains("detach()"));
  CHECK(a.merged());
  CHECK(test::on_host<X>(ctx, parameter_at(model, kQuery + ".weight").value()) == changed);
}

TEST_CASE("states: a merge that fails leaves everything as it was", "[attach][states]") {
  Context ctx(1);
  Tiny model = tiny(ctx, "bert");
  auto a = lora("a", 2).attach(ctx, model), b = lora("b", 3).attach(ctx, model);
  b.merge(ctx);
  a.set_enabled(false);
  a.visit([&](Parameter<X>& parameter) {
    if (parameter.path() == "classifier.lora_A.weight" || parameter.path() == "bert.encoder.layer.1.output.dense.lora_B.weight")
      add_to_first(ctx, parameter, std::numeric_limits<float>::infinity());
  });
  const Seen before = look(ctx, model, {});
  CHECK_THROWS_WITH(a.merge(ctx), Catch::Contains("bert.encoder.layer.1.output.dense.weight") && Catch::Contains("not be finite"));
  CHECK(!a.merged());
  CHECK(!a.enabled());
  const Seen after = look(ctx, model, {});
  CHECK(before.base == after.base);
  CHECK(before.outputs == after.outputs);
  CHECK(before.forward == after.forward);
  b.unmerge(ctx);
  b.detach();
  a.detach();
  Tiny plain = tiny(ctx, "bert");
  CHECK(look(ctx, model, {}).base == look(ctx, plain, {}).base);
}

TEST_CASE("states: a trainer goes on while deltas are switched off, on and detached", "[attach][states]") {
  Context ctx(1), other(1);
  const TrainerConfig config{.optimizer = {.learning_rate = 0.01, .weight_decay = 0.1}, .seed = 3};
  Tiny model = tiny(ctx, "bert"), alone = tiny(other, "bert");
  auto a = lora("a", 2).attach(ctx, model), b = lora("b", 3).attach(ctx, model), only = lora("b", 3).attach(other, alone);
  Trainer<Tiny> trainer(ctx, model, config), reference(other, alone, config);
  const PackedBatch batch = batch_for({});
  const auto start = values_of(ctx, a);
  a.set_enabled(false);
  for (int i = 0; i < 2; ++i) {
    trainer.step(batch);
    reference.step(batch);
  }
  CHECK(values_of(ctx, a) == start);  // weight decay, too, leaves it alone
  CHECK(values_of(ctx, b) == values_of(other, only));
  a.set_enabled(true);
  trainer.step(batch);
  CHECK(values_of(ctx, a) != start);
  a.merge(ctx);
  const auto merged = values_of(ctx, a);
  trainer.step(batch);
  CHECK(values_of(ctx, a) == merged);
  a.unmerge(ctx);
  a.detach();
  const auto before = values_of(ctx, b);
  ctx.reset_counters();
  trainer.step(batch);
  CHECK(ctx.allocations() == 0);
  CHECK(values_of(ctx, b) != before);
  auto late = lora("late", 1).attach(ctx, model);
  CHECK_THROWS_WITH(trainer.step(batch), Catch::Contains("the trainer was made without it") && Catch::Contains("make a new trainer"));
  late.detach();
  trainer.step(batch);
  b.detach();
  CHECK_THROWS_WITH(trainer.step(batch), Catch::Contains("nothing trains"));
}

TEST_CASE("states: what trains beside a method is claimed by all that want it", "[attach][states]") {
  Context ctx(1);
  Tiny model = tiny(ctx, "bert");
  const auto head_trains = [&] { return parameter_at(model, "classifier.weight").trains(); };
  auto a = lora("a", 2).attach(ctx, model), b = lora("b", 3).attach(ctx, model);
  CHECK(head_trains());
  a.detach();
  CHECK(head_trains());
  b.detach();
  CHECK(!head_trains());
  unfreeze(model, {"classifier.**"});
  auto c = lora("c", 2).attach(ctx, model);
  c.detach();
  CHECK(head_trains());  // as the user had it
  auto d = lora("d", 2).attach(ctx, model);
  freeze(model, {"classifier.weight"});
  d.detach();
  CHECK(!head_trains());
  lora("e", 2).attach(ctx, model);  // the handle is gone, the deltas are not
  CHECK(head_trains());
}

TEST_CASE("states: starts that change the weights, and methods that compute them", "[attach][states]") {
  Context ctx(1);
  Tiny model = tiny(ctx, "bert"), plain = tiny(ctx, "bert");
  const auto base = look(ctx, plain, {}).base;
  LoraPlan plan;
  plan.lora.rank = 2;
  plan.start = pissa();
  DiffPruningPlan diff;
  diff.parameters = {"**.query.weight"};
  auto pissa_on = [&] { return attaches(plan, "p")(ctx, model); };
  auto p = pissa_on();
  CHECK_THROWS_WITH(attaches(diff, "d")(ctx, model), Catch::Contains("query.weight") && Catch::Contains("another delta"));
  auto a = lora("a", 2).attach(ctx, model);
  CHECK_THROWS_WITH(a.merge(ctx), Catch::Contains("query.weight") && Catch::Contains("merge and detach that one first"));
  a.detach();
  const Seen active = look(ctx, model, {});
  p.merge(ctx);
  const Seen merged = look(ctx, model, {});
  for (std::size_t i = 0; i < merged.outputs.size(); ++i) CHECK(merged.outputs[i] == Approx(active.outputs[i]).margin(1e-4));
  p.unmerge(ctx);
  CHECK(look(ctx, model, {}).outputs == active.outputs);
  p.set_enabled(false);
  CHECK(look(ctx, model, {}).base == base);
  p.merge(ctx);
  CHECK(look(ctx, model, {}).base == merged.base);
  p.unmerge(ctx);
  CHECK(!p.enabled());
  CHECK(look(ctx, model, {}).base == base);
  p.detach();
  const Seen left = look(ctx, model, {});
  CHECK(left.base == base);
  CHECK(left.gradients.empty());

  auto m = lora("m", 2).attach(ctx, model);
  m.merge(ctx);
  CHECK_THROWS_WITH(pissa_on(), Catch::Contains("merged into it"));
  CHECK_THROWS_WITH(attaches(diff, "d")(ctx, model), Catch::Contains("merged into it"));
  m.detach();
  attaches(diff, "d")(ctx, model).detach();
}

}  // namespace states
