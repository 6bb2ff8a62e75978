// deltatune::compiled and the program that links it have to be compiled for the same vectors: how Eigen aligns memory depends on them.
#pragma once

#if defined(__AVX512F__)
#define DELTATUNE_VECTOR_BYTES 64
#elif defined(__AVX__)
#define DELTATUNE_VECTOR_BYTES 32
#else
#define DELTATUNE_VECTOR_BYTES 16
#endif

#if defined(DELTATUNE_COMPILED) && DELTATUNE_COMPILED != DELTATUNE_VECTOR_BYTES
#error "deltatune::compiled was built for other vector instructions than this file: give both the same -march, or link deltatune::deltatune"
#endif
