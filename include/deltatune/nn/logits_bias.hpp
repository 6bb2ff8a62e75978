// What is added to a language model's logits, one number per word: a buffer of BART's and mBART's files, which nothing trains and a file may lack.
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "deltatune/ops/elementwise.hpp"
#include "deltatune/param/parameter.hpp"

namespace deltatune {

template <class X>
class LogitsBias {
 public:
  using T = scalar_of<X>;
  using B = backend_of<X>;

  LogitsBias() = default;
  // Zeros.
  LogitsBias(context_of<X>& ctx, const std::string& path, Index words) : values_(ctx, {words}), parameter_(path, Role::bias, {words}, values_.view()) {
    parameter_.set_file_shape({1, words});
    parameter_.set_constant();
  }

  template <class F>
  void visit(const F& f) {
    if (values_) f(parameter_);
  }
  // Another number of words: the first ones stay, those of new ones are 0.
  void resize(context_of<X>& ctx, Index words) {
    if (!values_) return;
    const Index kept = std::min(words, parameter_.size());
    LogitsBias other(ctx, parameter_.path(), words);
    ops::copy<B, T>(ctx, values_.view().column_range(0, kept), other.values_.view().column_range(0, kept));
    *this = std::move(other);
  }
  // (V), or empty.
  View<const T> values() const { return values_.view(); }

 private:
  X values_;
  Parameter<X> parameter_;
};

}  // namespace deltatune
