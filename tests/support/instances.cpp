#include "support/instances.hpp"

namespace deltatune {

template class Bert<Tensor<float, DefaultCpu>>;
#ifdef DELTATUNE_HAS_ONEDNN
template class Bert<Tensor<float, Cpu<EigenGemm>>>;
#endif
template class Bert<Tensor<float, Reference>>;
template class Bert<Tensor<double, Reference>>;
template class Bert<Tensor<Dual<double>, Reference>>;

}  // namespace deltatune
