// Memory of the backends that compute where the host does.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <string>

#include "deltatune/backend/context.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune {

struct HostMemory {
  // A cache line, and the widest vector load; of large arrays, a huge page.
  static constexpr std::size_t kAlignment = 64, kHugePage = 2 << 20;
  static constexpr std::align_val_t alignment(Index bytes) { return std::align_val_t{bytes < kLarge ? kAlignment : kHugePage}; }

  static void* allocate(ContextBase& ctx, Index bytes) {
    ctx.count_allocation(bytes);
    const std::size_t size = static_cast<std::size_t>(bytes);
    void* const data = ::operator new(size, alignment(bytes), std::nothrow);
    if (data == nullptr) {
      ctx.count_release(bytes);
      throw Error("memory", "cannot allocate " + std::to_string(bytes) + " bytes beside the " + std::to_string(ctx.live_bytes()) + " held",
                  {.remedy = "take a smaller batch, shorter sequences or a smaller model"});
    }
    // Products read matrices across their rows, a page apart: with huge pages they miss fewer translations. Advice, so it may fail.
    if (bytes >= kLarge) static_cast<void>(madvise(data, size / kHugePage * kHugePage, MADV_HUGEPAGE));
    return data;
  }
  static void release(ContextBase& ctx, void* data, Index bytes) noexcept {
    ctx.count_release(bytes);
    ::operator delete(data, alignment(bytes));
  }

  static void copy_in(ContextBase& ctx, const void* host, void* data, Index bytes) { copy(ctx, host, data, bytes); }
  static void copy_out(ContextBase& ctx, const void* data, void* host, Index bytes) { copy(ctx, data, host, bytes); }
  static void synchronize(ContextBase&) {}

  template <class T>
  static void fill(ContextBase& ctx, View<T> x, T value) {
    if (ctx.dry_run()) return;
    for (Index i = 0; i < x.rows; ++i) std::fill_n(x.row(i), x.cols, value);
  }

 private:
  static constexpr Index kLarge = 4 << 20;

  static void copy(ContextBase& ctx, const void* from, void* to, Index bytes) {
    if (!ctx.dry_run() && bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
};

}  // namespace deltatune
