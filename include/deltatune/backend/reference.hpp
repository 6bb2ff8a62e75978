// The backend to check others against: one thread, plain loops, any number type (double, and dual numbers for derivatives).
#pragma once

#include <cstring>
#include <new>

#include "deltatune/backend/backend.hpp"

namespace deltatune {

struct Reference {
  class Context : public ContextBase {};

  // The team of a row: one worker.
  struct Team {
    template <class G>
    void each(Index n, const G& g) const {
      for (Index j = 0; j < n; ++j) g(j);
    }
    template <class G>
    auto sum(Index n, const G& g) const {
      decltype(g(Index{})) total{};
      for (Index j = 0; j < n; ++j) total = total + g(j);
      return total;
    }
    template <class G>
    auto max(Index n, const G& g) const {
      auto largest = g(Index{0});
      for (Index j = 1; j < n; ++j) {
        const auto candidate = g(j);
        if (largest < candidate) largest = candidate;
      }
      return largest;
    }
  };

  static void* allocate(Context& ctx, Index bytes) {
    ctx.count_allocation(bytes);
    return ::operator new(static_cast<std::size_t>(bytes), std::align_val_t{64});
  }
  static void release(Context& ctx, void* data, Index bytes) noexcept {
    ctx.count_release(bytes);
    ::operator delete(data, std::align_val_t{64});
  }
  static void copy_in(Context& ctx, const void* host, void* data, Index bytes) { copy(ctx, host, data, bytes); }
  static void copy_out(Context& ctx, const void* data, void* host, Index bytes) { copy(ctx, data, host, bytes); }
  static void synchronize(Context&) {}

  template <class T>
  static void fill(Context& ctx, View<T> x, T value) {
    if (ctx.dry_run()) return;
    for (Index i = 0; i < x.rows; ++i)
      for (Index j = 0; j < x.cols; ++j) x(i, j) = value;
  }

  template <class T>
  static void gemm(Context& ctx, const Gemm<T>& p) {
    ctx.count_gemm(p.m(), p.n(), p.k());
    if (ctx.dry_run()) return;
    for (Index i = 0; i < p.m(); ++i)
      for (Index j = 0; j < p.n(); ++j) {
        T sum{};
        for (Index l = 0; l < p.k(); ++l) sum = sum + (p.transpose_a ? p.a(l, i) : p.a(i, l)) * (p.transpose_b ? p.b(j, l) : p.b(l, j));
        p.c(i, j) = p.beta == T(0) ? p.alpha * sum : p.alpha * sum + p.beta * p.c(i, j);
      }
  }

  template <class F>
  static void for_each(Context& ctx, Index n, const F& f) {
    if (ctx.dry_run()) return;
    for (Index i = 0; i < n; ++i) f(i);
  }

  template <class F>
  static void for_each_row(Context& ctx, Index rows, Index /*cols*/, const F& f) {
    if (ctx.dry_run()) return;
    for (Index i = 0; i < rows; ++i) f(Team{}, i);
  }

 private:
  static void copy(Context& ctx, const void* from, void* to, Index bytes) {
    if (!ctx.dry_run() && bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
};

static_assert(Backend<Reference>);

}  // namespace deltatune
