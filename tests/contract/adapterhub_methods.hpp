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
  const bool is_decoder = family == "gpt2";
  const Index layers = 2, width = 12, inner = 20, d = 4, one = d * (2 * width + 1) + width;

  const auto bottleneck = [](C adapter, bool after_both) {
    return AdapterHubPlan({AdapterHubBottleneck{.adapter = std::move(adapter), .reduction = {3}, .after_attention = after_both}});
  };
  const auto silu = ops::Activation::silu;  // no kinks
  check_contract("Houlsby", bottleneck({.activation = silu}, true), {.parameters = 2 * layers * one, .starts_as_identity = false});
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
                 {.parameters = 2 * layers * (one + 4 * width + width + 1), .starts_as_identity = false});
  const Index n = 2, phm = 2 * n * (width / n + d / n) + d + width;
  check_contract("Compacter", bottleneck({.activation = silu, .phm = PhmConfig{.dim = n, .rule_deviation = 0.5}}, true),
                 {.parameters = 2 * layers * phm + n * n * n, .starts_as_identity = false});

  AdapterHubLoraMember lora{.lora = {.rank = 3, .alpha = 5, .dropout = 0.2}};
  const Index lora_count = layers * 2 * 3 * 2 * width;
  // GPT-2 has one A for each of query and value, too.
  check_contract("AdapterHub's LoRA", AdapterHubPlan({lora}), {.parameters = lora_count, .merges = true});
  lora.gated = true;
  check_contract("AdapterHub's LoRA with gates", AdapterHubPlan({lora}), {.parameters = lora_count + layers * 2 * (width + 1)});
  check_contract("AdapterHub's (IA)3", adapterhub_preset("ia3"), {.parameters = layers * (2 * width + inner), .merges = true});
  const Index rows = 3, hidden = 5, prefix_count = rows * width + hidden * (width + 1) + layers * 2 * width * (hidden + 1);
  AdapterHubPrefix prefix{.prefix = {.rows = rows, .hidden = hidden, .shifts_positions = false}};
  const AdapterHubBottleneck parallel{.adapter = {.activation = silu, .parallel = true, .scale = 4, .start = C::Start::mam_adapter}, .reduction = {3}};
  check_contract("MAM", AdapterHubPlan({prefix, parallel}), {.parameters = prefix_count + layers * one, .starts_as_identity = false});
  prefix.prefix.gates = PrefixConfig::Gates::shared;
  const AdapterHubBottleneck pfeiffer{.adapter = {.activation = silu, .original_ln_before = true, .gated = true}, .reduction = {3}};
  check_contract("UniPELT", AdapterHubPlan({prefix, pfeiffer, lora}),
                 {.parameters = prefix_count + layers * one + lora_count + layers * 4 * (width + 1), .starts_as_identity = false});
  if (is_decoder) return;  // AdapterHub has none of these there
  AdapterHubLoraMember dora{.kind = AdapterHubLoraMember::Kind::dora, .lora = {.rank = 3, .alpha = 5, .dropout = 0.2}};
  check_contract("AdapterHub's DoRA", AdapterHubPlan({dora}), {.parameters = lora_count + layers * 2 * width, .merges = true});
  check_contract("AdapterHub's prompt tuning", AdapterHubPlan({AdapterHubPrompt{.prompt = {.rows = rows, .like_words = false, .after_first = true}}}),
                 {.parameters = rows * width, .starts_as_identity = false});
}

}  // namespace deltatune::test
