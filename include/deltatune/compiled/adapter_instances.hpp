// What deltatune::compiled holds of adapters.hpp: every method and every adapter format, for float on the default CPU backend (compiled/instances.hpp).
#pragma once

#include <filesystem>
#include <string>

#include "deltatune/compiled/instances.hpp"

#ifndef DELTATUNE_ADAPTERS
#define DELTATUNE_ADAPTERS extern
#endif

namespace deltatune {

DELTATUNE_ADAPTER_METHODS(DELTATUNE_METHOD_INSTANCES, DELTATUNE_ADAPTERS, CompiledTensor)
DELTATUNE_READER_INSTANCES(DELTATUNE_ADAPTERS, CompiledTensor)

}  // namespace deltatune
