// deltatune.hpp with every method and every adapter format: load_adapter() of any folder, AnyPlan. Link deltatune::regex or deltatune::compiled.
#pragma once

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/deltatune.hpp"
#ifdef DELTATUNE_COMPILED
#include "deltatune/compiled/adapter_instances.hpp"
#endif
