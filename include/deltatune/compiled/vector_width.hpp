// deltatune::compiled and the program that links it have to be compiled for the same vectors: kernels are cut to them.
#pragma once

#include "deltatune/core/config.hpp"

#if defined(DELTATUNE_COMPILED) && DELTATUNE_COMPILED != DELTATUNE_VECTOR_BYTES
#error "deltatune::compiled was built for other vector instructions than this file: give both the same -march, or link deltatune::deltatune"
#endif
