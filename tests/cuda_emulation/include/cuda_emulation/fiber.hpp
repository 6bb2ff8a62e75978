// Stacks and the switch between them: what the threads of a block run on.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDA_EMULATION_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define CUDA_EMULATION_ASAN 1
#endif
#if defined(CUDA_EMULATION_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

// CUDA_EMULATION_UCONTEXT: the switch of other processors, to test it on this one.
#if defined(__x86_64__) && !defined(CUDA_EMULATION_UCONTEXT)
#define CUDA_EMULATION_OWN_SWITCH 1
#else
#include <ucontext.h>
#endif

namespace cuda_emulation {

inline constexpr std::size_t kPage = 4096;
inline constexpr std::size_t kStackBytes = std::size_t{128} << 10;
inline constexpr std::size_t kMaxThreads = 1024;

// The stacks of one OS thread, each above a page that faults. Memory is taken as it is used.
class Stacks {
 public:
  Stacks() : begin_(static_cast<char*>(mmap(nullptr, kMaxThreads * kStride, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {}
  ~Stacks() { munmap(begin_, kMaxThreads * kStride); }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  std::size_t take() {
    if (free_.empty()) {
      mprotect(bottom(count_), kStackBytes, PROT_READ | PROT_WRITE);
      free_.push_back(count_++);
    }
    const std::size_t stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void give(std::size_t stack) { free_.push_back(stack); }
  char* bottom(std::size_t stack) const { return begin_ + stack * kStride + kPage; }
  // Where the stack starts: shifted from one to the next, or all would want the same lines of the cache.
  char* top(std::size_t stack) const { return bottom(stack) + kStackBytes - stack % 32 * 128; }
  bool holds(const void* address) const { return address >= begin_ && address < begin_ + kMaxThreads * kStride; }

 private:
  static constexpr std::size_t kStride = kStackBytes + kPage;
  char* begin_;
  std::size_t count_ = 0;
  std::vector<std::size_t> free_;
};

#if defined(CUDA_EMULATION_OWN_SWITCH)

// Saves the registers a call preserves on the running stack, the stack in *save, and goes on where `load` was left.
__attribute__((naked, noinline)) inline void switch_stack(void** /*save*/, void* /*load*/) {
  __asm__ volatile(
      "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
      "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
      "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret");
}
struct Fiber {
  void* stack = nullptr;
  void start(char* /*bottom*/, char* top, void (*entry)()) {
    void** words = reinterpret_cast<void**>(top) - 8;
    std::memset(words, 0, 8 * sizeof(void*));  // six registers, the entry, and no return address below it
    words[6] = reinterpret_cast<void*>(entry);
    stack = words;
  }
  static void go(Fiber& from, Fiber& to) { switch_stack(&from.stack, to.stack); }
};

#else

struct Fiber {
  ucontext_t context{};
  void start(char* bottom, char* top, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = bottom;
    context.uc_stack.ss_size = static_cast<std::size_t>(top - bottom);
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  static void go(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
};

#endif

// AddressSanitizer wants to know which stack is in use. One for each stack.
struct StackNotice {
#if defined(CUDA_EMULATION_ASAN)
  void* fake = nullptr;
  void leave(const void* bottom, std::size_t bytes) { __sanitizer_start_switch_fiber(&fake, bottom, bytes); }
  void arrive(const void** from_bottom = nullptr, std::size_t* from_bytes = nullptr) { __sanitizer_finish_switch_fiber(fake, from_bottom, from_bytes); }
#else
  void leave(const void*, std::size_t) {}
  void arrive(const void** = nullptr, std::size_t* = nullptr) {}
#endif
};

}  // namespace cuda_emulation
