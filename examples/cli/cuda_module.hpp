// What the program calls in deltatune_cuda.so. Both are built from the same sources: the module is no interface for others.
#pragma once

#include <memory>

#include "device.hpp"

// Throws deltatune::Error when there is no driver or no such device.
extern "C" void deltatune_open_cuda(int number, const deltatune::cli::DeviceOptions& options, std::unique_ptr<deltatune::cli::Device>& device);
