// Lines of "BYTES KERNEL": the most dynamic shared memory that a launch of each kernel has asked for.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

void run_every_kernel();

int main() {
  cuda_emulation::record_launches(true);
  run_every_kernel();
  std::map<std::string, std::size_t> bytes;
  for (const auto& launch : cuda_emulation::launches()) bytes[launch.name()] = std::max(bytes[launch.name()], launch.shared_bytes);
  for (const auto& [kernel, most] : bytes) std::printf("%zu %s\n", most, kernel.c_str());
  return 0;
}
