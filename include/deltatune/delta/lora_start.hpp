// Starts of LoRA that take a part of the frozen weight over, so that training begins with what matters in it.
//
//   W = U·Σ·Vᵀ:   A₀ = √(Σ_R/s)·V_Rᵀ,  B₀ = U_R·√(Σ_R/s)     PiSSA: Meng et al. 2024, arXiv 2404.02948
//   W = Q·R:      A₀ = R_(first R rows),  B₀ = Q_(first R columns)     OLoRA: Büyükakyüz 2024, arXiv 2406.01775
//   the frozen weight becomes W − s·B₀·A₀: at the start the sum is W again
//
// The weight's own bits come back when the delta is switched off or taken out. For a file the change to W is a LoRA of twice the rank:
// s·(B·A − B₀·A₀) = s·[B, −B₀]·[A; A₀].
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/backend/gemm.hpp"
#include "deltatune/core/factorise.hpp"
#include "deltatune/delta/lora.hpp"
#include "deltatune/seam/parameter.hpp"

namespace deltatune {

enum class LoraStart { zero, pissa, olora };  // zero: B = 0, the weight stays

// A₀ (R, in) and B₀ (out, R) for a weight (out, in). Throws Error when the rank is larger than the weight allows; `where` names the site.
struct LoraFactors {
  HostMatrix a, b;
};
inline LoraFactors lora_start_factors(const HostMatrix& weight, Index rank, double scale, LoraStart start, const std::string& where) {
  if (rank > std::min(weight.rows, weight.cols))
    throw Error(where + ": rank", "is larger than this start allows",
                {.expected = "at most " + std::to_string(std::min(weight.rows, weight.cols)), .got = std::to_string(rank)});
  if (start == LoraStart::pissa && !(scale > 0)) throw Error(where + ": alpha", "must be positive for this start", {.got = std::to_string(scale)});
  LoraFactors factors{HostMatrix(rank, weight.cols), HostMatrix(weight.rows, rank)};
  std::vector<double> roots(static_cast<std::size_t>(rank), 1.0);
  HostMatrix left, right;
  if (start == LoraStart::pissa) {
    SvdFactors svd = leading_svd(weight, rank);
    for (std::size_t r = 0; r < roots.size(); ++r) roots[r] = std::sqrt(svd.values[r] / scale);
    left = std::move(svd.u);
    right = std::move(svd.vt);
  } else {
    QrFactors triangle = qr(weight);
    left = std::move(triangle.q);
    right = std::move(triangle.r);
  }
  for (Index r = 0; r < rank; ++r) {
    const double root = roots[static_cast<std::size_t>(r)];
    for (Index j = 0; j < weight.cols; ++j) factors.a(r, j) = root * right(r, j);
    for (Index i = 0; i < weight.rows; ++i) factors.b(i, r) = root * left(i, r);
  }
  return factors;
}

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
  void start(Context& ctx, const std::string& site, Parameter<X>& weight, Lora<X>& lora, LoraStart start, const std::string& where) {
    const HostMatrix w = host(ctx, weight.value());
    const LoraFactors factors = lora_start_factors(w, lora.config().rank, lora.config().scale(), start, where);
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
