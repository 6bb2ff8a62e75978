// A weight as it is multiplied with: in the number type of the model, or rounded to bfloat16.
//
// With a rounded weight the other operand is rounded, too, piece by piece in scratch, and products run on the units for bfloat16 where a processor
// has them. Sums and results stay float, so that a product differs from the exact one by the rounding of what is multiplied.
#pragma once

#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/half.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/seam/pass.hpp"

namespace deltatune {

// Whether a backend multiplies bfloat16.
template <class X>
inline constexpr bool kRounds = requires(context_of<X>& ctx, const Gemm<scalar_of<X>, Bfloat16>& product) {
  backend_of<X>::gemm(ctx, product);
};

template <class X>
struct BaseMatrix {
  using T = scalar_of<X>;
  using B = backend_of<X>;

  View<const T> exact;           // (out, in), or empty
  View<const Bfloat16> rounded;  // the other

  Index rows() const { return rounded ? rounded.rows : exact.rows; }
  BaseMatrix row_range(Index first, Index count) const {
    return rounded ? BaseMatrix{{}, rounded.row_range(first, count)} : BaseMatrix{exact.row_range(first, count), {}};
  }

  // result = a · W, or a · Wᵀ, + beta · result.
  void multiply(Pass<X>& pass, View<const T> a, bool transposed, View<T> result, T beta = T(0)) const {
    if constexpr (kRounds<X>) {
      if (rounded) {
        const auto scope = pass.scope();
        const View<Bfloat16> a16 = pass.scratch.template take<Bfloat16>(a.rows, a.cols);
        ops::round_to_bfloat16<B, T>(pass.ctx, a, a16);
        return B::gemm(pass.ctx, Gemm<T, Bfloat16>{.a = a16, .b = rounded, .c = result, .transpose_b = transposed, .beta = beta});
      }
    }
    B::gemm(pass.ctx, Gemm<T>{.a = a, .b = exact, .c = result, .transpose_b = transposed, .beta = beta});
  }
};

}  // namespace deltatune
