// Compiler and device words. The only header that asks which compiler reads it.
#pragma once

#if defined(__CUDACC__)
#define DELTATUNE_HD __host__ __device__
#else
#define DELTATUNE_HD
#endif

// Functions of the number type that must disappear into the loop around them, or the loop does not vectorise.
#if defined(__CUDACC__)
#define DELTATUNE_INLINE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define DELTATUNE_INLINE __attribute__((always_inline)) inline
#else
#define DELTATUNE_INLINE inline
#endif

#define DELTATUNE_RESTRICT __restrict__

// Functions that are long, called for long work, and would be copied into every caller.
#if defined(__CUDACC__) || !defined(__GNUC__)
#define DELTATUNE_NOINLINE
#else
#define DELTATUNE_NOINLINE __attribute__((noinline))
#endif

// Functions that are no templates. Header-only, they are inline. With deltatune::compiled (DELTATUNE_COMPILED), programs see their bodies and emit none
// of them: the library has them all. (optimize(0) is how g++ is told not to copy them into their callers after all: it takes no noinline here.)
#if defined(DELTATUNE_BUILDS_COMPILED)
#define DELTATUNE_FUNCTION __attribute__((used)) inline
#elif defined(DELTATUNE_COMPILED) && defined(__clang__)
#define DELTATUNE_FUNCTION __attribute__((gnu_inline, noinline)) inline
#pragma clang diagnostic ignored "-Wgnu-inline-cpp-without-extern"
#elif defined(DELTATUNE_COMPILED)
#define DELTATUNE_FUNCTION __attribute__((gnu_inline, optimize(0))) inline
#else
#define DELTATUNE_FUNCTION inline
#endif

// The dynamic shared memory of the running thread block as `unsigned char* name`, 16-byte aligned. Other compilers than nvcc compile kernels
// against an emulation of the CUDA runtime (tests/cuda_emulation).
#if defined(__CUDACC__)
#define DELTATUNE_SHARED_MEMORY(name)                                              \
  extern __shared__ __align__(16) unsigned char deltatune_dynamic_shared_memory[]; \
  unsigned char* name = deltatune_dynamic_shared_memory
#else
#define DELTATUNE_SHARED_MEMORY(name) unsigned char* name = static_cast<unsigned char*>(cudaEmulationSharedMemory())
#endif

// A loop whose iterations are independent. Works with and without OpenMP on the command line.
#if defined(__CUDACC__)
#define DELTATUNE_SIMD
#elif defined(__clang__)
#define DELTATUNE_SIMD _Pragma("clang loop vectorize(enable) interleave(enable)")
#elif defined(__GNUC__)
#define DELTATUNE_SIMD _Pragma("GCC ivdep")
#else
#define DELTATUNE_SIMD
#endif

// A loop of at most 16 iterations that must all stand in the code, so that the arrays they index stay in registers.
#if defined(__CUDA_ARCH__) || (defined(__clang__) && !defined(__CUDACC__))
#define DELTATUNE_UNROLL _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__CUDACC__)
#define DELTATUNE_UNROLL _Pragma("GCC unroll 16")
#else  // what nvcc hands to the host's compiler: neither of them knows the other's word
#define DELTATUNE_UNROLL
#endif

// A loop whose body uses all registers.
#if defined(__clang__) && !defined(__CUDACC__)
#define DELTATUNE_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define DELTATUNE_NO_UNROLL
#endif

// What a register of the processor holds. Larger vectors are kept in memory.
#if defined(__AVX512F__)
#define DELTATUNE_VECTOR_BYTES 64
#elif defined(__AVX__)
#define DELTATUNE_VECTOR_BYTES 32
#else
#define DELTATUNE_VECTOR_BYTES 16
#endif
