#include "cpu_model.hpp"

namespace deltatune::cli {

std::unique_ptr<Device> open_cpu(const DeviceOptions& options) { return std::make_unique<OnDevice<Bert<X>, Gpt2<X>>>(options.rounds_base(), options.threads); }

}  // namespace deltatune::cli
