#include "cpu_model.hpp"

namespace deltatune::cli {

template LoadedModel<Gpt2<X>> load_model<Gpt2<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&);
template std::unique_ptr<DeviceModel> load_on<Gpt2<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&, bool);
template std::unique_ptr<DeviceTraining> train_on<Gpt2<X>>(Context&, const Recipe&, bool);

}  // namespace deltatune::cli
