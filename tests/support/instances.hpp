// The models that tests use, compiled once in instances.cpp.
#pragma once

#include "deltatune/backend/cpu.hpp"
#include "deltatune/backend/reference.hpp"
#include "deltatune/core/dual.hpp"
#include "deltatune/model/bert.hpp"

namespace deltatune {

extern template class Bert<Tensor<float, DefaultCpu>>;
#ifdef DELTATUNE_HAS_ONEDNN
extern template class Bert<Tensor<float, Cpu<EigenGemm>>>;
#endif
extern template class Bert<Tensor<float, Reference>>;
extern template class Bert<Tensor<double, Reference>>;
extern template class Bert<Tensor<Dual<double>, Reference>>;

}  // namespace deltatune
