// The commands on CUDA: all that nvcc sees of this program.
#include "deltatune/backend/cuda.hpp"
#include "on_device.hpp"

namespace deltatune::cli {

std::unique_ptr<Device> open_cuda(int number, bool tf32) { return std::make_unique<OnDevice<Tensor<float, Cuda>>>(CudaOptions{.device = number, .tf32 = tf32}); }

}  // namespace deltatune::cli
