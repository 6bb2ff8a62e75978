// Which elements of a parameter train.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "deltatune/core/shape.hpp"

namespace deltatune {

// Frozen, trainable as a whole, or trainable in some rows or some elements. In a partly trained parameter the rest keeps its bits: neither
// the gradient nor weight decay reaches it.
class FreezeMask {
 public:
  enum class Kind { frozen, trainable, rows, elements };

  static FreezeMask frozen() { return FreezeMask(Kind::frozen, {}); }
  static FreezeMask trainable() { return FreezeMask(Kind::trainable, {}); }
  // Rows of a matrix, elements of a vector; each index below the row count.
  static FreezeMask rows(std::vector<Index> indices) { return FreezeMask(Kind::rows, std::move(indices)); }
  // Row-major element numbers.
  static FreezeMask elements(std::vector<Index> indices) { return FreezeMask(Kind::elements, std::move(indices)); }

  Kind kind() const { return kind_; }
  bool trains() const { return kind_ != Kind::frozen; }
  bool partial() const { return kind_ == Kind::rows || kind_ == Kind::elements; }
  const std::vector<Index>& indices() const { return indices_; }

  // How many of the elements of a parameter of this shape train.
  Index trainable_count(const Shape& shape) const {
    const Index count = element_count(shape);
    switch (kind_) {
      case Kind::frozen:
        return 0;
      case Kind::trainable:
        return count;
      case Kind::rows:
        return static_cast<Index>(indices_.size()) * (shape.size() < 2 ? 1 : count / shape[0]);
      case Kind::elements:
        return static_cast<Index>(indices_.size());
    }
    return 0;
  }

 private:
  FreezeMask(Kind kind, std::vector<Index> indices) : kind_(kind), indices_(std::move(indices)) {
    std::sort(indices_.begin(), indices_.end());
    indices_.erase(std::unique(indices_.begin(), indices_.end()), indices_.end());
  }

  Kind kind_;
  std::vector<Index> indices_;
};

}  // namespace deltatune
