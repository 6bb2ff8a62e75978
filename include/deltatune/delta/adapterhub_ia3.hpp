// (IA)3 on parts of a fused weight, as AdapterHub has it on GPT-2: factors for query, key or value alone. Liu et al. 2022, arXiv
// 2205.05638.
//
//   y_p = l_p ∘ (x·W_pᵀ + b_p) for the chosen parts p of the output;   dl_p += Σ_rows dy_p∘(x·W_pᵀ + b_p),   what is below gets dy_p∘l_p
//
// Shapes      l (n·w, 1): n chosen parts of width w
// Start       l = 1: the delta changes nothing
// Parameters  n·w a site
// Seam        weight, after the bias; for whole outputs see delta/ia3.hpp
// Merge       exact: rows of W and of the bias times l
// Files       AdapterHub: <site>.loras.NAME.lora_B
#pragma once

#include "deltatune/delta/ia3.hpp"

namespace deltatune {

template <class X>
using AdapterHubIa3 = Ia3<X>;

}  // namespace deltatune
