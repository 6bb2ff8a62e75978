// A table of biases by the distance of query and key (backend/relative_buckets.hpp), which the layers of a stack share: T5, MPNet.
#pragma once

#include <string>

#include "deltatune/backend/relative_buckets.hpp"
#include "deltatune/param/parameter.hpp"

namespace deltatune {

template <class X>
class RelativeBias {
 public:
  using T = scalar_of<X>;

  RelativeBias(context_of<X>& ctx, const std::string& path, Index heads, RelativeBuckets buckets)
      : values_(ctx, {buckets.buckets, heads}), table_(path + ".weight", Role::embedding, {buckets.buckets, heads}, values_.view()), buckets_(buckets) {}

  template <class F>
  void visit(const F& f) {
    f(table_);
  }
  Parameter<X>& table() { return table_; }
  const RelativeBuckets& buckets() const { return buckets_; }

 private:
  X values_;  // (buckets, H)
  Parameter<X> table_;
  RelativeBuckets buckets_;
};

}  // namespace deltatune
