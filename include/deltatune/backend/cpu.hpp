// The CPU backend: OpenMP over rows, vectorised within a row, matrix products by a provider given as a type.
#pragma once

#include <algorithm>
#include <concepts>
#include <type_traits>

#include "deltatune/backend/backend.hpp"
#include "deltatune/backend/cpu/attention.hpp"
#include "deltatune/backend/cpu/parallel.hpp"
#include "deltatune/backend/host_memory.hpp"
#include "deltatune/tensor/workspace.hpp"
#ifdef DELTATUNE_HAS_ONEDNN
#include "deltatune/backend/cpu/gemm_onednn.hpp"
#else
#include "deltatune/backend/cpu/gemm_tiled.hpp"
#endif

namespace deltatune {

// Provider: TiledGemm, our own products, or OneDnnGemm. Two providers are two types, so both may live in one program.
template <class Provider>
struct Cpu : HostMemory {
  class Context : public ContextBase {
   public:
    // threads: 0 means all the processors OpenMP sees.
    explicit Context(int threads = 0) : threads_(threads > 0 ? threads : omp_get_max_threads()) {}
    int threads() const { return threads_; }

   private:
    friend struct Cpu;
    int threads_;
    typename Provider::State provider_;
  };

  // The team of a row: one thread and its vector lanes.
  struct Team {
    template <class G>
    DELTATUNE_INLINE void each(Index n, const G& g) const {
      DELTATUNE_SIMD
      for (Index j = 0; j < n; ++j) g(j);
    }
    template <class G>
    DELTATUNE_INLINE auto sum(Index n, const G& g) const {
      std::remove_cvref_t<decltype(g(Index{}))> total{};
#pragma omp simd reduction(+ : total)
      for (Index j = 0; j < n; ++j) total += g(j);
      return total;
    }
    template <class G>
    DELTATUNE_INLINE auto max(Index n, const G& g) const {
      auto largest = g(Index{0});
#pragma omp simd reduction(max : largest)
      for (Index j = 1; j < n; ++j) {
        const auto candidate = g(j);
        largest = largest < candidate ? candidate : largest;
      }
      return largest;
    }
  };

  // In: T, or Bfloat16 with T = float.
  template <class T, class In>
  requires std::same_as<In, T> ||(std::same_as<T, float>&& std::same_as<In, Bfloat16>)static void gemm(Context& ctx, const Gemm<T, In>& product) {
    ctx.count_gemm(product.m(), product.n(), product.k());
    if (!ctx.dry_run()) Provider::run(ctx.provider_, product, ctx.threads());
  }

  template <class F>
  static void for_each(Context& ctx, Index n, const F& f) {
    if (ctx.dry_run()) return;
    detail::parallel_ranges(ctx.threads(), n, 64, n < kSerialElements, [&f](Index begin, Index end) {
      DELTATUNE_SIMD
      for (Index i = begin; i < end; ++i) f(i);
    });
  }

  template <class F>
  static void for_each_row(Context& ctx, Index rows, Index cols, const F& f) {
    if (ctx.dry_run()) return;
    detail::parallel_ranges(ctx.threads(), rows, 1, rows * cols < kSerialElements, [&f](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) f(Team{}, i);
    });
  }

  // Each thread has columns of its own, whole cache lines of them.
  template <class F, class T>
  static void sum_rows(Context& ctx, Index rows, Index cols, const F& f, T* sum_io) {
    if (ctx.dry_run()) return;
    detail::parallel_ranges(ctx.threads(), cols, 64, rows * cols < kSerialElements, [&f, rows, sum_io](Index begin, Index end) {
      for (Index i = 0; i < rows; ++i) {
        DELTATUNE_SIMD
        for (Index j = begin; j < end; ++j) sum_io[j] += f(i, j);
      }
    });
  }

  // A better body for one op: see backend/cpu/attention.hpp.
  static bool attention_fits(const AttentionPlan&) { return true; }
  // A row a thread, and behind them rows for what all of them share.
  template <class T>
  static View<T> attention_scratch(Context& ctx, const AttentionPlan& plan, Workspace<Cpu>& workspace) {
    const Index each = detail::cpu_attention_scratch(plan);
    return workspace.template take<T>(ctx.threads() + (detail::cpu_attention_shared_scratch(plan) + each - 1) / each, each);
  }
  template <class T>
  static void attention_forward(Context& ctx, const AttentionForward<T>& op) {
    if (!ctx.dry_run()) detail::cpu_attention_forward(op, ctx.threads());
  }
  template <class T>
  static void attention_backward(Context& ctx, const AttentionBackward<T>& op) {
    if (!ctx.dry_run()) detail::cpu_attention_backward(op, ctx.threads());
  }

 private:
  static constexpr Index kSerialElements = 8192;  // below this a pass is over before a second thread has started
};

#ifdef DELTATUNE_HAS_ONEDNN
using DefaultCpu = Cpu<OneDnnGemm>;
#else
using DefaultCpu = Cpu<TiledGemm>;
#endif
static_assert(Backend<DefaultCpu>);

}  // namespace deltatune
