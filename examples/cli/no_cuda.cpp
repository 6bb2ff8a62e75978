// In place of load_cuda.cpp where there is no nvcc.
#include "deltatune/core/error.hpp"
#include "device.hpp"

namespace deltatune::cli {

std::unique_ptr<Device> open_cuda(int, const DeviceOptions&) {
  throw Error("--device", "this program was built without CUDA", {.remedy = "configure with -DDELTATUNE_WITH_CUDA=ON, or use --device cpu"});
}

}  // namespace deltatune::cli
