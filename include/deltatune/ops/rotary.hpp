// Rotary position embeddings (RoPE; Su et al. 2021, arXiv 2104.09864), halves layout as in Llama and ModernBERT.
//
// In every head of D columns the first R <= D are turned, x1 those of the first half of R and x2 those of the second:
//   y1 = x1 ∘ c - x2 ∘ s,   y2 = x2 ∘ c + x1 ∘ s,   c = magnitude · cos(p f), s = magnitude · sin(p f)
// with the position p of the row and frequencies f_i = scale_i · theta^(-2i/R), i < R/2. The pull-back is the same with -s.
// c and s are read from tables (P, R/2), a row for each position.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/tensor/view.hpp"

namespace deltatune {

// (R/2): f_i, in float as in transformers. scale: (R/2), or empty for ones. Throws Error when R is odd or scale has another length.
inline std::vector<float> rotary_frequencies(double theta, Index width, std::span<const float> scale = {}) {
  if (width < 0 || width % 2 != 0) throw Error("rotary embedding", "turns pairs of columns", {.expected = "an even width", .got = std::to_string(width)});
  const std::size_t half = static_cast<std::size_t>(width / 2);
  if (!scale.empty() && scale.size() != half)
    throw Error("rotary embedding", "needs one scale per frequency", {.expected = std::to_string(half), .got = std::to_string(scale.size())});
  std::vector<float> frequencies(half);
  for (std::size_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(width);
    frequencies[i] = 1.0F / static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
    if (!scale.empty()) frequencies[i] *= scale[i];
  }
  return frequencies;
}

// Fills tables in host memory, both (P, R/2), for the positions 0 to P - 1: angles in float, magnitude times their cosines and sines.
// Throws Error when there is not one frequency per column.
template <class T>
void fill_rotary_tables(std::span<const float> frequencies, float magnitude, View<T> cos, View<T> sin) {
  const Index half = static_cast<Index>(frequencies.size());
  if (cos.cols != half || sin.cols != half || cos.rows != sin.rows)
    throw Error("rotary tables", "need one column per frequency and equal shapes",
                {.expected = to_string({cos.rows, half}), .got = to_string({cos.rows, cos.cols}) + " and " + to_string({sin.rows, sin.cols})});
  for (Index position = 0; position < cos.rows; ++position)
    for (Index i = 0; i < half; ++i) {
      const double angle = static_cast<double>(static_cast<float>(position) * frequencies[static_cast<std::size_t>(i)]);
      cos(position, i) = static_cast<T>(static_cast<float>(std::cos(angle)) * magnitude);
      sin(position, i) = static_cast<T>(static_cast<float>(std::sin(angle)) * magnitude);
    }
}

namespace ops {

// Where rows stand and by how much each position turns.
template <class T>
struct Rotation {
  View<const T> cos, sin;                   // (P, R/2)
  const std::int32_t* positions = nullptr;  // (N), each below P
};

namespace detail {

template <class T>
struct RotaryRow {
  View<T> x_io;
  Rotation<T> rotation;
  Index heads;
  T sign;  // of s
  template <class Team>
  DELTATUNE_HD void operator()(const Team& team, Index i) const {
    const Index half = rotation.cos.cols;
    const Index head_width = x_io.cols / heads;
    const T* DELTATUNE_RESTRICT c = rotation.cos.row(rotation.positions[i]);
    const T* DELTATUNE_RESTRICT s = rotation.sin.row(rotation.positions[i]);
    for (Index h = 0; h < heads; ++h) {
      T* DELTATUNE_RESTRICT x1 = x_io.row(i) + h * head_width;
      T* DELTATUNE_RESTRICT x2 = x1 + half;
      team.each(half, [=, direction = sign](Index j) {
        const T a = x1[j];
        const T b = x2[j];
        const T turn = direction * s[j];
        x1[j] = a * c[j] - b * turn;
        x2[j] = b * c[j] + a * turn;
      });
    }
  }
};

}  // namespace detail

// Turns the first R columns of each head of x_io (N, H·D) in place. inverse: with -s, the pull-back of a gradient.
template <class B, class T>
void rotate(typename B::Context& ctx, const Rotation<T>& rotation, Index heads, View<T> x_io, bool inverse = false) {
  B::for_each_row(ctx, x_io.rows, x_io.cols, detail::RotaryRow<T>{x_io, rotation, heads, inverse ? T(-1) : T(1)});
}

}  // namespace ops
}  // namespace deltatune
