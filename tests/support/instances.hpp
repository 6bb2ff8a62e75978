// The models that tests use and the methods on them, compiled once: the models in instances.cpp, methods and adapter folders in method_instances.cpp.
#pragma once

#include "deltatune/adapters.hpp"
#include "deltatune/backend/cpu/gemm_tiled.hpp"
#include "deltatune/backend/reference.hpp"
#include "deltatune/compiled/method_instances.hpp"
#include "deltatune/core/dual.hpp"
#include "support/device.hpp"

#ifndef DELTATUNE_TEST_MODELS
#define DELTATUNE_TEST_MODELS extern
#endif
#ifndef DELTATUNE_TEST_METHODS
#define DELTATUNE_TEST_METHODS extern
#endif
#define DELTATUNE_TEST_INSTANCES(X)                          \
  DELTATUNE_TEST_MODELS template class Transformer<X>;       \
  DELTATUNE_CORE_METHOD_INSTANCES(DELTATUNE_TEST_METHODS, X) \
  DELTATUNE_ADAPTER_INSTANCES(DELTATUNE_TEST_METHODS, X)

namespace deltatune {

using DoubleTensor = Tensor<double, Reference>;
using DualTensor = Tensor<Dual<double>, Reference>;
DELTATUNE_TEST_INSTANCES(DoubleTensor)
#if defined(DELTATUNE_TEST_CUDA) || !defined(DELTATUNE_COMPILED)  // else deltatune::compiled has the device's
DELTATUNE_TEST_INSTANCES(test::DeviceTensor)
#endif
#ifndef DELTATUNE_TEST_CUDA
DELTATUNE_TEST_INSTANCES(DualTensor)
DELTATUNE_TEST_MODELS template class Transformer<Tensor<float, Reference>>;
#ifdef DELTATUNE_HAS_ONEDNN
using TiledTensor = Tensor<float, Cpu<TiledGemm>>;
DELTATUNE_TEST_INSTANCES(TiledTensor)
#endif
#endif

}  // namespace deltatune
