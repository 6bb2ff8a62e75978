#include "deltatune/backend/backend.hpp"

#include <omp.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "deltatune/backend/cpu.hpp"
#include "deltatune/backend/cpu/gemm_tiled.hpp"
#include "deltatune/backend/reference.hpp"

using namespace deltatune;

static_assert(Backend<Reference>);
static_assert(Backend<DefaultCpu>);
static_assert(Backend<Cpu<TiledGemm>>);
static_assert(!Backend<int>);

namespace {

struct Count {
  int* hits;
  void operator()(Index i) const { hits[i] += 1; }
};

struct RowNumbers {
  View<const float> x;
  View<float> result;  // (rows, 2): sum, max
  View<int> hits;
  template <class Team>
  void operator()(const Team& team, Index i) const {
    const float* row = x.row(i);
    int* hit = hits.row(i);
    team.each(x.cols, [=](Index j) { hit[j] += 1; });
    result(i, 0) = team.sum(x.cols, [=](Index j) { return row[j]; });
    result(i, 1) = team.max(x.cols, [=](Index j) { return row[j]; });
  }
};

template <class B>
void check_loops(typename B::Context& ctx) {
  for (const Index n : {0, 1, 63, 64, 65, 8191, 8192, 30001}) {
    std::vector<int> hits(static_cast<std::size_t>(n));
    B::for_each(ctx, n, Count{hits.data()});
    CHECK(hits == std::vector<int>(static_cast<std::size_t>(n), 1));  // every element once
  }
  for (const auto& [rows, cols] : {std::pair<Index, Index>{0, 5}, {1, 1}, {3, 17}, {67, 131}, {2, 9001}, {9001, 1}}) {
    std::vector<float> x, result(static_cast<std::size_t>(2 * rows));
    for (Index i = 0; i < rows * cols; ++i) x.push_back(static_cast<float>((i * 7919) % 101) - 200.0F);  // all negative: the maximum is not 0
    std::vector<int> hits(x.size());
    B::for_each_row(ctx, rows, cols, RowNumbers{{x.data(), rows, cols}, {result.data(), rows, 2}, {hits.data(), rows, cols}});
    CHECK(hits == std::vector<int>(x.size(), 1));
    for (Index i = 0; i < rows; ++i) {
      double sum = 0;
      float largest = -std::numeric_limits<float>::infinity();
      for (Index j = 0; j < cols; ++j) {
        sum += static_cast<double>(x[static_cast<std::size_t>(i * cols + j)]);
        largest = std::max(largest, x[static_cast<std::size_t>(i * cols + j)]);
      }
      REQUIRE(static_cast<double>(result[static_cast<std::size_t>(2 * i)]) == Approx(sum).epsilon(1e-5));
      REQUIRE(result[static_cast<std::size_t>(2 * i + 1)] == largest);
    }
  }
}

template <class B>
void check_memory(typename B::Context& ctx) {
  ctx.reset_counters();
  void* block = B::allocate(ctx, 1000);
  CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
  CHECK(ctx.allocations() == 1);
  CHECK(ctx.live_bytes() == 1000);
  const std::vector<float> host{1, 2, 3};
  std::vector<float> back(3);
  B::copy_in(ctx, host.data(), block, 12);
  B::copy_out(ctx, block, back.data(), 12);
  B::synchronize(ctx);
  CHECK(back == host);
  View<float> part(static_cast<float*>(block), 2, 1, 2);  // elements 0 and 2
  B::fill(ctx, part, 9.0F);
  B::copy_out(ctx, block, back.data(), 12);
  CHECK(back == std::vector<float>{9, 2, 9});
  B::release(ctx, block, 1000);
  CHECK(ctx.live_bytes() == 0);
  CHECK(ctx.peak_bytes() >= 1000);
}

template <class B>
void check_dry_run(typename B::Context& ctx) {
  std::vector<float> c{5, 5}, out(1);
  int hit = 0;
  const float one = 1;
  ctx.reset_counters();
  std::vector<GemmRecord> trace;
  ctx.trace_gemms(&trace);
  {
    const DryRun dry(ctx);
    B::fill(ctx, View<float>(c.data(), 1, 2), 0.0F);
    B::copy_in(ctx, &one, c.data(), 4);
    B::copy_out(ctx, &one, out.data(), 4);
    B::for_each(ctx, 1, Count{&hit});
    B::for_each_row(ctx, 1, 1, RowNumbers{{c.data(), 1, 1}, {c.data(), 1, 2}, {&hit, 1, 1}});
    B::gemm(ctx, Gemm<float>{.a = {&one, 1, 1}, .b = {c.data(), 1, 2}, .c = {c.data(), 1, 2}});
  }
  ctx.trace_gemms(nullptr);
  CHECK(c == std::vector<float>{5, 5});
  CHECK(out == std::vector<float>{0});
  CHECK(hit == 0);
  CHECK(ctx.gemm_calls() == 1);  // counted all the same
  CHECK(ctx.gemm_flops() == 4);
  REQUIRE(trace.size() == 1);
  CHECK(trace[0].m == 1);
  CHECK(trace[0].n == 2);
  CHECK(trace[0].k == 1);
  B::gemm(ctx, Gemm<float>{.a = {&one, 1, 1}, .b = {&one, 1, 1}, .c = {out.data(), 1, 1}});
  CHECK(trace.size() == 1);
  CHECK(out[0] == 1.0F);
}

}  // namespace

TEST_CASE("backends: loops, memory, dry run", "[backend]") {
  SECTION("Reference") {
    Reference::Context ctx;
    check_loops<Reference>(ctx);
    check_memory<Reference>(ctx);
    check_dry_run<Reference>(ctx);
  }
  SECTION("Cpu") {
    DefaultCpu::Context ctx(GENERATE(1, 2, 3));
    check_loops<DefaultCpu>(ctx);
    check_memory<DefaultCpu>(ctx);
    check_dry_run<DefaultCpu>(ctx);
  }
}

TEST_CASE("the CPU context takes as many threads as it is told, or all", "[backend]") {
  CHECK(DefaultCpu::Context(3).threads() == 3);
  CHECK(DefaultCpu::Context().threads() == omp_get_max_threads());
}

TEST_CASE("a library below us gets a thread limit and the old one comes back", "[backend]") {
  const int before = omp_get_max_threads();
  {
    const detail::ThreadLimit limit(1);
    CHECK(omp_get_max_threads() == 1);
  }
  CHECK(omp_get_max_threads() == before);
}

TEST_CASE("the cut of a range depends on its size and the threads alone", "[backend]") {
  std::vector<std::pair<Index, Index>> first(3), second(3);
  for (auto* parts : {&first, &second}) {
    detail::parallel_ranges(3, 100, 16, false, [&](Index begin, Index end) { (*parts)[static_cast<std::size_t>(begin / 32)] = {begin, end}; });
  }
  CHECK(first == second);
  CHECK(first == std::vector<std::pair<Index, Index>>{{0, 32}, {32, 64}, {64, 100}});
}
