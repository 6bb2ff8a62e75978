#include "cpu_model.hpp"

namespace deltatune::cli {

template LoadedModel<Transformer<X>> load_model<Transformer<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&, bool);

std::unique_ptr<Device> open_cpu(const DeviceOptions& options) { return std::make_unique<OnDevice<X>>(options.rounds_base(), options.threads); }

}  // namespace deltatune::cli
