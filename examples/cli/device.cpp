#include "device.hpp"

#include <charconv>

#include "deltatune/core/error.hpp"

namespace deltatune::cli {

namespace {

// The number of "cuda" or "cuda:NUMBER"; -1 for anything else.
int cuda_number(const std::string& device) {
  if (device == "cuda") return 0;
  int number = -1;
  const std::string prefix = "cuda:";
  const char* const end = device.data() + device.size();
  if (!device.starts_with(prefix) || std::from_chars(device.data() + prefix.size(), end, number).ptr != end) return -1;
  return number;
}

}  // namespace

std::unique_ptr<Device> open_device(const DeviceOptions& options) {
  if (options.device == "cpu") {
    if (options.tf32) throw Error("--tf32", "is not for the CPU", {.remedy = "leave it out, or use --device cuda"});
    return open_cpu(options);
  }
  const int number = cuda_number(options.device);
  if (number < 0) throw Error("--device", "is not known", {.expected = "cpu, cuda or cuda:NUMBER", .got = "\"" + options.device + "\""});
  if (options.threads > 0) throw Error("--threads", "is for the CPU", {.remedy = "leave it out, or use --device cpu"});
  return open_cuda(number, options);
}

}  // namespace deltatune::cli
