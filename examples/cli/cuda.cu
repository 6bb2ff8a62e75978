// The commands on CUDA: all that nvcc sees of this program. A module of its own, deltatune_cuda.so, that load_cuda.cpp opens for --device cuda, so
// that no other run of the program loads the CUDA runtime and cuBLAS.
#include "cuda_module.hpp"
#include "deltatune/backend/cuda.hpp"
#include "deltatune/model/transformer.hpp"
#include "on_device.hpp"

extern "C" __attribute__((visibility("default"))) void deltatune_open_cuda(int number, const deltatune::cli::DeviceOptions& options,
                                                                           std::unique_ptr<deltatune::cli::Device>& device) {
  using namespace deltatune;
  using X = Tensor<float, Cuda>;
  device = std::make_unique<cli::OnDevice<X>>(options.rounds_base(), CudaOptions{.device = number, .tf32 = options.tf32});
}
