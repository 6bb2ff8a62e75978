// Both providers and Reference against a triple loop in double, and our own products whatever the number of threads.
#include "deltatune/backend/gemm.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "deltatune/backend/attention.hpp"
#include "deltatune/backend/cpu.hpp"
#include "deltatune/backend/cpu/gemm_tiled.hpp"
#include "deltatune/backend/reference.hpp"
#include "deltatune/core/half.hpp"
#include "deltatune/core/random.hpp"

using namespace deltatune;

static_assert(std::is_trivially_copyable_v<Gemm<float>>);
static_assert(std::is_trivially_copyable_v<AttentionPlan>);
static_assert(std::is_trivially_copyable_v<AttentionForward<float>>);
static_assert(std::is_trivially_copyable_v<AttentionBackward<float>>);

namespace {

template <class T>
std::vector<T> random_values(std::uint64_t stream, Index count) {
  std::vector<T> values;
  for (Index i = 0; i < count; ++i) values.push_back(static_cast<T>(normal(derive(5, stream), static_cast<std::uint64_t>(i))));
  return values;
}

struct Size {
  Index m, n, k;
};

// In: what is multiplied; the expected product is that of the rounded inputs.
template <class B, class T, class In = T>
void check_gemm(typename B::Context& ctx, Size size, bool transpose_a, bool transpose_b, Index padding, double alpha, double beta) {
  const Index a_rows = transpose_a ? size.k : size.m, a_cols = transpose_a ? size.m : size.k;
  const Index b_rows = transpose_b ? size.n : size.k, b_cols = transpose_b ? size.k : size.n;
  const Index stride = size.n + padding;
  const auto rounded = [](const std::vector<T>& values) {
    std::vector<In> result;
    for (const T value : values) result.push_back(In(value));
    return result;
  };
  const std::vector<In> a = rounded(random_values<T>(1, a_rows * (a_cols + padding))), b = rounded(random_values<T>(2, b_rows * (b_cols + padding)));
  std::vector<T> c = random_values<T>(3, size.m * stride);
  const std::vector<T> before = c;
  if (beta == 0.0)
    for (Index i = 0; i < size.m; ++i)
      for (Index j = 0; j < size.n; ++j) c[static_cast<std::size_t>(i * stride + j)] = std::numeric_limits<T>::quiet_NaN();  // must not be read
  const Gemm<T, In> product{.a = {a.data(), a_rows, a_cols, a_cols + padding},
                            .b = {b.data(), b_rows, b_cols, b_cols + padding},
                            .c = {c.data(), size.m, size.n, stride},
                            .transpose_a = transpose_a,
                            .transpose_b = transpose_b,
                            .alpha = static_cast<T>(alpha),
                            .beta = static_cast<T>(beta)};
  REQUIRE(product.m() == size.m);
  REQUIRE(product.n() == size.n);
  REQUIRE(product.k() == size.k);
  B::gemm(ctx, product);
  double worst = 0;
  bool untouched = true;
  for (Index i = 0; i < size.m; ++i) {
    for (Index j = 0; j < size.n; ++j) {
      double sum = 0;
      for (Index l = 0; l < size.k; ++l)
        sum += static_cast<double>(static_cast<T>(transpose_a ? product.a(l, i) : product.a(i, l))) *
               static_cast<double>(static_cast<T>(transpose_b ? product.b(j, l) : product.b(l, j)));
      const std::size_t at = static_cast<std::size_t>(i * stride + j);
      const double expected =
          static_cast<double>(product.alpha) * sum + (beta == 0.0 ? 0.0 : static_cast<double>(product.beta) * static_cast<double>(before[at]));
      const double error = std::abs(expected - static_cast<double>(c[at]));
      worst = error <= worst ? worst : std::isnan(error) ? 1e30 : error;
    }
    for (Index j = size.n; j < stride; ++j)
      untouched = untouched && c[static_cast<std::size_t>(i * stride + j)] == before[static_cast<std::size_t>(i * stride + j)];
  }
  INFO("m " << size.m << " n " << size.n << " k " << size.k << " transposes " << transpose_a << transpose_b << " padding " << padding << " alpha " << alpha
            << " beta " << beta);
  CHECK(worst <= (std::is_same_v<T, float> ? 5e-6 : 1e-14) * std::sqrt(static_cast<double>(size.k)) * 4);
  CHECK(untouched);
}

template <class B, class T, class In = T>
void check_all(typename B::Context& ctx, const std::vector<Size>& sizes) {
  for (const Size size : sizes)
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true})
        for (const Index padding : {0, 3}) {
          check_gemm<B, T, In>(ctx, size, transpose_a, transpose_b, padding, 1.0, 0.0);
          check_gemm<B, T, In>(ctx, size, transpose_a, transpose_b, padding, 1.0, 1.0);
          check_gemm<B, T, In>(ctx, size, transpose_a, transpose_b, padding, -0.5, 0.25);
          check_gemm<B, T, In>(ctx, size, transpose_a, transpose_b, padding, 2.0, 0.0);
        }
}

const std::vector<Size> kSmall{{1, 1, 1}, {1, 5, 3}, {5, 1, 3}, {7, 3, 1}, {3, 7, 8}, {17, 31, 9}};
const std::vector<Size> kLarge{{67, 131, 45}, {131, 67, 33}, {1, 400, 200}, {400, 1, 200}, {70, 6, 300}, {67, 41, 130}};  // above the serial threshold

}  // namespace

TEMPLATE_TEST_CASE("gemm: all transposes, strides, alpha and beta", "[backend][gemm]", Cpu<TiledGemm>, DefaultCpu) {
  const int threads = GENERATE(1, 2, 3);
  typename TestType::Context ctx(threads);
  check_all<TestType, float>(ctx, kSmall);
  check_all<TestType, float>(ctx, kLarge);
  check_all<TestType, double>(ctx, kSmall);
  check_all<TestType, float, Bfloat16>(ctx, kSmall);
  check_all<TestType, float, Bfloat16>(ctx, kLarge);
}

TEMPLATE_TEST_CASE("gemm: several blocks in every direction", "[backend][gemm]", float, double) {
  const int threads = GENERATE(1, 4);
  Cpu<TiledGemm>::Context ctx(threads);
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true}) {
      check_gemm<Cpu<TiledGemm>, TestType>(ctx, {203, 1046, 600}, transpose_a, transpose_b, 3, 1.0, 0.0);
      check_gemm<Cpu<TiledGemm>, TestType>(ctx, {1046, 203, 600}, transpose_a, transpose_b, 0, 1.0, 1.0);
    }
}

TEST_CASE("gemm: Reference", "[backend][gemm]") {
  Reference::Context ctx;
  check_all<Reference, float>(ctx, kSmall);
  check_all<Reference, double>(ctx, kSmall);
  check_all<Reference, float, Bfloat16>(ctx, kSmall);
}

TEMPLATE_TEST_CASE("gemm: nothing to multiply", "[backend][gemm]", Cpu<TiledGemm>, DefaultCpu) {
  typename TestType::Context ctx(2);
  std::vector<float> c{1, 2};
  const float x = 1;
  TestType::gemm(ctx, Gemm<float>{.a = {&x, 0, 1}, .b = {&x, 1, 1}, .c = {c.data(), 0, 1}});  // no rows: nothing is touched
  CHECK(c == std::vector<float>{1, 2});
}

TEMPLATE_TEST_CASE("gemm: same threads, same bits", "[backend][gemm]", Cpu<TiledGemm>, DefaultCpu) {
  typename TestType::Context ctx(2);
  const std::vector<float> a = random_values<float>(1, 150 * 97), b = random_values<float>(2, 97 * 61);
  std::vector<float> first(150 * 61), second(150 * 61);
  TestType::gemm(ctx, Gemm<float>{.a = {a.data(), 150, 97}, .b = {b.data(), 97, 61}, .c = {first.data(), 150, 61}});
  TestType::gemm(ctx, Gemm<float>{.a = {a.data(), 150, 97}, .b = {b.data(), 97, 61}, .c = {second.data(), 150, 61}});
  CHECK(first == second);
}

TEST_CASE("gemm: our own products are the same bits on any number of threads", "[backend][gemm]") {
  for (const Size size : {Size{150, 61, 600}, Size{61, 1300, 600}, Size{8, 200, 300}, Size{2, 400, 300}}) {
    const std::vector<float> a = random_values<float>(1, size.m * size.k), b = random_values<float>(2, size.k * size.n);
    for (const bool transpose_b : {false, true}) {
      std::vector<std::vector<float>> results;
      for (const int threads : {1, 2, 3, 4, 12}) {
        Cpu<TiledGemm>::Context ctx(threads);
        std::vector<float>& c = results.emplace_back(static_cast<std::size_t>(size.m * size.n));
        Cpu<TiledGemm>::gemm(ctx, Gemm<float>{.a = {a.data(), size.m, size.k},
                                              .b = transpose_b ? View<const float>(b.data(), size.n, size.k) : View<const float>(b.data(), size.k, size.n),
                                              .c = {c.data(), size.m, size.n},
                                              .transpose_b = transpose_b});
        CHECK(c == results.front());
      }
    }
  }
}
