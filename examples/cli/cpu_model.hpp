// The types of the commands that always run on the CPU.
#pragma once

#include "deltatune/adapters.hpp"
#include "on_device.hpp"

namespace deltatune::cli {

using Context = DefaultCpu::Context;
using X = Tensor<float, DefaultCpu>;

// What merge and inspect need; compiled in cpu.cpp.
extern template LoadedModel<Transformer<X>> load_model<Transformer<X>>(Context&, const std::filesystem::path&, const std::vector<std::filesystem::path>&, bool);

}  // namespace deltatune::cli
