// GPT-2 by its own name: any Transformer is loaded by its config.json (model/transformer.hpp), and described by model/family/gpt2.hpp.
#pragma once

#include "deltatune/model/transformer.hpp"

namespace deltatune {

template <class X>
using Gpt2 = Transformer<X>;

}  // namespace deltatune
