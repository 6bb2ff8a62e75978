#include "deltatune/tensor/workspace.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "deltatune/backend/cpu.hpp"
#include "deltatune/backend/reference.hpp"

using namespace deltatune;

static_assert(!std::is_copy_constructible_v<Workspace<Reference>>);

namespace {

void write(View<float> view, float value) {
  for (Index i = 0; i < view.size(); ++i) view.data[i] = value;
}
bool holds(View<float> view, float value) {
  for (Index i = 0; i < view.size(); ++i)
    if (view.data[i] != value) return false;
  return true;
}

}  // namespace

TEST_CASE("workspace: every matrix starts at a cache line", "[workspace]") {
  DefaultCpu::Context ctx(1);
  Workspace<DefaultCpu> workspace(ctx);
  for (const Index cols : {1, 3, 16, 17, 1000}) {
    const View<float> view = workspace.take<float>(3, cols);
    CHECK(reinterpret_cast<std::uintptr_t>(view.data) % 64 == 0);
    CHECK(view.rows == 3);
    CHECK(view.cols == cols);
    CHECK(view.stride == cols);
  }
}

TEST_CASE("workspace: grows without a plan and leaves alone what is taken", "[workspace]") {
  Reference::Context ctx;
  Workspace<Reference> workspace(ctx);
  std::vector<View<float>> views;
  for (int i = 0; i < 40; ++i) {
    views.push_back(workspace.take<float>(1, 1 + 37 * i));
    write(views.back(), static_cast<float>(i));
  }
  for (int i = 0; i < 40; ++i) CHECK(holds(views[static_cast<std::size_t>(i)], static_cast<float>(i)));
  CHECK(ctx.allocations() < 15);  // by more and more
  const Index peak = workspace.peak();
  workspace.release(0);
  CHECK(ctx.live_bytes() == peak);  // one block of the size that was needed
  ctx.reset_counters();
  for (int i = 0; i < 40; ++i) workspace.take<float>(1, 1 + 37 * i);
  CHECK(ctx.allocations() == 0);
  CHECK(workspace.peak() == peak);
}

TEST_CASE("workspace: release and take again across blocks never shares bytes between what is live", "[workspace]") {
  Reference::Context ctx;
  Workspace<Reference> workspace(ctx);
  struct Live {
    Index mark;
    View<float> view;
    float value;
  };
  std::vector<Live> live;
  std::uint32_t state = 1;
  for (int step = 0; step < 2000; ++step) {
    state = state * 1664525u + 1013904223u;
    const std::uint32_t choice = state >> 16;
    if (choice % 5 < 3 || live.empty()) {
      const Index mark = workspace.mark();
      live.push_back({mark, workspace.take<float>(1, 1 + choice % 300), static_cast<float>(step)});
      write(live.back().view, live.back().value);
    } else {
      const std::size_t kept = choice % 97 == 0 ? 0 : live.size() - 1 - choice % std::min<std::size_t>(live.size(), 3);
      workspace.release(live[kept].mark);
      live.resize(kept);
    }
    for (const Live& one : live) REQUIRE(holds(one.view, one.value));
  }
}

TEST_CASE("workspace: scopes give back in reverse order", "[workspace]") {
  Reference::Context ctx;
  Workspace<Reference> workspace(ctx);
  workspace.take<float>(1, 16);
  {
    const WorkspaceScope<Reference> outer(workspace);
    workspace.take<float>(1, 16);
    {
      const WorkspaceScope<Reference> inner(workspace);
      workspace.take<double>(2, 8);
      CHECK(workspace.mark() == 64 + 64 + 128);
    }
    CHECK(workspace.mark() == 128);
  }
  CHECK(workspace.mark() == 64);
  CHECK(workspace.peak() == 256);
  workspace.reset_peak();
  CHECK(workspace.peak() == 64);
}

TEST_CASE("workspace: a dry run measures and allocates nothing, the plan then suffices", "[workspace]") {
  Reference::Context ctx;
  Workspace<Reference> workspace(ctx);
  const auto step = [&] {
    const WorkspaceScope<Reference> all(workspace);
    workspace.take<float>(5, 7);
    {
      const WorkspaceScope<Reference> inner(workspace);
      workspace.take<double>(100, 3);
    }
    workspace.take<float>(1, 1);
  };
  {
    const DryRun dry(ctx);
    CHECK(ctx.dry_run());
    step();
  }
  CHECK_FALSE(ctx.dry_run());
  CHECK(ctx.allocations() == 0);
  CHECK(workspace.peak() == 192 + 2432);
  workspace.reserve(workspace.peak());
  CHECK(ctx.allocations() == 1);
  step();
  step();
  CHECK(ctx.allocations() == 1);
  CHECK(ctx.live_bytes() == 192 + 2432);
  workspace.reserve(1);  // smaller than what is there
  CHECK(ctx.allocations() == 1);
}

TEST_CASE("workspace: everything is given back at the end", "[workspace]") {
  Reference::Context ctx;
  {
    Workspace<Reference> workspace(ctx);
    workspace.take<float>(1, 10);
    workspace.take<float>(1, 1000);
  }
  CHECK(ctx.live_bytes() == 0);
}
