// The commands on CUDA: all that nvcc sees of this program.
#include "deltatune/backend/cuda.hpp"
#include "deltatune/model/bert.hpp"
#include "deltatune/model/gpt2.hpp"
#include "on_device.hpp"

namespace deltatune::cli {

std::unique_ptr<Device> open_cuda(int number, const DeviceOptions& options) {
  using X = Tensor<float, Cuda>;
  return std::make_unique<OnDevice<Bert<X>, Gpt2<X>>>(options.rounds_base(), CudaOptions{.device = number, .tf32 = options.tf32});
}

}  // namespace deltatune::cli
