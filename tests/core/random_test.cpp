// Statistics of the counter-based generator, and values written down so that a run here is a run anywhere.
#include "deltatune/core/random.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

using namespace deltatune;

namespace {

constexpr std::uint64_t kDraws = 1 << 18;

// Chi-square of counts against equal expectation, in standard deviations from its mean.
double chi_square_sigmas(const std::vector<std::uint64_t>& counts) {
  double total = 0;
  for (const std::uint64_t c : counts) total += static_cast<double>(c);
  const double bins = static_cast<double>(counts.size());
  const double expected = total / bins;
  double chi = 0;
  for (const std::uint64_t c : counts) chi += (static_cast<double>(c) - expected) * (static_cast<double>(c) - expected) / expected;
  return (chi - (bins - 1)) / std::sqrt(2 * (bins - 1));
}

// Share of equal bits in two lists of words, in standard deviations from one half.
template <class F, class G>
double agreement_sigmas(F f, G g, std::uint64_t n) {
  double equal = 0;
  for (std::uint64_t i = 0; i < n; ++i) equal += std::popcount(~(f(i) ^ g(i)));
  const double bits = 32.0 * static_cast<double>(n);
  return (equal - bits / 2) / std::sqrt(bits / 4);
}

}  // namespace

TEST_CASE("the same numbers on every machine", "[random]") {
  REQUIRE(derive(0) == RandomKey{0xe220a839u, 0x7b1dcdafu});  // SplitMix64's first output for seed 0
  const RandomKey key = derive(42, 7, 3);
  CHECK(key == RandomKey{0xf55e4254u, 0xd4655539u});
  CHECK(random_bits(key, 0) == 0x2a1f21bdu);
  CHECK(random_bits(key, 1) == 0x9a117eb3u);
  CHECK(random_bits(key, std::uint64_t{1} << 40) == 0x40cf469eu);
  CHECK(uniform(key, 5) == 0x1.391aep-4f);
  CHECK(normal(key, 5) == Approx(1.6572627617406754).epsilon(1e-12));
  CHECK(shuffled_order(42, 0, 10) == std::vector<Index>{1, 0, 3, 9, 4, 7, 6, 8, 5, 2});
  CHECK(shuffled_order(42, 1, 10) == std::vector<Index>{7, 3, 5, 8, 9, 4, 1, 2, 6, 0});
}

TEST_CASE("derive tells seeds, orders and lengths apart", "[random]") {
  std::set<std::uint64_t> seen;
  const auto add = [&](RandomKey key) { return seen.insert(std::uint64_t{key.a} << 32 | key.b).second; };
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    CHECK(add(derive(seed)));
    for (std::uint64_t step = 0; step < 20; ++step) {
      CHECK(add(derive(seed, step)));
      for (std::uint64_t site = 0; site < 20; ++site) CHECK(add(derive(seed, step, site)));
    }
  }
}

TEST_CASE("every bit, byte and pair of neighbours is uniform", "[random]") {
  for (const RandomKey key : {RandomKey{0, 0}, RandomKey{1, 0}, derive(1), derive(2, 3)}) {
    for (const std::uint64_t stride : {std::uint64_t{1}, std::uint64_t{384}, std::uint64_t{1} << 16, std::uint64_t{1} << 32}) {
      INFO("key " << key.a << "," << key.b << " stride " << stride);
      std::vector<double> ones(32);
      std::vector<std::uint64_t> high_bytes(256), low_bytes(256), high_pairs(256), low_pairs(256);
      std::uint32_t previous = random_bits(key, 0);
      for (std::uint64_t i = 1; i <= kDraws; ++i) {
        const std::uint32_t bits = random_bits(key, i * stride);
        for (std::size_t b = 0; b < 32; ++b) ones[b] += bits >> b & 1u;
        ++high_bytes[bits >> 24];
        ++low_bytes[bits & 255u];
        ++high_pairs[(previous >> 28) << 4 | bits >> 28];
        ++low_pairs[(previous & 15u) << 4 | (bits & 15u)];
        previous = bits;
      }
      for (const double count : ones) CHECK(std::fabs(count - kDraws / 2.0) < 5 * std::sqrt(kDraws / 4.0));
      for (const auto* counts : {&high_bytes, &low_bytes, &high_pairs, &low_pairs}) CHECK(std::fabs(chi_square_sigmas(*counts)) < 5);
    }
  }
}

TEST_CASE("keys and indices that differ in one bit give unrelated numbers", "[random]") {
  const RandomKey key = derive(5, 6);
  for (unsigned bit = 0; bit < 32; ++bit) {
    const RandomKey other_a{key.a ^ (1u << bit), key.b};
    const RandomKey other_b{key.a, key.b ^ (1u << bit)};
    const auto base = [&](std::uint64_t i) { return random_bits(key, i); };
    INFO("bit " << bit);
    CHECK(std::fabs(agreement_sigmas(
              base, [&](std::uint64_t i) { return random_bits(other_a, i); }, 1 << 14)) < 5);
    CHECK(std::fabs(agreement_sigmas(
              base, [&](std::uint64_t i) { return random_bits(other_b, i); }, 1 << 14)) < 5);
    CHECK(std::fabs(agreement_sigmas(
              base, [&](std::uint64_t i) { return random_bits(key, i ^ (1ull << bit)); }, 1 << 14)) < 5);
    CHECK(std::fabs(agreement_sigmas(
              base, [&](std::uint64_t i) { return random_bits(key, i ^ (1ull << (32 + bit))); }, 1 << 14)) < 5);
    CHECK(derive(1ull << bit) != derive(0));
  }
}

TEST_CASE("moments of uniform and normal", "[random]") {
  const RandomKey key = derive(11);
  const double n = static_cast<double>(kDraws);
  double sum = 0, squares = 0, normal_sum = 0, normal_squares = 0, normal_fourth = 0, neighbours = 0;
  double previous = normal(key, kDraws);
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double u = static_cast<double>(uniform(key, i));
    REQUIRE((u >= 0.0 && u < 1.0));
    sum += u;
    squares += (u - 0.5) * (u - 0.5);
    const double z = normal(key, i);
    REQUIRE(std::isfinite(z));
    normal_sum += z;
    normal_squares += z * z;
    normal_fourth += z * z * z * z;
    neighbours += z * previous;
    previous = z;
  }
  CHECK(std::fabs(sum / n - 0.5) < 4 * std::sqrt(1.0 / 12 / n));
  CHECK(std::fabs(squares / n - 1.0 / 12) < 4 * std::sqrt(1.0 / 180 / n));
  CHECK(std::fabs(normal_sum / n) < 4 / std::sqrt(n));
  CHECK(std::fabs(normal_squares / n - 1) < 4 * std::sqrt(2 / n));
  CHECK(std::fabs(normal_fourth / n - 3) < 4 * std::sqrt(96 / n));
  CHECK(std::fabs(neighbours / n) < 4 / std::sqrt(n));
}

TEST_CASE("dropout keeps what it should and keeps the mean", "[random]") {
  for (const double p : {0.05, 0.1, 0.5, 0.9}) {
    const DropoutMask mask(derive(3, 1), p);
    double kept = 0;
    for (std::uint64_t i = 0; i < kDraws; ++i) {
      const float factor = mask.factor<float>(i);
      REQUIRE((factor == 0.0f || factor == mask.scale));
      kept += factor != 0.0f;
      CHECK(mask.factor<double>(i) == static_cast<double>(factor));
    }
    const double n = static_cast<double>(kDraws);
    INFO("p = " << p);
    CHECK(std::fabs(kept / n - (1 - p)) < 4 * std::sqrt(p * (1 - p) / n));
    CHECK(static_cast<double>(mask.scale) == Approx(1 / (1 - p)));
  }
}

TEST_CASE("dropout's borders", "[random]") {
  const DropoutMask none(derive(3), 0.0);
  for (std::uint64_t i = 0; i < 100000; ++i) REQUIRE(none.factor<float>(i) == 1.0f);
  REQUIRE_THROWS_WITH(DropoutMask(derive(3), 1.0), Catch::Contains("dropout") && Catch::Contains("expected 0 <= p < 1"));
  REQUIRE_THROWS_AS(DropoutMask(derive(3), -0.1), Error);
  REQUIRE_THROWS_AS(DropoutMask(derive(3), std::nan("")), Error);
}

TEST_CASE("a shuffled order is a permutation, another one each epoch and seed", "[random]") {
  const std::vector<Index> order = shuffled_order(1, 0, 1000);
  std::vector<Index> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (Index i = 0; i < 1000; ++i) REQUIRE(sorted[static_cast<std::size_t>(i)] == i);
  REQUIRE(order != sorted);
  REQUIRE(order == shuffled_order(1, 0, 1000));
  REQUIRE(order != shuffled_order(1, 1, 1000));
  REQUIRE(order != shuffled_order(2, 0, 1000));
  REQUIRE(shuffled_order(1, 0, 0).empty());
  REQUIRE(shuffled_order(1, 0, 1) == std::vector<Index>{0});
}

TEST_CASE("every permutation is as likely", "[random]") {
  std::vector<std::uint64_t> counts(24);
  for (std::uint64_t epoch = 0; epoch < 24000; ++epoch) {
    std::vector<Index> order = shuffled_order(9, epoch, 4);
    std::size_t rank = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      std::size_t smaller = 0;
      for (std::size_t j = i + 1; j < 4; ++j) smaller += order[j] < order[i];
      rank = rank * (4 - i) + smaller;
    }
    ++counts[rank];
  }
  CHECK(std::fabs(chi_square_sigmas(counts)) < 5);
}
