// A parameter: its name in the checkpoint, its role, its values, what of it trains, and the gradient of that.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/half.hpp"
#include "deltatune/param/freeze_mask.hpp"
#include "deltatune/tensor/tensor_trait.hpp"

namespace deltatune {

// What a parameter is to its layer. Optimisers and selections go by it.
enum class Role { weight, bias, norm_scale, norm_shift, embedding, delta };

// X: tensor type. The values may be a slice of a larger tensor that a layer owns (query, key and value share one), so they are a view.
// The gradient has storage only after allocate_gradient(), and only where the mask lets something train.
template <class X>
class Parameter {
 public:
  using Scalar = scalar_of<X>;
  using Context = context_of<X>;

  Parameter() = default;
  Parameter(std::string path, Role role, Shape shape, View<Scalar> value) : path_(std::move(path)), role_(role), shape_(std::move(shape)), value_(value) {
    decays_ = role != Role::bias && role != Role::norm_scale && role != Role::norm_shift && !path_.ends_with(".bias");
  }

  const std::string& path() const { return path_; }  // "bert.encoder.layer.0.attention.self.query.weight"
  Role role() const { return role_; }
  const Shape& shape() const { return shape_; }  // (out, in) or (C)
  Index size() const { return element_count(shape_); }

  // Checkpoints may hold a matrix the other way round: GPT-2's are (in, out). Files have it so; in memory it is (out, in) like all others.
  bool transposed_in_file() const { return transposed_in_file_; }
  void set_transposed_in_file() { transposed_in_file_ = true; }
  Shape file_shape() const {
    if (!file_shape_.empty()) return file_shape_;
    return transposed_in_file_ ? Shape{shape_.at(1), shape_.at(0)} : shape_;
  }
  // Files have the same numbers in the same order under another shape.
  void set_file_shape(Shape shape) { file_shape_ = std::move(shape); }

  // Throws Error when they are held rounded.
  View<Scalar> value() const {
    if (rounded_)
      throw Error(path_, "is stored in bfloat16 only", {.remedy = "what reads or changes this weight (merge, save, train) needs the model as it was loaded"});
    return value_;
  }
  // The values live elsewhere from now on: for layers that lay out their weights anew. Same shape.
  void set_value(View<Scalar> value) { value_ = value; }
  // The layer has rounded the values and keeps no others. values: where those of a file are rounded to, or empty.
  bool rounded() const { return rounded_; }
  void set_rounded(View<Bfloat16> values = {}) {
    rounded_ = true;
    rounded_values_ = values;
  }
  View<Bfloat16> rounded_values() const { return rounded_values_; }
  // Mostly zeros: a file holds the others and where they are.
  bool sparse_in_file() const { return sparse_in_file_; }
  void set_sparse_in_file(bool sparse) { sparse_in_file_ = sparse; }

  // A delta computes the values from other parameters and takes the gradient back to those: it has a gradient, but is neither updated nor saved.
  bool derived() const { return derived_; }
  void set_derived(bool derived) { derived_ = derived; }

  // A delta puts values of its own in place of these (seam/parameter.hpp); they come back when it is switched off or detached.
  bool replaced() const { return replaced_; }
  void set_replaced(bool replaced) { replaced_ = replaced; }
  // While deltas are merged into the values: what they were before, and a digest of what the merge wrote (attach/merge_site.hpp).
  struct Backup {
    X values;
    std::uint64_t digest = 0;
  };
  Backup& backup() { return backup_; }
  const Backup& backup() const { return backup_; }

  // Belongs to a delta that takes no part, being switched off or merged: it trains again, with the same mask and gradient, when the delta does.
  bool resting() const { return resting_; }
  void set_resting(bool resting) { resting_ = resting; }

  // The attachment whose file brought the values of a parameter of the model itself; empty: they are the model's own.
  const std::string& brought_by() const { return brought_by_; }
  void set_brought_by(std::string attachment) { brought_by_ = std::move(attachment); }

  // What a method keeps and does not learn: the parameter stays frozen, whatever set_mask() is asked for.
  bool constant() const { return constant_; }
  void set_constant() {
    set_mask(FreezeMask::frozen());
    constant_ = true;
  }

  // For optimisers: a factor on the learning rate, and whether weight decay applies, which it does unless this is a bias or of a norm.
  double rate_factor() const { return rate_factor_; }
  void set_rate_factor(double factor) { rate_factor_ = factor; }
  bool decays() const { return decays_; }
  void set_decays(bool decays) { decays_ = decays; }

  bool trains() const { return mask_.trains() && !resting_; }
  const FreezeMask& mask() const { return mask_; }
  // Values that updates change.
  bool updated() const { return trains() && !derived_; }
  Index trainable_count() const { return updated() ? mask_.trainable_count(shape_) : 0; }

  // Throws Error when an index of the mask lies outside the parameter, or when it shall train and is held rounded. Drops a gradient that is no longer wanted.
  void set_mask(FreezeMask mask) {
    if (constant_) return;
    if (mask.trains()) static_cast<void>(value());
    const Index bound = mask.kind() == FreezeMask::Kind::rows ? shape_.at(0) : size();
    for (const Index index : mask.indices())
      if (index < 0 || index >= bound)
        throw Error(path_, "freeze mask index out of range", {.expected = "0 to " + std::to_string(bound - 1), .got = std::to_string(index)});
    mask_ = std::move(mask);
    mask_values_ = X();
    gradient_ = X();
    claimed_.reset();
  }

  // For methods that train a parameter of the model: all of it trains until the last claim is released, which brings back the mask from before
  // the first. A mask set in between wins, and a claim that is dropped without release() leaves the parameter training.
  using Claim = std::shared_ptr<const FreezeMask>;
  [[nodiscard]] Claim claim() {
    Claim before = claimed_.lock();
    if (!before) before = std::make_shared<const FreezeMask>(mask_);
    if (mask_.kind() != FreezeMask::Kind::trainable) set_mask(FreezeMask::trainable());
    claimed_ = before;
    return before;
  }
  void release(Claim claim) {
    const bool current = claimed_.lock() == claim, last = claim.use_count() == 1;
    if (current && last) set_mask(*claim);
  }

  // Storage for the gradient, zeroed, and for a partial mask; nothing for a frozen parameter.
  void allocate_gradient(Context& ctx) {
    if (!trains()) return;
    if (!gradient_) gradient_ = X(ctx, shape_);
    if (mask_.partial() && !mask_values_) {
      std::vector<Scalar> host(static_cast<std::size_t>(mask_.kind() == FreezeMask::Kind::rows ? shape_.at(0) : size()), Scalar(0));
      for (const Index index : mask_.indices()) host[static_cast<std::size_t>(index)] = Scalar(1);
      mask_values_ = X(ctx, {static_cast<Index>(host.size())});
      backend_of<X>::copy_in(ctx, host.data(), mask_values_.view().data, mask_values_.bytes());
    }
  }
  bool has_gradient() const { return static_cast<bool>(gradient_); }
  Index gradient_bytes() const { return gradient_.bytes() + mask_values_.bytes(); }

  // (rows, cols) as the value. Empty for a frozen parameter: layers test it before they compute anything.
  View<Scalar> gradient() {
    if (!trains()) return {};
    if (!gradient_) throw Error(path_, "trains but has no gradient", {.remedy = "call allocate_gradients(model, ctx) after the masks are chosen"});
    return gradient_.view();
  }
  View<const Scalar> gradient() const { return gradient_.view(); }

  // 0 or 1 for every mask_span() elements; empty when everything trains.
  View<const Scalar> mask_values() const { return mask_values_.view(); }
  Index mask_span() const { return mask_values_.size() > 0 ? size() / mask_values_.size() : 1; }

 private:
  std::string path_;
  std::string brought_by_;
  Role role_ = Role::weight;
  Shape shape_;
  View<Scalar> value_;
  View<Bfloat16> rounded_values_;
  Shape file_shape_;  // or empty
  bool transposed_in_file_ = false;
  bool rounded_ = false;
  bool sparse_in_file_ = false;
  bool derived_ = false;
  bool replaced_ = false;
  bool resting_ = false;
  bool constant_ = false;
  bool decays_ = true;
  double rate_factor_ = 1;
  FreezeMask mask_ = FreezeMask::frozen();
  X gradient_;
  X mask_values_;
  Backup backup_;
  std::weak_ptr<const FreezeMask> claimed_;
};

}  // namespace deltatune
