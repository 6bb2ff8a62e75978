// What every method promises (check/contract.hpp), for AdapterHub's methods.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "contract/methods.hpp"
#include "deltatune/attach/adapterhub_format.hpp"

namespace deltatune::test {

template <class X>
void check_adapterhub_contracts(const std::string& family) {
  const Contracts<X> check_contract(family);
  using C = BottleneckConfig;
  const bool is_decoder = family == "gpt2", has_cross = family == "t5";
  const Index layers = has_cross ? 4 : 2, cross = has_cross ? 2 : 0, both = 2 * layers + cross, attentions = layers + cross;
  const Index width = 12, inner = 20, d = 4, one = d * (2 * width + 1) + width;

  const auto bottleneck = [=](C adapter, bool after_both) {
    BottleneckPlan plan;
    plan.adapter = std::move(adapter);
    plan.reduction = {3};
    plan.after_attention = after_both;
    plan.after_cross_attention = after_both && has_cross;
    return plan;
  };
  const auto silu = ops::Activation::silu;  // no kinks
  check_contract("Houlsby", bottleneck({.activation = silu}, true), {.parameters = both * one, .starts_as_identity = false});
  check_contract("Pfeiffer", bottleneck({.activation = silu, .original_ln_before = true}, false), {.parameters = layers * one, .starts_as_identity = false});
  check_contract("parallel", bottleneck({.activation = silu, .parallel = true, .scale = 4, .start = C::Start::mam_adapter}, false),
                 {.parameters = layers * one});
  check_contract("Adapter+",
                 bottleneck({.activation = silu,
                             .original_ln_before = true,
                             .original_ln_after = false,
                             .residual = C::Residual::after_ln,
                             .scaling = C::Scaling::channel,
                             .stochastic_depth = 0.1,
                             .start = C::Start::houlsby},
                            false),
                 {.parameters = layers * (one + width), .starts_as_identity = false});
  check_contract("Houlsby with norms, gates and dropout",
                 bottleneck({.activation = silu, .ln_before = true, .ln_after = true, .gated = true, .dropout = 0.2}, true),
                 {.parameters = both * (one + 4 * width + width + 1), .starts_as_identity = false});
  const Index n = 2, phm = 2 * n * (width / n + d / n) + d + width;
  check_contract("Compacter", bottleneck({.activation = silu, .phm = PhmConfig{.dim = n, .rule_deviation = 0.5}}, true),
                 {.parameters = both * phm + n * n * n, .starts_as_identity = false});

  AdapterHubLoraPlan lora;
  lora.lora = {.rank = 3, .alpha = 5, .dropout = 0.2};
  const Index lora_count = attentions * 2 * 3 * 2 * width;
  // GPT-2 has one A for each of query and value, too.
  check_contract("AdapterHub's LoRA", lora, {.parameters = lora_count, .merges = true});
  lora.gated = true;
  check_contract("AdapterHub's LoRA with gates", lora, {.parameters = lora_count + attentions * 2 * (width + 1)});
  check_contract("AdapterHub's (IA)3", adapterhub_preset("ia3"), {.parameters = attentions * 2 * width + layers * inner, .merges = true});
  AdapterHubLoraPlan ungated = lora;
  ungated.gated = false;
  UnionPlan lora_and_adapters({bottleneck({.activation = silu}, true), ungated});
  check_contract("Houlsby and LoRA", lora_and_adapters, {.parameters = both * one + lora_count, .starts_as_identity = false});
  if (!is_decoder) {  // AdapterHub has none there
    AdapterHubLoraPlan dora;
    dora.kind = AdapterHubLoraPlan::Kind::dora;
    dora.lora = lora.lora;
    check_contract("AdapterHub's DoRA", dora, {.parameters = lora_count + attentions * 2 * width, .merges = true});
  }
  if (has_cross) return;  // prefixes and prompts
  const Index rows = 3, hidden = 5, prefix_count = rows * width + hidden * (width + 1) + layers * 2 * width * (hidden + 1);
  PrefixPlan prefix = UnionPlan::adapterhub_prefix(rows, hidden);
  const BottleneckPlan parallel = bottleneck({.activation = silu, .parallel = true, .scale = 4, .start = C::Start::mam_adapter}, false);
  check_contract("MAM", UnionPlan({prefix, parallel}), {.parameters = prefix_count + layers * one, .starts_as_identity = false});
  prefix.prefix.gates = PrefixConfig::Gates::shared;
  const BottleneckPlan pfeiffer = bottleneck({.activation = silu, .original_ln_before = true, .gated = true}, false);
  check_contract("UniPELT", UnionPlan({prefix, pfeiffer, lora}),
                 {.parameters = prefix_count + layers * one + lora_count + layers * 4 * (width + 1), .starts_as_identity = false});
  if (is_decoder) return;  // AdapterHub has none there
  PromptPlan prompt = UnionPlan::adapterhub_prompt();
  prompt.prompt.rows = rows;
  prompt.prompt.after_first = true;
  check_contract("AdapterHub's prompt tuning", UnionPlan::of(prompt), {.parameters = rows * width, .starts_as_identity = false});
}

}  // namespace deltatune::test
