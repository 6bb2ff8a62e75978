// A weight or table that deltas are merged into. While any is, the bits from before are kept beside it, once, however many are: merging and
// unmerging writes the base again and then all that are merged, so the bits depend on which are and not on the order of the calls.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/param/parameter.hpp"
#include "deltatune/seam/slot.hpp"

namespace deltatune::detail {

// What a pass over all values of a parameter tells: whether they are finite, and a number that changes when a bit of them does.
struct ValueDigest {
  bool finite = true;
  std::uint64_t bits = 0xcbf29ce484222325;  // FNV-1a over words of 32 bits
};

template <class X>
ValueDigest digest_of(context_of<X>& ctx, View<const scalar_of<X>> values) {
  using math::isfinite;
  using T = scalar_of<X>;
  using Words = std::uint32_t[sizeof(T) / sizeof(std::uint32_t)];
  static_assert(sizeof(Words) == sizeof(T));
  ValueDigest digest;
  std::vector<T> row(static_cast<std::size_t>(values.cols));
  for (Index i = 0; i < values.rows; ++i) {
    backend_of<X>::copy_out(ctx, values.row(i), row.data(), values.cols * static_cast<Index>(sizeof(T)));
    backend_of<X>::synchronize(ctx);
    for (const T& x : row) {
      digest.finite = digest.finite && isfinite(x);
      Words words;
      std::memcpy(&words, &x, sizeof x);
      for (const std::uint32_t word : words) digest.bits = (digest.bits ^ word) * 0x100000001b3;
    }
  }
  return digest;
}

template <class X>
class MergeSite {
 public:
  using Context = context_of<X>;

  // bias: or nullptr. Both stay where they are.
  MergeSite(Slot<X>& slot, Parameter<X>& weight, Parameter<X>* bias) : slot_(&slot), weight_(&weight), bias_(bias) {}

  Slot<X>& slot() { return *slot_; }
  Parameter<X>& weight() { return *weight_; }

  // Throws Error where training or a user has changed what a merge wrote, which going back to the base would lose.
  void check_untouched(Context& ctx) {
    for (Parameter<X>* const p : parameters())
      if (p->backup().values && digest_of<X>(ctx, p->value()).bits != p->backup().digest)
        throw Error(p->path(), "has changed since a delta was merged into it", {.remedy = "detach() keeps the values as they are"});
  }

  // Marks a delta as merged or not, and brings the values up to date. Throws Error for values that are not finite.
  void set_merged(const std::string& name, bool merged, Context& ctx) {
    slot_->set_merged(name, merged);
    const bool any = slot_->has_merged();
    for (Parameter<X>* const p : parameters()) {
      if (p->backup().values) {
        copy(ctx, p->backup().values.view(), p->value());
      } else if (any) {
        p->backup().values = X(ctx, p->shape());
        copy(ctx, p->value(), p->backup().values.view());
      }
    }
    if (any) slot_->merge_all(ctx, weight_->value(), bias());
    for (Parameter<X>* const p : parameters()) {
      if (!any) {
        p->backup() = {};
        continue;
      }
      const ValueDigest digest = digest_of<X>(ctx, p->value());
      if (!digest.finite) throw Error(p->path(), "would not be finite after the merge", {.remedy = "the adapter holds NaN or infinite values"});
      p->backup().digest = digest.bits;
      // Most deltas leave the bias alone, which may then train meanwhile.
      if (p == bias_ && digest.bits == digest_of<X>(ctx, p->backup().values.view()).bits) p->backup() = {};
    }
  }

  // The merged delta belongs to the base from now on, and can be removed from the slot. Others stay merged above it.
  void settle(const std::string& name, Context& ctx) {
    slot_->set_merged(name, false);
    if (!slot_->has_merged()) {
      for (Parameter<X>* const p : parameters()) p->backup() = {};
      return;
    }
    X no_bias;
    X& bias_backup = bias_ != nullptr ? bias_->backup().values : no_bias;
    slot_->merge(name, ctx, weight_->backup().values.view(), bias_backup ? bias_backup.view() : bias());
    for (Parameter<X>* const p : parameters()) {
      if (!p->backup().values) continue;
      copy(ctx, p->backup().values.view(), p->value());
    }
    slot_->merge_all(ctx, weight_->value(), bias());
    for (Parameter<X>* const p : parameters())
      if (p->backup().values) p->backup().digest = digest_of<X>(ctx, p->value()).bits;
  }

 private:
  std::vector<Parameter<X>*> parameters() {
    std::vector<Parameter<X>*> all{weight_};
    if (bias_ != nullptr && bias_->value()) all.push_back(bias_);
    return all;
  }
  View<scalar_of<X>> bias() { return bias_ != nullptr ? bias_->value() : View<scalar_of<X>>(); }
  static void copy(Context& ctx, View<const scalar_of<X>> from, View<scalar_of<X>> to) { ops::copy<backend_of<X>, scalar_of<X>>(ctx, from, to); }

  Slot<X>* slot_;
  Parameter<X>* weight_;
  Parameter<X>* bias_;
};

}  // namespace deltatune::detail
