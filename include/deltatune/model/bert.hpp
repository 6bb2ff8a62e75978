// BERT by its own name: any Transformer is loaded by its config.json (model/transformer.hpp), and described by model/family/bert.hpp.
#pragma once

#include "deltatune/model/transformer.hpp"

namespace deltatune {

template <class X>
using Bert = Transformer<X>;

}  // namespace deltatune
