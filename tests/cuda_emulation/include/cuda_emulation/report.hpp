// How the emulation speaks: a mistake that real CUDA would answer with a status gets that status and a text (last_message); one that would
// corrupt memory, hang or kill the context on a device is reported on stderr with the place, and the process aborts.
#pragma once

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "cuda_emulation/order.hpp"
#include "cuda_emulation/types.hpp"

namespace cuda_emulation {

// What this OS thread is doing.
struct Here {
  bool executing = false;          // running queued operations: device memory may be touched
  bool in_thread = false;          // inside a thread of a kernel
  const void* kernel = nullptr;    // the running kernel, or
  const char* activity = nullptr;  // the running operation
};
inline constinit thread_local Here here{};

inline std::string demangled(const char* symbol) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(symbol, nullptr, nullptr, &status), std::free);
  return status == 0 ? name.get() : symbol;
}

// The name of a function from the symbol table of the program or library that holds it; its address where that was stripped.
inline std::string symbol_name(const void* function) {
  char address[32];
  std::snprintf(address, sizeof address, "%p", function);
  Dl_info info{};
  void* extra = nullptr;
  if (dladdr1(function, &info, &extra, RTLD_DL_LINKMAP) == 0 || extra == nullptr) return address;
  if (info.dli_sname != nullptr && info.dli_saddr == function) return demangled(info.dli_sname);
  const auto* map = static_cast<const link_map*>(extra);
  const int file = open(map->l_name[0] != '\0' ? map->l_name : "/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (file < 0 || fstat(file, &status) != 0) return address;
  const auto bytes = static_cast<std::size_t>(status.st_size);
  void* content = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (content == MAP_FAILED) return address;
  const auto* base = static_cast<const char*>(content);
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(base + header->e_shoff);
  std::string name = address;
  for (unsigned s = 0; s < header->e_shnum; ++s) {
    if (sections[s].sh_type != SHT_SYMTAB) continue;
    const auto* symbols = reinterpret_cast<const Elf64_Sym*>(base + sections[s].sh_offset);
    const char* strings = base + sections[sections[s].sh_link].sh_offset;
    for (std::size_t i = 0; i < sections[s].sh_size / sizeof(Elf64_Sym); ++i)
      if (ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC && map->l_addr + symbols[i].st_value == reinterpret_cast<std::uintptr_t>(function))
        name = demangled(strings + symbols[i].st_name);
  }
  munmap(content, bytes);
  return name;
}

inline const std::string& kernel_name(const void* function) {
  static auto* names = new std::map<const void*, std::string>;  // never destroyed: reports may come during exit
  std::string& name = (*names)[function];
  if (name.empty()) name = symbol_name(function);
  return name;
}

inline std::string to_string(uint3 v) { return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")"; }
inline std::string to_string(const void* address) {
  char text[32];
  std::snprintf(text, sizeof text, "%p", address);
  return text;
}

inline std::string where() {
  if (!here.executing) return "host code";
  if (here.in_thread) return "kernel " + kernel_name(here.kernel) + ", block " + to_string(blockIdx) + ", thread " + to_string(threadIdx);
  if (here.kernel != nullptr) return "kernel " + kernel_name(here.kernel) + ", block " + to_string(blockIdx);
  return here.activity != nullptr ? here.activity : "the end of a run of queued operations";
}

[[noreturn]] inline void die(const std::string& what) {
  std::fprintf(stderr, "cuda emulation: %s\n  (in %s; threads run in the order %s)\n", what.c_str(), where().c_str(), order_name().c_str());
  std::fflush(stderr);
  std::abort();
}

// ---- status codes ----
struct LastError {
  cudaError_t code = cudaSuccess;
  std::string message;
};
inline LastError& last_error() {
  thread_local LastError error;
  return error;
}
// Why the last call that failed on this thread failed.
inline const std::string& last_message() { return last_error().message; }

inline cudaError_t fail(cudaError_t code, std::string message) {
  last_error() = {code, std::move(message)};
  return code;
}

}  // namespace cuda_emulation
