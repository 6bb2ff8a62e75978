// A parameter of the model whose values a delta computes.
#pragma once

#include <utility>

#include "deltatune/ops/elementwise.hpp"
#include "deltatune/param/parameter.hpp"

namespace deltatune::detail {

template <class X>
struct ReplacedParameter {
  Parameter<X>* parameter;
  context_of<X>* ctx;
  X base;  // its own values
  typename Parameter<X>::Claim claim;
  bool replaced = false;

  ReplacedParameter(context_of<X>& context, Parameter<X>& of_model) : parameter(&of_model), ctx(&context), base(context, of_model.shape()) {
    copy(of_model.value(), base.view());
    claim = of_model.claim();
    of_model.set_derived(true);
  }
  // The model's own again, with the values it has now.
  ~ReplacedParameter() {
    parameter->set_derived(false);
    parameter->release(std::move(claim));
  }
  void restore() {
    if (replaced) copy(base.view(), parameter->value());
    replaced = false;
  }

 private:
  void copy(View<const scalar_of<X>> from, View<scalar_of<X>> to) { ops::copy<backend_of<X>, scalar_of<X>>(*ctx, from, to); }
};

}  // namespace deltatune::detail
