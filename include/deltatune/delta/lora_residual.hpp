// What a LoRA takes over from the frozen weight at its start, so that training begins with what matters in it (the starts: delta/lora_start.hpp).
//
//   the frozen weight becomes W − s·B₀·A₀: at the start the sum is W again
//
// The weight's own bits come back when the delta is switched off or taken out. For a file the change to W is a LoRA of twice the rank:
// s·(B·A − B₀·A₀) = s·[B, −B₀]·[A; A₀].
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/host_matrix.hpp"
#include "deltatune/delta/lora.hpp"
#include "deltatune/seam/parameter.hpp"

namespace deltatune {

// A₀ (R, in) and B₀ (out, R) of a weight (out, in).
struct LoraFactors {
  HostMatrix a, b;
};

// How a LoRA's factors come from the frozen weight. Empty: A is random, B is 0 and the weight stays as it is.
struct LoraStart {
  std::string name = {};  // PEFT's init_lora_weights
  // scale: s of the delta. where: names the site in errors.
  std::function<LoraFactors(const HostMatrix& weight, Index rank, double scale, const std::string& where)> factors = {};

  explicit operator bool() const { return static_cast<bool>(factors); }
};

// The weights that such deltas have taken a part of. One for all deltas of an attachment.
template <class X>
class LoraResidual {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  LoraResidual() = default;
  LoraResidual(LoraResidual&&) noexcept = default;

  // Starts the delta of a site anew, from its weight, which stays where it is.
  void start(Context& ctx, const std::string& site, Parameter<X>& weight, Lora<X>& lora, const LoraStart& start, const std::string& where) {
    const HostMatrix w = host(ctx, weight.value());
    const LoraFactors factors = start.factors(w, lora.config().rank, lora.config().scale(), where);
    upload(ctx, factors.a, lora.a().value());
    upload(ctx, factors.b, lora.b().value());
    auto entry = std::make_unique<Entry>();
    entry->ctx = &ctx;
    entry->weight = &weight;
    entry->scale = T(lora.config().scale());
    entry->original = X(ctx, weight.shape());
    ops::copy<B, T>(ctx, weight.value(), entry->original.view());
    entry->a = keep(ctx, site + ".lora_A.start", factors.a);
    entry->b = keep(ctx, site + ".lora_B.start", factors.b);
    take(ctx, *entry);
    entries_.push_back(std::move(entry));
    taken_ = true;
  }
  bool empty() const { return entries_.empty(); }

  template <class F>
  void visit(const F& f) {
    for (const auto& entry : entries_) {
      f(*entry->a);
      f(*entry->b);
    }
  }

  template <class F>
  void visit_replaced(const F& f) {
    for (const auto& entry : entries_) f(*entry->weight);
  }

  void forward(Pass<X>& pass) { take_all(pass.ctx); }
  // Back to the weights' own bits.
  void rest() {
    if (taken_)
      for (const auto& entry : entries_) ops::copy<B, T>(*entry->ctx, entry->original.view(), entry->weight->value());
    taken_ = false;
  }
  void merge(Context& ctx) { take_all(ctx); }

 private:
  struct Entry {
    Context* ctx;
    Parameter<X>* weight;
    T scale;
    X original;
    detail::OwnParameter<X> a, b;  // A₀ and B₀
  };

  void take_all(Context& ctx) {
    if (taken_ || ctx.dry_run()) return;
    for (const auto& entry : entries_) take(ctx, *entry);
    taken_ = true;
  }
  void take(Context& ctx, Entry& entry) {
    B::gemm(ctx, Gemm<T>{.a = entry.b->value(), .b = entry.a->value(), .c = entry.weight->value(), .alpha = -entry.scale, .beta = T(1)});
  }
  static detail::OwnParameter<X> keep(Context& ctx, std::string path, const HostMatrix& values) {
    detail::OwnParameter<X> kept(ctx, std::move(path), {values.rows, values.cols}, [&](Index i) { return values.values[static_cast<std::size_t>(i)]; });
    kept->set_constant();
    kept->set_derived(true);
    return kept;
  }
  static HostMatrix host(Context& ctx, View<const T> values) {
    HostMatrix result(values.rows, values.cols);
    std::vector<T> row(static_cast<std::size_t>(values.cols));
    for (Index i = 0; i < values.rows; ++i) {
      B::copy_out(ctx, values.row(i), row.data(), values.cols * static_cast<Index>(sizeof(T)));
      B::synchronize(ctx);
      for (Index j = 0; j < values.cols; ++j) result(i, j) = static_cast<double>(value_of(row[static_cast<std::size_t>(j)]));
    }
    return result;
  }
  static void upload(Context& ctx, const HostMatrix& from, View<T> to) {
    std::vector<T> values;
    for (const double x : from.values) values.push_back(T(x));
    B::copy_in(ctx, values.data(), to.data, to.size() * static_cast<Index>(sizeof(T)));
  }

  std::vector<std::unique_ptr<Entry>> entries_;
  bool taken_ = false;
};

}  // namespace deltatune
