// Memory of the backends that compute where the host does.
#pragma once

#include <algorithm>
#include <cstring>
#include <new>

#include "deltatune/backend/context.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune {

struct HostMemory {
  static constexpr std::align_val_t kAlignment{64};  // a cache line, and the widest vector load

  static void* allocate(ContextBase& ctx, Index bytes) {
    ctx.count_allocation(bytes);
    return ::operator new(static_cast<std::size_t>(bytes), kAlignment);
  }
  static void release(ContextBase& ctx, void* data, Index bytes) noexcept {
    ctx.count_release(bytes);
    ::operator delete(data, kAlignment);
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
  static void copy(ContextBase& ctx, const void* from, void* to, Index bytes) {
    if (!ctx.dry_run() && bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
};

}  // namespace deltatune
