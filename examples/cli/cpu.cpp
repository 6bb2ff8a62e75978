#include "cpu_model.hpp"
#include "on_device.hpp"

template class deltatune::Bert<deltatune::cli::X>;

namespace deltatune::cli {

std::unique_ptr<Device> open_cpu(int threads) { return std::make_unique<OnDevice<X>>(threads); }

}  // namespace deltatune::cli
