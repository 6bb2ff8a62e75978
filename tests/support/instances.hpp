// The models that tests use, compiled once in instances.cpp.
#pragma once

#include "deltatune/backend/cpu/gemm_tiled.hpp"
#include "deltatune/backend/reference.hpp"
#include "deltatune/core/dual.hpp"
#include "deltatune/model/bert.hpp"
#include "deltatune/model/gpt2.hpp"
#include "support/device.hpp"
#if defined(DELTATUNE_COMPILED) && !defined(DELTATUNE_TEST_CUDA)
#include "deltatune/adapters.hpp"  // the device's are in deltatune::compiled
#else
#define DELTATUNE_TEST_DEVICE_INSTANCES
#endif

namespace deltatune {

#ifdef DELTATUNE_TEST_DEVICE_INSTANCES
extern template class Transformer<Tensor<float, test::Device>>;
#endif
extern template class Transformer<Tensor<double, Reference>>;
#ifndef DELTATUNE_TEST_CUDA
extern template class Transformer<Tensor<float, Reference>>;
extern template class Transformer<Tensor<Dual<double>, Reference>>;
#ifdef DELTATUNE_HAS_ONEDNN
extern template class Transformer<Tensor<float, Cpu<TiledGemm>>>;
#endif
#endif

}  // namespace deltatune
