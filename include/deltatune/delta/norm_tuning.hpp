// LayerNorm tuning: scales and shifts of norms, trained in place of the model's own. Qi et al. 2022, arXiv 2210.03629; Zhao et al. 2023,
// arXiv 2312.11420.
//
//   γ = γ',   β = β'
//   backward:  dγ' += dγ,   dβ' += dβ
//
// Shapes      as the norm's (C)
// Start       the norm's values: the delta changes nothing
// Parameters  2·C a norm
// Seam        parameter; usually all norms
// Merge       exact: γ', β'
// Files       PEFT: <norm>.ln_tuning_layers.weight, <norm>.ln_tuning_layers.bias
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deltatune/delta/own_parameter.hpp"
#include "deltatune/delta/replaced_parameter.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/seam/parameter.hpp"

namespace deltatune {

template <class X>
class NormTuning {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;
  using Context = context_of<X>;

  // For these parameters of a model's norms, which stay where they are.
  NormTuning(Context& ctx, const std::vector<Parameter<X>*>& parameters) {
    for (Parameter<X>* const parameter : parameters) entries_.push_back(std::make_unique<Entry>(ctx, *parameter));
  }

  template <class F>
  void visit(const F& f) {
    for (const auto& entry : entries_) f(*entry->trained);
  }

  template <class F>
  void visit_replaced(const F& f) {
    for (const auto& entry : entries_) f(*entry->parameter);
  }

  void forward(Pass<X>& pass) { merge(pass.ctx); }
  void backward(Pass<X>& pass) {
    for (const auto& entry : entries_) {
      const View<T> from = entry->parameter->gradient();
      if (const View<T> to = entry->trained->gradient()) ops::axpy<B, T>(pass.ctx, T(1), from, to);
      B::fill(pass.ctx, from, T(0));
    }
  }

  void merge(Context& ctx) {
    for (const auto& entry : entries_) {
      ops::copy<B, T>(ctx, entry->trained->value(), entry->parameter->value());
      entry->replaced = true;
    }
  }
  void rest() {
    for (const auto& entry : entries_) entry->restore();
  }

 private:
  struct Entry : detail::ReplacedParameter<X> {
    detail::OwnParameter<X> trained;

    Entry(Context& context, Parameter<X>& of_norm)
        : detail::ReplacedParameter<X>(context, of_norm), trained(context, path_for(of_norm.path()), of_norm.shape()) {
      ops::copy<B, T>(context, of_norm.value(), trained->value());
      trained->set_decays(false);
    }
    static std::string path_for(const std::string& path) {
      const std::size_t end = path.rfind('.');
      return path.substr(0, end) + ".ln_tuning_layers" + path.substr(end);
    }
  };

  std::vector<std::unique_ptr<Entry>> entries_;
};

}  // namespace deltatune
