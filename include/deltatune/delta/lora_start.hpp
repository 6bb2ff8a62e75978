// Starts of LoRA that take a part of the frozen weight over (delta/lora_residual.hpp): LoraPlan::start.
//
//   W = U·Σ·Vᵀ:   A₀ = √(Σ_R/s)·V_Rᵀ,  B₀ = U_R·√(Σ_R/s)     PiSSA: Meng et al. 2024, arXiv 2404.02948
//   W = Q·R:      A₀ = R_(first R rows),  B₀ = Q_(first R columns)     OLoRA: Büyükakyüz 2024, arXiv 2406.01775
//
// In a header of their own: only programs that use them compile the factorisations.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/factorise.hpp"
#include "deltatune/delta/lora_residual.hpp"

namespace deltatune {

namespace detail {

DELTATUNE_FUNCTION void check_lora_start(const HostMatrix& weight, Index rank, const std::string& where) {
  if (rank > std::min(weight.rows, weight.cols))
    throw Error(where + ": rank", "is larger than this start allows",
                {.expected = "at most " + std::to_string(std::min(weight.rows, weight.cols)), .got = std::to_string(rank)});
}

// A₀ = roots ∘ right, B₀ = left ∘ roots, of the first `rank` rows and columns.
DELTATUNE_FUNCTION LoraFactors scaled_factors(const HostMatrix& left, const HostMatrix& right, const std::vector<double>& roots) {
  const Index rank = static_cast<Index>(roots.size());
  LoraFactors factors{HostMatrix(rank, right.cols), HostMatrix(left.rows, rank)};
  for (Index r = 0; r < rank; ++r) {
    const double root = roots[static_cast<std::size_t>(r)];
    for (Index j = 0; j < right.cols; ++j) factors.a(r, j) = root * right(r, j);
    for (Index i = 0; i < left.rows; ++i) factors.b(i, r) = root * left(i, r);
  }
  return factors;
}

}  // namespace detail

// Its factors throw Error when the rank is larger than the weight allows, or for an alpha that is not positive.
DELTATUNE_FUNCTION LoraStart pissa() {
  return {"pissa", [](const HostMatrix& weight, Index rank, double scale, const std::string& where) {
            detail::check_lora_start(weight, rank, where);
            if (!(scale > 0)) throw Error(where + ": alpha", "must be positive for this start", {.got = std::to_string(scale)});
            const SvdFactors svd = leading_svd(weight, rank);
            std::vector<double> roots;
            for (Index r = 0; r < rank; ++r) roots.push_back(std::sqrt(svd.values[static_cast<std::size_t>(r)] / scale));
            return detail::scaled_factors(svd.u, svd.vt, roots);
          }};
}

// Its factors throw Error when the rank is larger than the weight allows.
DELTATUNE_FUNCTION LoraStart olora() {
  return {"olora", [](const HostMatrix& weight, Index rank, double /*scale*/, const std::string& where) {
            detail::check_lora_start(weight, rank, where);
            const QrFactors triangle = qr(weight);
            return detail::scaled_factors(triangle.q, triangle.r, std::vector<double>(static_cast<std::size_t>(rank), 1.0));
          }};
}

}  // namespace deltatune
