// What every method promises (check/contract.hpp), method by method, on small models: width 12, inner width 20, two layers (T5 two in each stack), three
// heads, a vocabulary of 30.
#pragma once

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/any_plan.hpp"
#include "deltatune/check/contract.hpp"
#include "deltatune/delta/lora_start.hpp"
#include "deltatune/model/transformer.hpp"
#include "support/shapes.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune::test {

template <class X>
Transformer<X> small_model(context_of<X>& ctx, const std::string& family) {
  Transformer<X> model(ctx, small_architecture(family, 0.3), family == "gpt2" || family == "t5" ? Head::language_model() : Head::classifier(3));
  model.initialise(ctx, 5);
  return model;
}

inline PackedBatch small_batch(const std::string& family) {
  PackedBatch batch;
  for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{3, 7, 5, 1}, {2, 9}, {4, 4, 8}}) batch.add(tokens);
  if (family == "gpt2" || family == "t5") {
    batch.token_labels = batch.ids;
  } else {
    batch.labels = {0, 2, 1};
  }
  if (family == "t5") {
    PackedBatch source;
    for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{6, 2, 29}, {11, 12, 13, 5, 29}, {8, 29}}) source.add(tokens);
    batch.source.push_back(std::move(source));
  }
  return batch;
}

// Of one family.
template <class X>
class Contracts {
 public:
  explicit Contracts(std::string of) : family(std::move(of)) {}

  template <class Plan>
  void operator()(const std::string& name, const Plan& plan, check::ContractOptions options) const {
    context_of<X> ctx;
    const TemporaryFolder folder;
    options.folder = folder.path();
    INFO(name << " on " << family);
    const auto make = [this](context_of<X>& context) { return small_model<X>(context, family); };
    CHECK(check::contract(ctx, make, small_batch(family), plan, options) == std::vector<std::string>{});
  }

  const std::string family;
};

// Each method with the number of parameters that its header's formula gives.
template <class X>
void check_all_contracts(const std::string& family) {
  const Contracts<X> check_contract(family);
  const bool is_decoder = family == "gpt2";
  const Index layers = 2, width = 12, inner = 20;
  const std::vector<std::string> names = is_decoder ? std::vector<std::string>{"c_attn"} : std::vector<std::string>{"query", "value"};
  const Index outputs = is_decoder ? 3 * width : 2 * width;  // of the targets in a layer
  const Index sites = is_decoder ? 1 : 2;

  LoraPlan lora;
  lora.targets = Targets::named(names);
  lora.lora.rank = 3;
  const Index lora_count = layers * 3 * (sites * width + outputs);
  check_contract("LoRA", lora, {.parameters = lora_count, .merges = true});
  LoraPlan variant = lora;
  variant.lora.rank_stabilized = true;
  variant.lora.dropout = 0.2;
  check_contract("rsLoRA with dropout", variant, {.parameters = lora_count, .merges = true});
  variant = lora;
  variant.dora = true;
  check_contract("DoRA", variant, {.parameters = lora_count + layers * outputs, .merges = true});
  variant.lora.dropout = 0.2;
  check_contract("DoRA with dropout", variant, {.parameters = lora_count + layers * outputs, .merges = true});

  variant = lora;
  variant.lora.bias = true;
  check_contract("LoRA with biases", variant, {.parameters = lora_count + layers * outputs, .merges = true});
  for (const LoraStart& start : {pissa(), olora()}) {
    variant = lora;
    variant.start = start;
    check_contract(start.name, variant, {.parameters = lora_count, .merges = true});
  }
  variant = lora;
  variant.targets = Targets::named({is_decoder ? "wte" : "word_embeddings"});
  const Index table_count = 3 * (30 + width);
  check_contract("LoRA on embeddings", variant, {.parameters = table_count, .merges = true});
  variant.dora = true;
  check_contract("DoRA on embeddings", variant, {.parameters = table_count + width, .merges = true});

  VeraPlan vera;
  vera.vera.rank = 5;
  check_contract("VeRA", vera, {.parameters = layers * (sites * 5 + outputs), .merges = true});

  AdaLoraPlan adalora;
  adalora.adalora.rank = 3;
  adalora.adalora.target = 2;
  adalora.adalora.first = 6;  // pruned ranks would not learn
  check_contract("AdaLoRA", adalora, {.parameters = lora_count + layers * sites * 3, .merges = true});

  NormTuningPlan norms;
  if (!is_decoder) norms.targets = Targets::named({"LayerNorm"});
  check_contract("LayerNorm tuning", norms, {.parameters = (2 * layers + 1) * 2 * width, .merges = true});

  MissPlan miss;
  miss.miss.rank = 5;
  check_contract("MiSS", miss, {.parameters = layers * 5 * outputs, .merges = true});
  miss.miss.mini = 4;
  check_contract("MiSS, mini", miss, {.parameters = layers * 5 * 4 * sites, .merges = true});

  Ia3Plan ia3;
  const Index scaled = is_decoder ? 3 * width + inner : 2 * width + inner + width;  // BERT's output.dense is attention's, too
  check_contract("(IA)3", ia3, {.parameters = layers * scaled, .merges = true});

  const Index rows = 3;
  PrefixPlan prefix;
  prefix.prefix.rows = rows;
  const Index flat = rows * layers * 2 * width;
  check_contract("prefix tuning", prefix, {.parameters = flat, .starts_as_identity = false});
  prefix.prefix.hidden = 5;
  check_contract("prefix tuning, reparametrised", prefix,
                 {.parameters = rows * width + 5 * (width + 1) + layers * 2 * width * (5 + 1), .starts_as_identity = false});

  PromptPlan prompt;
  prompt.prompt.rows = rows;
  check_contract("prompt tuning", prompt, {.parameters = rows * width, .starts_as_identity = false});

  PTuningPlan p_tuning;
  p_tuning.p_tuning.rows = rows;
  p_tuning.p_tuning.hidden = 5;
  check_contract("P-tuning, MLP", p_tuning, {.parameters = rows * width + 5 * (width + 1) + 5 * (5 + 1) + width * (5 + 1), .starts_as_identity = false});
  p_tuning.p_tuning.encoder = PTuningConfig::Encoder::lstm;
  check_contract("P-tuning, LSTM", p_tuning,
                 {.parameters = rows * width + 8 * 5 * (width + 5 + 2) + 8 * 5 * (10 + 5 + 2) + 10 * (10 + 1) + width * (10 + 1), .starts_as_identity = false});

  DiffPruningPlan diff;
  diff.diff.prune_at = 100;
  const Index block = 4 * width * width + 2 * width * inner + 4 * width + inner + width + 4 * width;
  check_contract("diff pruning", diff, {.parameters = 2 * layers * block, .merges = true});
}

}  // namespace deltatune::test
