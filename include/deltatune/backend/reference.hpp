// The backend to check others against: one thread, plain loops, any number type (double, and dual numbers for derivatives).
#pragma once

#include <type_traits>

#include "deltatune/backend/backend.hpp"
#include "deltatune/backend/host_memory.hpp"

namespace deltatune {

struct Reference : HostMemory {
  class Context : public ContextBase {};

  // The team of a row: one worker.
  struct Team {
    template <class G>
    DELTATUNE_HD void each(Index n, const G& g) const {
      for (Index j = 0; j < n; ++j) g(j);
    }
    template <class G>
    DELTATUNE_HD auto sum(Index n, const G& g) const {
      decltype(g(Index{})) total{};
      for (Index j = 0; j < n; ++j) total = total + g(j);
      return total;
    }
    template <class G>
    DELTATUNE_HD auto max(Index n, const G& g) const {
      auto largest = g(Index{0});
      for (Index j = 1; j < n; ++j) {
        const auto candidate = g(j);
        if (largest < candidate) largest = candidate;
      }
      return largest;
    }
  };

  template <class T, class In>
  static void gemm(Context& ctx, const Gemm<T, In>& p) {
    const auto number = [](const In& x) -> T {
      if constexpr (std::is_same_v<T, In>)
        return x;
      else
        return T(static_cast<float>(x));
    };
    ctx.count_gemm(p.m(), p.n(), p.k());
    if (ctx.dry_run()) return;
    for (Index i = 0; i < p.m(); ++i)
      for (Index j = 0; j < p.n(); ++j) {
        T sum{};
        for (Index l = 0; l < p.k(); ++l) sum = sum + number(p.transpose_a ? p.a(l, i) : p.a(i, l)) * number(p.transpose_b ? p.b(j, l) : p.b(l, j));
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

  template <class F, class T>
  static void sum_rows(Context& ctx, Index rows, Index cols, const F& f, T* sum_io) {
    if (ctx.dry_run()) return;
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j) sum_io[j] = sum_io[j] + f(i, j);
  }
};

static_assert(Backend<Reference>);

}  // namespace deltatune
