// The C++ library but for its methods other than LoRA and the reading of adapter folders (adapters.hpp): device-neutral headers, the Reference and
// Cpu backends.
#pragma once

#include "deltatune/backend/cpu.hpp"
#include "deltatune/device_neutral.hpp"
#ifdef DELTATUNE_COMPILED
#include "deltatune/compiled/instances.hpp"
#endif
