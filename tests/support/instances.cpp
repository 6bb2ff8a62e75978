#include "support/instances.hpp"

namespace deltatune {

#ifdef DELTATUNE_TEST_DEVICE_INSTANCES
template class Transformer<Tensor<float, test::Device>>;
#endif
template class Transformer<Tensor<double, Reference>>;
#ifndef DELTATUNE_TEST_CUDA
template class Transformer<Tensor<float, Reference>>;
template class Transformer<Tensor<Dual<double>, Reference>>;
#ifdef DELTATUNE_HAS_ONEDNN
template class Transformer<Tensor<float, Cpu<TiledGemm>>>;
#endif
#endif

}  // namespace deltatune
