// The types of the commands that always run on the CPU, and where they are compiled: cpu_bert.cpp, cpu_gpt2.cpp.
#pragma once

#include "deltatune/adapters.hpp"
#include "on_device.hpp"

namespace deltatune::cli {

using Context = DefaultCpu::Context;
using X = Tensor<float, DefaultCpu>;

extern template std::unique_ptr<DeviceModel> load_on<Bert<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&, bool);
extern template std::unique_ptr<DeviceTraining> train_on<Bert<X>>(Context&, const Recipe&, bool);
extern template std::unique_ptr<DeviceModel> load_on<Gpt2<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&, bool);
extern template std::unique_ptr<DeviceTraining> train_on<Gpt2<X>>(Context&, const Recipe&, bool);

// What merge and inspect need of them.
extern template LoadedModel<Bert<X>> load_model<Bert<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&);
extern template LoadedModel<Gpt2<X>> load_model<Gpt2<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&);

}  // namespace deltatune::cli
