// The handle on the deltas of one method in a model: enable, merge, detach.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/scalar.hpp"
#include "deltatune/nn/linear.hpp"

namespace deltatune {

// D: a weight delta. The deltas live in the model's slots; the handle is valid as long as the model lives and is not detached.
template <class X, class D>
class Attachment {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  struct Entry {
    LinearSite<X>* site;
    D* delta;
  };

  explicit Attachment(std::string name) : name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  const std::vector<Entry>& entries() const { return entries_; }
  bool merged() const { return !kept_.empty(); }

  // For attach(): takes note of a delta placed at a site.
  D& add(LinearSite<X>& site, D delta) {
    D& placed = site.deltas.add(name_, std::move(delta));
    entries_.push_back({&site, &placed});
    return placed;
  }

  template <class F>
  void visit(const F& f) {
    for (Entry& entry : entries_) entry.delta->visit(f);
  }

  void set_enabled(bool enabled) {
    for (Entry& entry : entries_) entry.site->deltas.set_enabled(name_, enabled);
  }

  // Writes the deltas into the base weights and keeps the replaced bits; the deltas rest until unmerge(). Throws Error when a merged weight
  // is not finite; the base is then as it was.
  void merge(Context& ctx) {
    if (merged()) throw Error(name_, "is merged already");
    for (Entry& entry : entries_) {
      const View<T> weight = entry.site->weight.value();
      X kept(ctx, entry.site->weight.shape());
      ops::copy<B, T>(ctx, weight, kept.view());
      kept_.push_back(std::move(kept));
      entry.delta->merge(ctx, weight);
    }
    for (Entry& entry : entries_)
      if (!finite(ctx, entry.site->weight.value())) {
        unmerge(ctx);
        throw Error(entry.site->path + ".weight", "would not be finite after the merge", {.remedy = "the adapter holds NaN or infinite values"});
      }
    set_enabled(false);
  }

  // The base weights get back the bits they had before merge().
  void unmerge(Context& ctx) {
    for (std::size_t i = 0; i < kept_.size(); ++i) ops::copy<B, T>(ctx, kept_[i].view(), entries_[i].site->weight.value());
    kept_.clear();
    set_enabled(true);
  }

  // Takes the deltas out of the model. Weights stay as they are: merged ones stay merged.
  void detach() {
    for (Entry& entry : entries_) entry.site->deltas.remove(name_);
    entries_.clear();
    kept_.clear();
  }

 private:
  static bool finite(Context& ctx, View<const T> values) {
    using math::isfinite;
    std::vector<T> row(static_cast<std::size_t>(values.cols));
    for (Index i = 0; i < values.rows; ++i) {
      B::copy_out(ctx, values.row(i), row.data(), values.cols * static_cast<Index>(sizeof(T)));
      B::synchronize(ctx);
      for (const T& x : row)
        if (!isfinite(x)) return false;
    }
    return true;
  }

  std::string name_;
  std::vector<Entry> entries_;
  std::vector<X> kept_;  // one weight an entry while merged
};

}  // namespace deltatune
