// From a tensor type to its parts. Layers have one type parameter, the tensor type; this trait tells them the rest.
#pragma once

#include "deltatune/tensor/tensor.hpp"
#include "deltatune/tensor/workspace.hpp"

namespace deltatune {

template <class X>
struct tensor_trait;  // specialise it to bring a tensor type of your own

template <class T, class B>
struct tensor_trait<Tensor<T, B>> {
  using Scalar = T;
  using Backend = B;
  using Context = typename B::Context;
};

template <class X>
using scalar_of = typename tensor_trait<X>::Scalar;
template <class X>
using backend_of = typename tensor_trait<X>::Backend;
template <class X>
using context_of = typename tensor_trait<X>::Context;
template <class X>
using workspace_of = Workspace<backend_of<X>>;

}  // namespace deltatune
