#include "cpu_model.hpp"

namespace deltatune::cli {

template LoadedModel<Bert<X>> load_model<Bert<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&);
template std::unique_ptr<DeviceModel> load_on<Bert<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&, bool);
template std::unique_ptr<DeviceTraining> train_on<Bert<X>>(Context&, const Recipe&, bool);

}  // namespace deltatune::cli
