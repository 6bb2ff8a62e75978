// The options of the commands that run on a device.
#pragma once

#include <CLI/CLI.hpp>

#include "device.hpp"

namespace deltatune::cli {

inline void add_device_options(CLI::App& command, DeviceOptions& options) {
  command.add_option("--device", options.device, "Where to compute: cpu, cuda, or cuda:1 for the second GPU")->capture_default_str()->type_name("DEVICE");
  command.add_option("--threads", options.threads, "Threads of the CPU [all processors]")->check(CLI::Range(0, 1024))->type_name("N");
  command.add_option("--base-precision", options.base_precision, "Frozen weights: float32, or bf16 for half the memory and faster products")
      ->check(CLI::IsMember({"float32", "bf16"}))
      ->capture_default_str();
  command.add_flag("--tf32", options.tf32, "On CUDA: multiply with the 10-bit mantissa of TF32, on tensor cores");
}

}  // namespace deltatune::cli
