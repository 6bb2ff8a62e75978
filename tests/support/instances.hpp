// The models that tests use and the methods on them, compiled once: those in double in double_instances.cpp, which all programs of tests share; the
// other models in instances.cpp, the methods on them in method_instances.cpp.
#pragma once

#include "deltatune/adapters.hpp"
#include "deltatune/backend/cpu/gemm_tiled.hpp"
#include "deltatune/backend/reference.hpp"
#include "deltatune/compiled/method_instances.hpp"
#include "deltatune/core/dual.hpp"
#include "support/device.hpp"

#ifndef DELTATUNE_TEST_DOUBLE
#define DELTATUNE_TEST_DOUBLE extern
#endif
#ifndef DELTATUNE_TEST_MODELS
#define DELTATUNE_TEST_MODELS extern
#endif
#ifndef DELTATUNE_TEST_METHODS
#define DELTATUNE_TEST_METHODS extern
#endif
#define DELTATUNE_TEST_METHODS_OF(LIST, EXTERN, X) \
  DELTATUNE_CORE_METHODS(LIST, EXTERN, X)          \
  DELTATUNE_ADAPTER_METHODS(LIST, EXTERN, X)

namespace deltatune {

using DoubleTensor = Tensor<double, Reference>;
DELTATUNE_TEST_DOUBLE template class Transformer<DoubleTensor>;
DELTATUNE_TEST_METHODS_OF(DELTATUNE_METHOD_INSTANCES, DELTATUNE_TEST_DOUBLE, DoubleTensor)
DELTATUNE_READER_INSTANCES(DELTATUNE_TEST_DOUBLE, DoubleTensor)

#if defined(DELTATUNE_TEST_CUDA) || !defined(DELTATUNE_COMPILED)  // else deltatune::compiled has the device's
DELTATUNE_TEST_MODELS template class Transformer<test::DeviceTensor>;
DELTATUNE_TEST_METHODS_OF(DELTATUNE_METHOD_INSTANCES, DELTATUNE_TEST_METHODS, test::DeviceTensor)
DELTATUNE_READER_INSTANCES(DELTATUNE_TEST_METHODS, test::DeviceTensor)
#endif

#ifndef DELTATUNE_TEST_CUDA
using DualTensor = Tensor<Dual<double>, Reference>;
DELTATUNE_TEST_MODELS template class Transformer<DualTensor>;
DELTATUNE_TEST_METHODS_OF(DELTATUNE_ATTACH_INSTANCES, DELTATUNE_TEST_METHODS, DualTensor)
DELTATUNE_TEST_MODELS template class Transformer<Tensor<float, Reference>>;
#ifdef DELTATUNE_HAS_ONEDNN
using TiledTensor = Tensor<float, Cpu<TiledGemm>>;
DELTATUNE_TEST_MODELS template class Transformer<TiledTensor>;
DELTATUNE_READER_INSTANCES(DELTATUNE_TEST_METHODS, TiledTensor)
#endif
#endif

}  // namespace deltatune
