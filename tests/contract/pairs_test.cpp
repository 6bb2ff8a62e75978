// Two methods in one model: gradients of both through all of it, on both families.
#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/any_plan.hpp"
#include "deltatune/delta/selections.hpp"
#include "support/gradient_checks.hpp"
#include "support/instances.hpp"
#include "support/shapes.hpp"

namespace {

using namespace deltatune;

struct Pair {
  std::string name;
  AnyPlan first, second;
};

UnionPlan small_preset(const std::string& name) {
  UnionPlan plan = adapterhub_preset(name);
  for (UnionMember& member : plan.members) {
    if (auto* const adapter = std::get_if<BottleneckPlan>(&member)) {
      adapter->reduction.factor = 3;
      adapter->adapter.activation = ops::Activation::silu;  // smooth
    } else if (auto* const prefix = std::get_if<PrefixPlan>(&member)) {
      prefix->prefix.rows = 2;
      prefix->prefix.hidden = 5;
    } else if (auto* const lora = std::get_if<AdapterHubLoraPlan>(&member)) {
      lora->lora.rank = 2;
    }
  }
  return plan;
}

std::vector<Pair> pairs(const ModelFamily& family) {
  LoraPlan lora;
  lora.lora.rank = 2;
  PrefixPlan prefix;
  prefix.prefix.rows = 3;
  PromptPlan prompt;
  prompt.prompt.rows = 2;
  prompt.name = "prompt";
  const SelectionPlan biases = bitfit(family);
  return {{"LoRA + BitFit", lora, biases},
          {"prefix + BitFit", prefix, biases},
          {"Houlsby + BitFit", small_preset("houlsby"), biases},
          {"LoRA + Houlsby", lora, small_preset("houlsby")},
          {"LoRA + prompt", lora, prompt},
          {"prefix + parallel adapter", prefix, small_preset("parallel")},
          {"prefix + prompt", prefix, prompt},
          {"prompt + Houlsby", prompt, small_preset("houlsby")},
          {"Compacter++ + LoRA", small_preset("compacter++"), lora},
          {"LoRA + UniPELT", lora, small_preset("unipelt")},
          {"Pfeiffer + parallel adapter", small_preset("pfeiffer"), small_preset("parallel")}};
}

auto body(const Pair& pair, const std::string& family) {
  return [=]<class X>(check::Trial<X>& trial) {
    using Model = Transformer<X>;
    trial.pass().mode = Mode::differentiate;
    Model fresh(trial.ctx(), test::small_architecture(family), Head::classifier(3));
    AnyPlan first = pair.first, second = pair.second;
    base_of(first).name = "first";
    base_of(second).name = "second";
    attach_beside(trial.ctx(), fresh, first);
    attach_beside(trial.ctx(), fresh, second);
    Model& model = trial.own(std::move(fresh));
    PackedBatch host;
    for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{4, 8, 15, 16}, {23}, {7, 9, 11}}) host.add(tokens);
    host.labels = {0, 2, 1};
    DeviceBatch<X> batch(trial.ctx());
    batch.upload(host, model.embeddings_train(), model.layout());
    typename Model::Activations kept;
    const auto logits = trial.output("logits", 3, 3);
    model.forward(trial.pass(), batch, logits.value, kept);
    if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept, logits.gradient);
  };
}

void check_pairs(const std::string& family) {
  for (const Pair& pair : pairs({test::small_architecture(family), true})) {
    INFO(pair.name << " on " << family);
    test::check_adjoint(body(pair, family));
    test::check_device(body(pair, family), 1e-3);  // rows of a prompt are small, and the norms magnify them
  }
}

}  // namespace

TEST_CASE("two methods at once: gradients through BERT", "[contract][pairs]") { check_pairs("bert"); }
TEST_CASE("two methods at once: gradients through GPT-2", "[contract][pairs]") { check_pairs("gpt2"); }
