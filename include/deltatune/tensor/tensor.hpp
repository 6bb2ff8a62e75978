// A tensor that owns its storage on one backend. Move-only: a copy is always written out.
#pragma once

#include <utility>

#include "deltatune/core/shape.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune {

// T: element type. B: backend (see backend/backend.hpp), which allocates through its Context; the context outlives the tensor.
template <class T, class B>
class Tensor {
 public:
  using Context = typename B::Context;

  Tensor() = default;

  // Storage for `shape`, filled with zeros. Rank 1 and 2 are what Transformers' parameters need.
  Tensor(Context& ctx, Shape shape) : ctx_(&ctx), shape_(std::move(shape)), count_(element_count(shape_)) {
    data_ = static_cast<T*>(B::allocate(ctx, count_ * static_cast<Index>(sizeof(T))));
    B::fill(ctx, View<T>{data_, 1, count_}, T{});
  }

  Tensor(Tensor&& other) noexcept
      : ctx_(other.ctx_), shape_(std::move(other.shape_)), count_(std::exchange(other.count_, 0)), data_(std::exchange(other.data_, nullptr)) {}
  Tensor& operator=(Tensor&& other) noexcept {
    if (this != &other) {
      release();
      ctx_ = other.ctx_;
      shape_ = std::move(other.shape_);
      count_ = std::exchange(other.count_, 0);
      data_ = std::exchange(other.data_, nullptr);
    }
    return *this;
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  ~Tensor() { release(); }

  const Shape& shape() const { return shape_; }
  Index size() const { return count_; }
  Index bytes() const { return count_ * static_cast<Index>(sizeof(T)); }
  explicit operator bool() const { return data_ != nullptr; }

  // (rows, cols) for rank 2, (1, C) for rank 1.
  View<T> view() { return {data_, row_count(), column_count()}; }
  View<const T> view() const { return {data_, row_count(), column_count()}; }

 private:
  Index column_count() const { return shape_.empty() ? 1 : shape_.back(); }
  Index row_count() const { return column_count() == 0 ? 0 : count_ / column_count(); }
  void release() noexcept {
    if (data_ != nullptr) B::release(*ctx_, data_, bytes());
    data_ = nullptr;
  }

  Context* ctx_ = nullptr;
  Shape shape_;
  Index count_ = 0;
  T* data_ = nullptr;
};

}  // namespace deltatune
