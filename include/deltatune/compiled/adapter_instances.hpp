// What deltatune::compiled holds of adapters.hpp: every method and every adapter format, for float on the default CPU backend (compiled/instances.hpp).
#pragma once

#include <filesystem>
#include <string>

#include "deltatune/compiled/instances.hpp"

#ifndef DELTATUNE_ADAPTERS
#define DELTATUNE_ADAPTERS extern
#endif

namespace deltatune {

DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, AdaLoraPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, AdapterHubLoraPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, BottleneckPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, DiffPruningPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, Ia3Plan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, MissPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, NormTuningPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, PTuningPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, PrefixPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, PromptPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, UnionPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, VeraPlan)
DELTATUNE_METHOD_INSTANCES(DELTATUNE_ADAPTERS, AnyPlan)
DELTATUNE_ADAPTERS template Adapter<CompiledTensor> load_adapter(DefaultCpu::Context&, CompiledModel&, const std::filesystem::path&, const std::string&);
DELTATUNE_ADAPTERS template Adapter<CompiledTensor> load_adapter_beside(DefaultCpu::Context&, CompiledModel&, const std::filesystem::path&, const std::string&);

}  // namespace deltatune
