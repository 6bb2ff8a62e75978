#include "support/instances.hpp"

namespace deltatune {

#ifdef DELTATUNE_TEST_DEVICE_INSTANCES
template class Bert<Tensor<float, test::Device>>;
template class Gpt2<Tensor<float, test::Device>>;
#endif
template class Bert<Tensor<double, Reference>>;
template class Gpt2<Tensor<double, Reference>>;
#ifndef DELTATUNE_TEST_CUDA
template class Bert<Tensor<float, Reference>>;
template class Gpt2<Tensor<float, Reference>>;
template class Bert<Tensor<Dual<double>, Reference>>;
template class Gpt2<Tensor<Dual<double>, Reference>>;
#ifdef DELTATUNE_HAS_ONEDNN
template class Bert<Tensor<float, Cpu<EigenGemm>>>;
template class Gpt2<Tensor<float, Cpu<EigenGemm>>>;
#endif
#endif

}  // namespace deltatune
