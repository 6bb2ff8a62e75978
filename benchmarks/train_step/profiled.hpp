// A backend that measures another one: everything runs there, and the context keeps how often and how long each op has run.
//
// Matrix products are named by what they are for, loops over rows by the type of their functor. What Base offers besides is inherited: it
// works, but has no line of its own in the profile until it gets one here.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "deltatune/backend/attention.hpp"
#include "deltatune/backend/backend.hpp"
#include "deltatune/tensor/workspace.hpp"

namespace deltatune::bench {

// Seconds that f takes.
template <class F>
double seconds_of(const F& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct OpTime {
  Index calls = 0;
  double seconds = 0;
  double flops = 0;  // of matrix products
};

struct Profile {
  std::map<std::string_view, OpTime> ops;
  std::vector<std::function<void()>> products;  // each runs one product again, on its own operands
};

// "AddBiasRow" of deltatune::ops::detail::AddBiasRow<float>.
template <class F>
constexpr std::string_view functor_name() {
  const std::string_view text = __PRETTY_FUNCTION__;  // "... [with F = deltatune::ops::detail::AddBiasRow<float>; ...]", clang++: no "with"
  const std::size_t begin = text.find("F = ") + 4;
  const std::string_view name = text.substr(begin, text.find_first_of("<;]", begin) - begin);
  return name.substr(name.rfind(':') + 1);
}

template <class T, class In>
std::string_view gemm_name(const Gemm<T, In>& product) {
  constexpr Index kNarrow = 64;  // a product with such a side is LoRA's, or a classifier's
  constexpr bool kRounded = !std::is_same_v<T, In>;
  if (std::min({product.m(), product.n(), product.k()}) <= kNarrow) return "gemm low rank";
  if (product.transpose_a) return "gemm weight gradient";
  if (product.transpose_b) return kRounded ? "gemm forward bf16" : "gemm forward";
  return kRounded ? "gemm backward bf16" : "gemm backward";
}

template <class Base>
struct Profiled : Base {
  class Context : public Base::Context {
   public:
    using Base::Context::Context;
    Profile profile;
  };

  template <class T, class In>
  static void gemm(Context& ctx, const Gemm<T, In>& product) requires requires {
    Base::gemm(ctx, product);
  }
  {
    const double flops = 2.0 * static_cast<double>(product.m()) * static_cast<double>(product.n()) * static_cast<double>(product.k());
    timed(
        ctx, gemm_name(product), [&] { Base::gemm(ctx, product); }, flops);
    if (!ctx.dry_run()) ctx.profile.products.push_back([&ctx, product] { Base::gemm(ctx, product); });
  }
  template <class F>
  static void for_each(Context& ctx, Index n, const F& f) {
    timed(ctx, functor_name<F>(), [&] { Base::for_each(ctx, n, f); });
  }
  template <class F>
  static void for_each_row(Context& ctx, Index rows, Index cols, const F& f) {
    timed(ctx, functor_name<F>(), [&] { Base::for_each_row(ctx, rows, cols, f); });
  }
  template <class F, class T>
  static void sum_rows(Context& ctx, Index rows, Index cols, const F& f, T* sum_io) {
    static const std::string name = "column sums: " + std::string(functor_name<F>());
    timed(ctx, name, [&] { Base::sum_rows(ctx, rows, cols, f, sum_io); });
  }

  template <class Op>
  static void attention_forward(Context& ctx, const Op& op) requires requires {
    Base::attention_forward(ctx, op);
  }
  {
    timed(ctx, "attention forward", [&] { Base::attention_forward(ctx, op); });
  }
  template <class Op>
  static void attention_backward(Context& ctx, const Op& op) requires requires {
    Base::attention_backward(ctx, op);
  }
  {
    timed(ctx, "attention backward", [&] { Base::attention_backward(ctx, op); });
  }
  // Base takes its scratch from a workspace of its own type: how much, a dry run on one of those tells.
  template <class T>
  static View<T> attention_scratch(Context& ctx, const AttentionPlan& plan, Workspace<Profiled>& workspace) {
    const auto shape = [&] {
      const DryRun dry(ctx);
      Workspace<Base> nothing(ctx);
      return Base::template attention_scratch<T>(ctx, plan, nothing);
    }();
    return workspace.template take<T>(shape.rows, shape.cols);
  }

 private:
  template <class Work>
  static void timed(Context& ctx, std::string_view name, const Work& work, double flops = 0) {
    if (ctx.dry_run()) return work();
    const double seconds = seconds_of(work);
    OpTime& op = ctx.profile.ops[name];
    ++op.calls;
    op.seconds += seconds;
    op.flops += flops;
  }
};

}  // namespace deltatune::bench
