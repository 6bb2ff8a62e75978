// Device memory and pinned host memory.
//
// Device memory lives in one reserved range of addresses that nobody may touch. While queued operations run, an allocation is opened by the
// first access to it (a fault, answered by opening its pages) and closed again at the end. It ends as near to a closed page as its 256-byte
// alignment allows; what its pages hold besides is filled and looked at. Addresses are not given out again, so those of freed memory fault.
#pragma once

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_emulation/fiber.hpp"
#include "cuda_emulation/report.hpp"

namespace cuda_emulation {

inline constexpr int kPoison = 0xff;   // fresh memory: NaN, -1
inline constexpr int kRedZone = 0xfe;  // around an allocation: -1.7e38
inline constexpr std::size_t kAlignment = 256;

struct Allocation {
  char* begin = nullptr;
  std::size_t bytes = 0;
  char* pages = nullptr;
  std::size_t page_bytes = 0;
  bool touched = false;       // has pages of its own
  bool open = false;          // may be accessed
  bool free_pending = false;  // cudaFreeAsync is in a queue
  char* end() const { return begin + bytes; }
};

inline std::string describe(const Allocation& a) { return "the allocation of " + std::to_string(a.bytes) + " bytes at " + to_string(a.begin); }

// First byte in [begin, end) that differs from `value`, or end.
inline const char* first_change(const char* begin, const char* end, int value) {
  if (begin == end || (*begin == static_cast<char>(value) && std::memcmp(begin, begin + 1, static_cast<std::size_t>(end - begin) - 1) == 0)) return end;
  return std::find_if(begin, end, [value](char c) { return c != static_cast<char>(value); });
}

class DeviceMemory {
 public:
  static constexpr std::size_t kReserved = std::size_t{1} << 42;

  // nullptr: more than the device has.
  Allocation* allocate(std::size_t bytes) {
    if (bytes > capacity || live_bytes_ > capacity - bytes) return nullptr;
    if (base_ == nullptr) reserve();
    const std::size_t page_bytes = round_up(round_up(bytes, kAlignment), kPage);
    if (page_bytes >= kHugePage) next_ += (kHugePage - reinterpret_cast<std::uintptr_t>(next_) % kHugePage) % kHugePage;
    if (next_ + page_bytes + kPage > base_ + kReserved) next_ = base_ + kPage;  // around, past what is in use
    for (auto it = live_.lower_bound(next_); it != live_.end() && it->second.pages < next_ + page_bytes + kPage; ++it)
      next_ = it->second.pages + it->second.page_bytes + kPage;
    Allocation a{.begin = next_ + page_bytes - round_up(bytes, kAlignment), .bytes = bytes, .pages = next_, .page_bytes = page_bytes};
    next_ += page_bytes + kPage;
    live_bytes_ += bytes;
    return &live_.emplace(a.pages, a).first->second;
  }

  void release(Allocation& a) {
    if (a.open) {
      check_red_zones(a);
      std::erase(opened_, &a);
    }
    if (a.touched) mmap(a.pages, a.page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    live_bytes_ -= a.bytes;
    freed_.push_back(a);
    if (freed_.size() > 4096) freed_.pop_front();
    live_.erase(a.pages);
  }

  // The live allocation whose pages hold the address.
  Allocation* find(const void* address) {
    const auto after = live_.upper_bound(const_cast<char*>(static_cast<const char*>(address)));
    if (after == live_.begin()) return nullptr;
    Allocation& a = std::prev(after)->second;
    return address < a.pages + a.page_bytes ? &a : nullptr;
  }
  bool holds(const void* address) const { return base_ != nullptr && address >= base_ && address < base_ + kReserved; }

  void open(Allocation& a) {
    const std::lock_guard lock(opening_);
    if (a.open) return;
    if (mprotect(a.pages, a.page_bytes, PROT_READ | PROT_WRITE) != 0) die("the system cannot open " + describe(a) + " (vm.max_map_count?)");
    if (!a.touched) {
      if (a.page_bytes >= kHugePage) madvise(a.pages, a.page_bytes, MADV_HUGEPAGE);  // much cheaper to open and close
      std::memset(a.pages, kRedZone, static_cast<std::size_t>(a.begin - a.pages));
      std::memset(a.begin, kPoison, a.bytes);
      std::memset(a.end(), kRedZone, static_cast<std::size_t>(a.pages + a.page_bytes - a.end()));
    }
    a.touched = true;
    a.open = true;
    opened_.push_back(&a);
  }

  // The end of a run of operations: nothing may be touched any more.
  void close_all() {
    for (Allocation* a : opened_) {
      check_red_zones(*a);
      a->open = false;
      mprotect(a->pages, a->page_bytes, PROT_NONE);
    }
    opened_.clear();
  }

  // Dies unless [begin, begin + bytes) is within one live allocation.
  void need(const void* begin, std::size_t bytes, const std::string& what) {
    if (bytes == 0) return;
    Allocation* a = find(begin);
    if (a == nullptr) die(what + " at " + to_string(begin) + " is not device memory" + history(begin));
    if (begin < a->begin || static_cast<const char*>(begin) + bytes > a->end())
      die(what + " (" + std::to_string(bytes) + " bytes at " + to_string(begin) + ") goes beyond " + describe(*a));
    open(*a);
  }

  // What is known about an address that is in no live allocation.
  std::string history(const void* address) const {
    for (auto it = freed_.rbegin(); it != freed_.rend(); ++it)
      if (address >= it->pages && address < it->pages + it->page_bytes) return ": it was freed (" + describe(*it) + ")";
    const auto after = live_.upper_bound(const_cast<char*>(static_cast<const char*>(address)));
    if (after != live_.begin() && holds(address)) {
      const Allocation& a = std::prev(after)->second;
      if (address >= a.end()) return ": " + std::to_string(static_cast<const char*>(address) - a.end()) + " bytes behind the end of " + describe(a);
    }
    if (after != live_.end() && holds(address))
      return ": " + std::to_string(after->second.begin - static_cast<const char*>(address)) + " bytes before " + describe(after->second);
    return "";
  }

  const std::map<char*, Allocation>& live() const { return live_; }
  std::size_t live_bytes() const { return live_bytes_; }
  std::size_t capacity = std::size_t{80} << 30;

 private:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  static std::size_t round_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

  void reserve() {
    void* range = mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) die("no range of addresses for device memory (ulimit -v?)");
    base_ = static_cast<char*>(range);
    next_ = base_ + kPage;
  }

  static void check_red_zones(const Allocation& a) {
    const char* before = first_change(a.pages, a.begin, kRedZone);
    const char* last = a.pages + a.page_bytes;
    const char* behind = first_change(a.end(), last, kRedZone);
    if (before != a.begin) die("out of bounds: byte " + std::to_string(a.begin - before) + " before " + describe(a) + " was written" + kHint);
    if (behind != last) die("out of bounds: byte " + std::to_string(behind - a.end()) + " behind " + describe(a) + " was written" + kHint);
  }
  static constexpr const char* kHint = " (CUDA_EMULATION_CHECK_EACH=1 in the environment looks after every operation)";

  char* base_ = nullptr;
  char* next_ = nullptr;
  std::size_t live_bytes_ = 0;
  std::map<char*, Allocation> live_;  // by first page
  std::deque<Allocation> freed_;
  std::vector<Allocation*> opened_;
  std::mutex opening_;
};

inline DeviceMemory& device_memory() {
  static auto* memory = new DeviceMemory;  // never destroyed: used by whatever is
  return *memory;
}

// ---- pinned host memory ----
inline std::map<char*, std::size_t>& pinned_memory() {
  static auto* memory = new std::map<char*, std::size_t>;
  return *memory;
}
// The bytes from the address to the end of its pinned allocation; 0 when it is not pinned.
inline std::size_t pinned_bytes(const void* address) {
  char* at = const_cast<char*>(static_cast<const char*>(address));
  const auto after = pinned_memory().upper_bound(at);
  if (after == pinned_memory().begin()) return 0;
  const auto& [begin, bytes] = *std::prev(after);
  return at < begin + bytes ? static_cast<std::size_t>(begin + bytes - at) : 0;
}

// ---- what is alive, for tests ----
struct LiveAllocation {
  const void* address;
  std::size_t bytes;
  bool pinned;
};
inline std::vector<LiveAllocation> live_allocations() {
  std::vector<LiveAllocation> all;
  for (const auto& [pages, a] : device_memory().live()) all.push_back({a.begin, a.bytes, false});
  for (const auto& [begin, bytes] : pinned_memory()) all.push_back({begin, bytes, true});
  return all;
}
inline std::size_t live_bytes() { return device_memory().live_bytes(); }
// For the end of a program: dies with the list of what is still allocated.
inline void report_leaks() {
  std::string list;
  for (const LiveAllocation& a : live_allocations())
    list += "\n  " + std::to_string(a.bytes) + " bytes of " + (a.pinned ? "pinned" : "device") + " memory at " + to_string(a.address);
  if (!list.empty()) die("never freed:" + list);
}
// How much cudaMalloc gives before it answers cudaErrorMemoryAllocation.
inline void set_device_memory(std::size_t bytes) { device_memory().capacity = bytes; }

// ---- faults ----
// Further places of this OS thread whose faults have a meaning (stacks, shared memory): text, or empty when it is not theirs.
using FaultExplainer = std::string (*)(const void* address);
inline constinit thread_local FaultExplainer explain_fault = nullptr;

struct OldHandlers {
  struct sigaction segv;
  struct sigaction bus;
};
inline OldHandlers& old_handlers() {
  static OldHandlers handlers;
  return handlers;
}

inline void on_fault(int signal, siginfo_t* info, void*) {
  const void* address = info->si_addr;
  if (device_memory().holds(address)) {
    Allocation* a = device_memory().find(address);
    if (here.executing && a != nullptr && !a->open) return device_memory().open(*a);  // and the access is tried again
    if (a != nullptr && here.executing && a->open) return;                            // another thread has opened it since
    const std::string who = here.executing ? "the device touched " : "host code touched device memory at ";
    if (a == nullptr) die("out of bounds: " + who + to_string(address) + device_memory().history(address));
    die(who + to_string(address) + ": byte " + std::to_string(static_cast<const char*>(address) - a->begin) + " of " + describe(*a) +
        "; copy it to host memory first");
  }
  if (explain_fault != nullptr) {
    const std::string meaning = explain_fault(address);
    if (!meaning.empty()) die(meaning);
  }
  if (here.executing) die("the device touched " + to_string(address) + ", which is not device memory");
  sigaction(signal, signal == SIGBUS ? &old_handlers().bus : &old_handlers().segv, nullptr);  // not ours: whoever was there before
}

// Makes faults come to on_fault, on a stack of its own. Asked for again and again: test frameworks put their handlers in, and back.
inline void install_fault_handler() {
  struct sigaction current {};
  sigaction(SIGSEGV, nullptr, &current);
  if (current.sa_sigaction != on_fault) {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &old_handlers().segv);
    sigaction(SIGBUS, &action, &old_handlers().bus);
  }
  constexpr std::size_t kBytes = std::size_t{256} << 10;
  stack_t stack{};
  if (sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_DISABLE) == 0 && stack.ss_size >= kBytes / 4) return;
  static thread_local const struct Memory {
    void* begin = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Memory() = default;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() {
      const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
      stack_t used{};
      if (sigaltstack(nullptr, &used) != 0 || used.ss_sp != begin) return;
      sigaltstack(&none, nullptr);
      munmap(begin, kBytes);
    }
  } memory;
  stack = {.ss_sp = memory.begin, .ss_flags = 0, .ss_size = kBytes};
  sigaltstack(&stack, nullptr);
}

}  // namespace cuda_emulation
