// Everything done to "all parameters" goes through one enumerator, visit(f), which a model, a layer and a delta each have: it calls
// f(Parameter<X>&) for every parameter in a fixed order. Here are the selections built on it.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/path.hpp"
#include "deltatune/param/parameter.hpp"

namespace deltatune {

namespace detail {

// f(Parameter<X>&) for every parameter whose path matches one of the globs. Throws Error for a glob that matches nothing.
template <class Module, class F>
void visit_matching(Module& root, const std::vector<std::string>& globs, const F& f) {
  std::vector<bool> matched(globs.size(), false);
  root.visit([&](auto& parameter) {
    bool selected = false;
    for (std::size_t i = 0; i < globs.size(); ++i)
      if (matches(globs[i], parameter.path())) matched[i] = selected = true;
    if (selected) f(parameter);
  });
  for (std::size_t i = 0; i < globs.size(); ++i)
    if (!matched[i])
      throw Error("pattern \"" + globs[i] + "\"", "matches no parameter", {.remedy = "visit() lists the paths; ** stands for any number of segments"});
}
template <class Module>
void mask_matching(Module& root, const std::vector<std::string>& globs, const FreezeMask& mask) {
  visit_matching(root, globs, [&](auto& parameter) { parameter.set_mask(mask); });
}

}  // namespace detail

// freeze(model, {"**"}); unfreeze(model, {"**.bias", "classifier.**"}). Globs over checkpoint names: see core/path.hpp.
template <class Module>
void freeze(Module& root, const std::vector<std::string>& globs) {
  detail::mask_matching(root, globs, FreezeMask::frozen());
}
template <class Module>
void unfreeze(Module& root, const std::vector<std::string>& globs) {
  detail::mask_matching(root, globs, FreezeMask::trainable());
}
// Trains part of the matching parameters, for example rows of an embedding: set_mask(model, {"**.word_embeddings.weight"}, FreezeMask::rows({7, 8})).
template <class Module>
void set_mask(Module& root, const std::vector<std::string>& globs, const FreezeMask& mask) {
  detail::mask_matching(root, globs, mask);
}

template <class Module>
Index parameter_count(Module& root) {
  Index count = 0;
  root.visit([&](const auto& parameter) {
    if (!(parameter.derived() && parameter.role() == Role::delta)) count += parameter.size();  // those are other parameters once more
  });
  return count;
}
template <class Module>
Index trainable_count(Module& root) {
  Index count = 0;
  root.visit([&](const auto& parameter) { count += parameter.trainable_count(); });
  return count;
}

// Whether anything in a module trains: the gradient frontier is the lowest module for which this holds.
template <class Module>
bool trains(Module& root) {
  bool any = false;
  root.visit([&](const auto& parameter) { any = any || parameter.trains(); });
  return any;
}

// Gradients for what trains, zeroed when they exist already; the rest owns none.
template <class Module, class Context>
void allocate_gradients(Module& root, Context& ctx) {
  root.visit([&](auto& parameter) { parameter.allocate_gradient(ctx); });
}
template <class Module, class Context>
void zero_gradients(Module& root, Context& ctx) {
  root.visit([&]<class X>(Parameter<X>& parameter) {
    if (parameter.has_gradient()) backend_of<X>::fill(ctx, parameter.gradient(), scalar_of<X>(0));
  });
}

}  // namespace deltatune
