// C = alpha op(A) op(B) + beta C in column-major order, as cuBLAS means it. Inputs of 16 bits are read rounded, sums are float32.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace cuda_emulation {

enum class Number { f32, bf16, f16 };
inline std::size_t bytes_of(Number number) { return number == Number::f32 ? 4 : 2; }

inline float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
// To the nearest, ties to even, of a float whose last `drop` bits go.
inline std::uint32_t rounded_bits(float value, unsigned drop) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7f800000U) == 0x7f800000U) return (bits & 0x7fffffU) != 0 ? bits | 0x400000U : bits;
  return bits + (1U << (drop - 1)) - 1 + (bits >> drop & 1U);
}
inline std::uint16_t to_bf16(float value) { return static_cast<std::uint16_t>(rounded_bits(value, 16) >> 16); }
inline float to_tf32(float value) { return std::bit_cast<float>(rounded_bits(value, 13) & ~0x1fffU); }
inline float from_f16(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t rest = bits & 0x7fffU;
  if (rest >= 0x7c00U) return std::bit_cast<float>(sign | 0x7f800000U | rest << 13);
  // As the exponent field of a float, 2^112 too small; the product with it also makes subnormals normal.
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest << 13) * 0x1p112F));
}
inline std::uint16_t to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000U);
  const float size = std::bit_cast<float>(bits & 0x7fffffffU);
  if (size != size) return static_cast<std::uint16_t>(sign | 0x7e00U);
  if (size >= 65520.0F) return static_cast<std::uint16_t>(sign | 0x7c00U);
  if (size < 0x1p-14F) {  // subnormals are multiples of 2^-24: the sum rounds to one
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(size + 0.5F) - std::bit_cast<std::uint32_t>(0.5F)));
  }
  return static_cast<std::uint16_t>(sign | (rounded_bits(size, 13) - (112U << 23)) >> 13);
}

// A matrix in memory: element (i, j) of op(matrix) is at i * row + j * col.
struct Operand {
  const char* data;
  Number number;
  std::ptrdiff_t row;
  std::ptrdiff_t col;
  bool tf32;
};

// read(p): the float in the memory at element p of it.
template <class Use>
void with_reader(const Operand& operand, const Use& use) {
  const auto bits16 = [data = operand.data](std::ptrdiff_t p) {
    std::uint16_t bits;
    std::memcpy(&bits, data + p * 2, sizeof bits);
    return bits;
  };
  const auto f32 = [data = operand.data](std::ptrdiff_t p) {
    float value;
    std::memcpy(&value, data + p * 4, sizeof value);
    return value;
  };
  if (operand.number == Number::bf16) return use([&](std::ptrdiff_t p) { return from_bf16(bits16(p)); });
  if (operand.number == Number::f16) return use([&](std::ptrdiff_t p) { return from_f16(bits16(p)); });
  if (operand.tf32) return use([&](std::ptrdiff_t p) { return to_tf32(f32(p)); });
  use(f32);
}

// `count` rows from `first` on, width apart in the panel: panel[l * width + r] = op(matrix)(first + r, l).
inline void pack(const Operand& operand, std::ptrdiff_t first, std::ptrdiff_t count, std::ptrdiff_t k, std::ptrdiff_t width, float* panel) {
  const std::ptrdiff_t row = operand.row;
  const std::ptrdiff_t col = operand.col;
  with_reader(operand, [&](const auto& read) {
    if (row == 1) {
      for (std::ptrdiff_t l = 0; l < k; ++l)
        for (std::ptrdiff_t r = 0; r < count; ++r) panel[l * width + r] = read(first + r + l * col);
    } else {
      for (std::ptrdiff_t r = 0; r < count; ++r)
        for (std::ptrdiff_t l = 0; l < k; ++l) panel[l * width + r] = read((first + r) * row + l * col);
    }
  });
}

using Float8 = float __attribute__((vector_size(32)));

// 16 rows of op(A) times 4 columns of op(B), both packed: sums[col * 16 + row].
inline void gemm_tile(const float* a, const float* b, std::ptrdiff_t k, float* sums) {
  Float8 c00{}, c01{}, c10{}, c11{}, c20{}, c21{}, c30{}, c31{};
  for (std::ptrdiff_t l = 0; l < k; ++l, a += 16, b += 4) {
    Float8 a0;
    Float8 a1;
    std::memcpy(&a0, a, sizeof a0);
    std::memcpy(&a1, a + 8, sizeof a1);
    c00 += a0 * b[0], c01 += a1 * b[0];
    c10 += a0 * b[1], c11 += a1 * b[1];
    c20 += a0 * b[2], c21 += a1 * b[2];
    c30 += a0 * b[3], c31 += a1 * b[3];
  }
  const Float8 all[8] = {c00, c01, c10, c11, c20, c21, c30, c31};
  std::memcpy(sums, all, sizeof all);
}

// c: element (i, j) at i + j * ldc. It is not read when beta is 0.
inline void gemm(std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k, float alpha, const Operand& a, const Operand& b, float beta, char* c, Number c_number,
                 std::ptrdiff_t ldc) {
  static thread_local std::vector<float> panel_a;
  static thread_local std::vector<float> panels_b;
  panel_a.assign(static_cast<std::size_t>(16 * k), 0.0F);
  panels_b.assign(static_cast<std::size_t>((n + 3) / 4 * 4 * k), 0.0F);
  const Operand columns_b{b.data, b.number, b.col, b.row, b.tf32};
  for (std::ptrdiff_t j = 0; j < n; j += 4) pack(columns_b, j, std::min<std::ptrdiff_t>(4, n - j), k, 4, panels_b.data() + j * k);
  const auto c_bytes = static_cast<std::ptrdiff_t>(bytes_of(c_number));
  float sums[64];
  for (std::ptrdiff_t i = 0; i < m; i += 16) {
    const std::ptrdiff_t rows = std::min<std::ptrdiff_t>(16, m - i);
    pack(a, i, rows, k, 16, panel_a.data());
    for (std::ptrdiff_t j = 0; j < n; j += 4) {
      gemm_tile(panel_a.data(), panels_b.data() + j * k, k, sums);
      for (std::ptrdiff_t q = 0; q < 4 && j + q < n; ++q) {
        char* column = c + (i + (j + q) * ldc) * c_bytes;
        with_reader({column, c_number, 1, 0, false}, [&](const auto& read) {
          for (std::ptrdiff_t r = 0; r < rows; ++r) {
            const float product = alpha * sums[q * 16 + r];
            const float value = beta != 0.0F ? product + beta * read(r) : product;
            if (c_number == Number::f32) {
              std::memcpy(column + r * 4, &value, sizeof value);
            } else {
              const std::uint16_t bits = c_number == Number::bf16 ? to_bf16(value) : to_f16(value);
              std::memcpy(column + r * 2, &bits, sizeof bits);
            }
          }
        });
      }
    }
  }
}

}  // namespace cuda_emulation
