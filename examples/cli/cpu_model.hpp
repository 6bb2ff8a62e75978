// The types of the commands that always run on the CPU.
#pragma once

#include "deltatune/backend/cpu.hpp"
#include "deltatune/model/bert.hpp"
#include "model_io.hpp"

namespace deltatune::cli {

using Context = DefaultCpu::Context;
using X = Tensor<float, DefaultCpu>;
using Model = Bert<X>;

}  // namespace deltatune::cli

// Compiled once, in cpu.cpp.
extern template class deltatune::Bert<deltatune::cli::X>;
