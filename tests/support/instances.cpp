#include "support/instances.hpp"

namespace deltatune {

template class Bert<Tensor<float, test::Device>>;
template class Bert<Tensor<double, Reference>>;
#ifndef DELTATUNE_TEST_CUDA
template class Bert<Tensor<float, Reference>>;
template class Bert<Tensor<Dual<double>, Reference>>;
#ifdef DELTATUNE_HAS_ONEDNN
template class Bert<Tensor<float, Cpu<EigenGemm>>>;
#endif
#endif

}  // namespace deltatune
