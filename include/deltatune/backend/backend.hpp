// The whole porting surface: what a type must offer to carry deltatune's layers.
//
// All members are static; the context comes first. `for_each` and `for_each_row` run named functors whose members are views and plain
// values. A row functor gets a team, the workers that share a row:
//   team.each(n, g)  calls g(j) for j in [0, n), in any order
//   team.sum(n, g)   the sum of g(j)          team.max(n, g)  the largest g(j)
// Element j of a row belongs to the same worker in every call, which may read back what g wrote there.
// A backend may also offer a better body for a single op; the op asks for it with `requires` (see ops/attention.hpp).
#pragma once

#include <concepts>

#include "deltatune/backend/context.hpp"
#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune {

namespace detail {
struct AnyRowFunctor {
  template <class Team>
  DELTATUNE_HD void operator()(const Team&, Index) const {}
};
struct AnyFunctor {
  DELTATUNE_HD void operator()(Index) const {}
};
struct AnyMatrix {
  DELTATUNE_HD float operator()(Index, Index) const { return 0.0F; }
};
}  // namespace detail

template <class B>
concept Backend = std::derived_from<typename B::Context, ContextBase> &&
    requires(typename B::Context& ctx, void* pointer, const void* source, Index bytes, View<float> v, Gemm<float> product) {
  { B::allocate(ctx, bytes) } -> std::same_as<void*>;  // 64-byte aligned
  B::release(ctx, pointer, bytes);
  B::copy_in(ctx, source, pointer, bytes);   // host -> backend
  B::copy_out(ctx, source, pointer, bytes);  // backend -> host
  B::fill(ctx, v, 0.0F);
  B::synchronize(ctx);
  B::gemm(ctx, product);
  B::for_each(ctx, bytes, detail::AnyFunctor{});
  B::for_each_row(ctx, bytes, bytes, detail::AnyRowFunctor{});  // rows, elements of work in a row
  B::sum_rows(ctx, bytes, bytes, detail::AnyMatrix{}, v.data);  // sum_io[j] += Σ_i f(i, j); rows, cols
};

}  // namespace deltatune
