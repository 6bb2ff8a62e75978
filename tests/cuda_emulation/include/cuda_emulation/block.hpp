// The threads of a block: fibers that take turns, and meet at barriers and in the operations of a warp.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <string>
#include <vector>

#include "cuda_emulation/fiber.hpp"
#include "cuda_emulation/memory.hpp"
#include "cuda_emulation/order.hpp"
#include "cuda_emulation/report.hpp"
#include "cuda_emulation/types.hpp"

namespace cuda_emulation {

inline constexpr std::size_t kDefaultShared = std::size_t{48} << 10;
// What a kernel may raise its dynamic shared memory to: that of compute capability 9.0 until a test wants less.
inline std::size_t& shared_limit() {
  static std::size_t bytes = std::size_t{227} << 10;
  return bytes;
}
inline void set_shared_limit(std::size_t bytes) { shared_limit() = bytes; }

// A kernel with its arguments, ready to be called by any number of threads.
struct Launch {
  const void* kernel = nullptr;
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
  void (*call)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
};

// Dynamic shared memory of one OS thread. It ends at a page that faults, up to the 16 bytes of its alignment.
class SharedMemory {
 public:
  SharedMemory() : pages_(static_cast<char*>(mmap(nullptr, kBytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    mprotect(pages_ + kPage, kBytes, PROT_READ | PROT_WRITE);
  }
  ~SharedMemory() { munmap(pages_, kBytes + 2 * kPage); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void prepare(std::size_t bytes) {
    begin_ = end() - (bytes + 15) / 16 * 16;
    bytes_ = bytes;
    std::memset(begin_ - kZone, kRedZone, kZone);
    std::memset(begin_, kPoison, bytes);
    std::memset(begin_ + bytes, kRedZone, static_cast<std::size_t>(end() - begin_) - bytes);
  }
  void check() const {
    if (first_change(begin_ - kZone, begin_, kRedZone) != begin_) die("shared memory overrun: bytes before its start were written");
    if (first_change(begin_ + bytes_, end(), kRedZone) != end())
      die("shared memory overrun: bytes behind the " + std::to_string(bytes_) + " requested ones were written");
  }
  void* get() const { return begin_; }
  std::size_t bytes() const { return bytes_; }
  bool holds(const void* address) const { return address >= pages_ && address < pages_ + kBytes + 2 * kPage; }

 private:
  static constexpr std::size_t kZone = 64;
  static constexpr std::size_t kBytes = std::size_t{256} << 10;
  char* end() const { return pages_ + kPage + kBytes; }
  char* pages_;
  char* begin_ = nullptr;
  std::size_t bytes_ = 0;
};

class Block {
 public:
  enum class WarpOperation { sync, shuffle, ballot };

  // Runs one block of the launch from its first thread to its last.
  void run(const Launch& launch, uint3 index, Random random) {
    launch_ = &launch;
    blockIdx = index;
    blockDim = launch.block;
    gridDim = launch.grid;
    shared_.prepare(launch.shared_bytes);
    const std::size_t count = std::size_t{launch.block.x} * launch.block.y * launch.block.z;
    number_threads(count);
    at_barrier_ = 0;
    // A warp runs as far as it gets, to the next barrier of the block, before another has its turn: what no barrier forbids happens.
    const std::size_t warps = (count + 31) / 32;
    for (std::size_t left = count; left > 0;) {
      Turns warp_turns(warps, random);
      bool stuck = true;
      for (std::size_t w = 0; w < warps; ++w) {
        const std::size_t first = warp_turns() * 32;
        const std::size_t lanes = std::min<std::size_t>(32, count - first);
        for (bool moved = true; moved;) {
          moved = false;
          Turns lane_turns(lanes, random);
          for (std::size_t i = 0; i < lanes; ++i) {
            Thread& thread = threads_[first + lane_turns()];
            if (thread.state > State::ready) continue;
            moved = true;
            stuck = false;
            resume(thread);
            if (thread.state == State::done) --left;
          }
        }
      }
      if (stuck) report_stuck();
    }
    shared_.check();
  }

  void barrier(std::source_location where) {
    Thread& self = *running_;
    self.where = where;
    if (++at_barrier_ < threads_.size()) return wait(State::barrier);
    at_barrier_ = 0;
    for (Thread& thread : threads_) {
      if (!same_place(thread.where, where))
        die("divergent barrier: thread " + to_string(thread.index) + " waits at the __syncthreads of " + place(thread.where) + ", thread " +
            to_string(self.index) + " at that of " + place(where));
      thread.state = State::ready;
    }
  }

  // Meets the other lanes of the mask; the result for this lane. source: the lane whose value a shuffle wants.
  std::uint64_t warp(WarpOperation operation, unsigned mask, std::uint64_t value, unsigned source, std::source_location where) {
    Thread& self = *running_;
    self.where = where;
    self.operation = operation;
    self.mask = mask;
    self.value = value;
    self.source = source;
    if ((mask >> lane(self) & 1U) == 0) die("a warp operation at " + place(where) + " whose mask does not name the calling lane");
    self.state = State::warp;
    if (!finish_warp(self)) wait(State::warp);
    return self.result;
  }

  unsigned lane() const { return lane(*running_); }
  const SharedMemory& shared() const { return shared_; }
  const Stacks& stacks() const { return stacks_; }

 private:
  enum class State : unsigned char { fresh, ready, barrier, warp, done };
  struct Thread {
    State state = State::fresh;
    WarpOperation operation = WarpOperation::sync;
    unsigned mask = 0;
    unsigned source = 0;
    unsigned linear = 0;
    uint3 index{};
    std::size_t stack = 0;
    std::uint64_t value = 0;
    std::uint64_t result = 0;
    std::source_location where;
    Fiber fiber;
  };

  void number_threads(std::size_t count) {
    if (threads_.size() != count || numbered_.x != blockDim.x || numbered_.y != blockDim.y) {
      threads_.resize(count);
      for (unsigned i = 0; i < count; ++i) {
        threads_[i].linear = i;
        threads_[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
      }
      numbered_ = blockDim;
    }
    for (Thread& thread : threads_) thread.state = State::fresh;
  }

  void resume(Thread& thread);
  static void thread_main();

  // Lets others run until this thread's state is set to ready.
  void wait(State state) {
    Thread& self = *running_;
    self.state = state;
    leave_thread(self);
    notices_[self.stack].arrive(&scheduler_bottom_, &scheduler_bytes_);
  }
  void leave_thread(Thread& self) {
    notices_[self.stack].leave(scheduler_bottom_, scheduler_bytes_);
    Fiber::go(self.fiber, scheduler_);
  }

  static unsigned lane(const Thread& thread) { return thread.linear % 32; }

  // Gives all lanes of the mask their results if the last of them is there. Lanes that have finished, or are beyond the block, are not
  // waited for; what is read from them is poison.
  bool finish_warp(Thread& self) {
    const std::size_t first = self.linear / 32 * 32;
    const std::size_t count = std::min<std::size_t>(32, threads_.size() - first);
    unsigned present = 0;
    for (unsigned i = 0; i < count; ++i) {
      const Thread& other = threads_[first + i];
      if ((self.mask >> i & 1U) == 0 || other.state == State::done) continue;
      if (other.state != State::warp || other.mask != self.mask || other.operation != self.operation || !same_place(other.where, self.where)) return false;
      present |= 1U << i;
    }
    std::uint64_t votes = 0;
    for (unsigned i = 0; i < count; ++i)
      if ((present >> i & 1U) != 0 && threads_[first + i].value != 0) votes |= std::uint64_t{1} << i;
    for (unsigned i = 0; i < count; ++i) {
      if ((present >> i & 1U) == 0) continue;
      Thread& other = threads_[first + i];
      other.result = votes;
      if (self.operation == WarpOperation::shuffle)
        other.result = (present >> other.source & 1U) != 0 ? threads_[first + other.source].value : ~std::uint64_t{0};
      other.state = State::ready;
    }
    return true;
  }

  // A finished thread may be the one the rest of its warp did not need to wait for.
  void finish_warp_without(const Thread& gone) {
    const std::size_t first = gone.linear / 32 * 32;
    for (std::size_t i = first; i < std::min(first + 32, threads_.size()); ++i)
      if (threads_[i].state == State::warp && (threads_[i].mask >> lane(gone) & 1U) != 0 && finish_warp(threads_[i])) return;
  }

  static bool same_place(std::source_location a, std::source_location b) { return a.line() == b.line() && a.column() == b.column(); }
  static std::string place(std::source_location where) { return std::string(where.file_name()) + ":" + std::to_string(where.line()); }

  [[noreturn]] void report_stuck() const {
    std::array<std::size_t, 5> count{};
    std::array<const Thread*, 5> first{};
    std::array<const Thread*, 5> last{};
    for (const Thread& thread : threads_) {
      const auto s = static_cast<std::size_t>(thread.state);
      if (count[s]++ == 0) first[s] = &thread;
      last[s] = &thread;
    }
    const auto about = [&](State state, const char* text, bool with_place) {
      const auto s = static_cast<std::size_t>(state);
      if (count[s] == 0) return std::string();
      const auto one = [&](const Thread& thread) { return "thread " + to_string(thread.index) + (with_place ? " at " + place(thread.where) : ""); };
      return "; " + std::to_string(count[s]) + text + " (" + one(*first[s]) + (count[s] > 1 ? " to " + one(*last[s]) : "") + ")";
    };
    die("divergent barrier: no thread of the block can go on" + about(State::barrier, " wait at __syncthreads", true) +
        about(State::warp, " wait in a warp operation for the other lanes of its mask", true) + about(State::done, " have finished", false));
  }

  const Launch* launch_ = nullptr;
  std::vector<Thread> threads_;
  dim3 numbered_{0, 0, 0};
  Thread* running_ = nullptr;
  std::size_t at_barrier_ = 0;
  Fiber scheduler_;
  StackNotice scheduler_notice_;
  std::array<StackNotice, kMaxThreads> notices_;
  const void* scheduler_bottom_ = nullptr;
  std::size_t scheduler_bytes_ = 0;
  Stacks stacks_;
  SharedMemory shared_;
};

// The block that runs on this OS thread.
inline Block& this_block() {
  thread_local Block block;
  return block;
}

inline void Block::resume(Thread& thread) {
  if (thread.state == State::fresh) {
    thread.stack = stacks_.take();
    thread.fiber.start(stacks_.bottom(thread.stack), stacks_.top(thread.stack), thread_main);
  }
  thread.state = State::ready;
  running_ = &thread;
  threadIdx = thread.index;
  here.in_thread = true;
  scheduler_notice_.leave(stacks_.bottom(thread.stack), kStackBytes);
  Fiber::go(scheduler_, thread.fiber);
  scheduler_notice_.arrive();
  here.in_thread = false;
  if (thread.state == State::done) {
    stacks_.give(thread.stack);
    finish_warp_without(thread);
  }
}

inline void Block::thread_main() {
  Block& block = this_block();
  Thread& self = *block.running_;
  block.notices_[self.stack].arrive(&block.scheduler_bottom_, &block.scheduler_bytes_);
  block.launch_->call(block.launch_->arguments);
  self.state = State::done;
  block.leave_thread(self);
}

inline std::string explain_block_fault(const void* address) {
  const Block& block = this_block();
  if (block.shared().holds(address))
    return "shared memory overrun: " + to_string(address) + " is outside of the " + std::to_string(block.shared().bytes()) + " bytes of dynamic shared memory";
  if (block.stacks().holds(address)) return "the stack of a thread is full (" + std::to_string(kStackBytes) + " bytes)";
  return "";
}

}  // namespace cuda_emulation
