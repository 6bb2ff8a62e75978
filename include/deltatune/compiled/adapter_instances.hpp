// What deltatune::compiled holds of adapters.hpp: every method and every adapter format, for float on the default CPU backend (compiled/instances.hpp).
#pragma once

#include <filesystem>
#include <string>

#include "deltatune/compiled/instances.hpp"

#ifndef DELTATUNE_BERT_ADAPTERS
#define DELTATUNE_BERT_ADAPTERS extern
#endif
#ifndef DELTATUNE_GPT2_ADAPTERS
#define DELTATUNE_GPT2_ADAPTERS extern
#endif

namespace deltatune {

#define DELTATUNE_ADAPTER_INSTANCES(EXTERN, Model)                                                                                      \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, AdaLoraPlan)                                                                                \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, AdapterHubPlan)                                                                             \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, DiffPruningPlan)                                                                            \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, Ia3Plan)                                                                                    \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, NormTuningPlan)                                                                             \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, PTuningPlan)                                                                                \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, PrefixPlan)                                                                                 \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, PromptPlan)                                                                                 \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, VeraPlan)                                                                                   \
  DELTATUNE_METHOD_INSTANCES(EXTERN, Model, AnyPlan)                                                                                    \
  EXTERN template Adapter<CompiledTensor> load_adapter(DefaultCpu::Context&, Model&, const std::filesystem::path&, const std::string&); \
  EXTERN template Adapter<CompiledTensor> load_adapter_beside(DefaultCpu::Context&, Model&, const std::filesystem::path&, const std::string&);

DELTATUNE_ADAPTER_INSTANCES(DELTATUNE_BERT_ADAPTERS, Bert<CompiledTensor>)
DELTATUNE_ADAPTER_INSTANCES(DELTATUNE_GPT2_ADAPTERS, Gpt2<CompiledTensor>)

}  // namespace deltatune
