// open_cuda() of a program that was built with CUDA: it is in a module beside the program, or where `cmake --install` puts it.
#include <dlfcn.h>

#include <string>

#include "cuda_module.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune::cli {

namespace {

namespace fs = std::filesystem;

constexpr const char* kModule = "deltatune_cuda.so";

fs::path module_path() {
  const fs::path folder = fs::read_symlink("/proc/self/exe").parent_path();
  const fs::path beside = folder / kModule;
  const fs::path installed = (folder / DELTATUNE_MODULE_FOLDER / kModule).lexically_normal();
  for (const fs::path& path : {beside, installed})
    if (fs::exists(path)) return path;
  throw Error("--device", std::string("the program's CUDA module ") + kModule + " is not there",
              {.expected = beside.string() + " or " + installed.string(), .remedy = "put it back, build or install the program again, or use --device cpu"});
}

}  // namespace

std::unique_ptr<Device> open_cuda(int number, const DeviceOptions& options) {
  const fs::path path = module_path();
  void* const module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: what it makes is its code
  if (module == nullptr)
    throw Error("--device", "the program's CUDA module can't be loaded",
                {.got = dlerror(), .remedy = "name the folder of the CUDA libraries in LD_LIBRARY_PATH, or use --device cpu"});
  const auto open = reinterpret_cast<decltype(&deltatune_open_cuda)>(dlsym(module, "deltatune_open_cuda"));
  if (open == nullptr)
    throw Error("--device", path.string() + " is not this program's CUDA module",
                {.got = dlerror(), .remedy = "build or install the program again, or use --device cpu"});
  std::unique_ptr<Device> device;
  open(number, options, device);
  return device;
}

}  // namespace deltatune::cli
