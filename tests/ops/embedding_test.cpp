#include "deltatune/ops/embedding.hpp"

#include <map>
#include <vector>

#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

// Looked-up rows of two tables, summed.
auto embedding_body(const std::vector<std::int32_t>& ids, Index count, Index width) {
  return [=]<class X>(check::Trial<X>& trial) {
    using B = backend_of<X>;
    using T = scalar_of<X>;
    const Index rows = static_cast<Index>(ids.size());
    const auto first = trial.parameter("first", count, width);
    const auto second = trial.parameter("second", count, width);
    const auto y = trial.output("y", rows, width);
    const std::int32_t* device_ids = trial.array(ids);
    ops::embedding_forward<B, T>(trial.ctx(), first.value, device_ids, y.value, false);
    ops::embedding_forward<B, T>(trial.ctx(), second.value, device_ids, y.value, true);
    if (!trial.backward_wanted()) return;
    std::map<std::int32_t, std::vector<Index>> by_id;
    for (Index i = 0; i < rows; ++i) by_id[ids[static_cast<std::size_t>(i)]].push_back(i);
    std::vector<Index> starts{0}, order;
    std::vector<std::int32_t> group_ids;
    for (const auto& [id, members] : by_id) {
      group_ids.push_back(id);
      order.insert(order.end(), members.begin(), members.end());
      starts.push_back(static_cast<Index>(order.size()));
    }
    const RowGroups groups{trial.array(starts), trial.array(order), trial.array(group_ids), static_cast<Index>(group_ids.size())};
    ops::embedding_backward<B, T>(trial.ctx(), y.gradient, groups, -1, first.gradient);
    ops::embedding_backward<B, T>(trial.ctx(), y.gradient, groups, -1, second.gradient);
  };
}

}  // namespace

TEST_CASE("embedding: adjoint, and float on the CPU", "[ops][embedding]") {
  test::check_adjoint(embedding_body({3, 0, 3, 1, 3, 0}, 5, 7));
  test::check_device(embedding_body({3, 0, 3, 1, 3, 0}, 5, 7));
  std::vector<std::int32_t> many;
  for (std::int32_t i = 0; i < 150; ++i) many.push_back(i * i % 37);
  test::check_device(embedding_body(many, 40, 131));
}

TEST_CASE("embedding: the skipped id gets no gradient, the others do", "[ops][embedding]") {
  Reference::Context ctx;
  const std::vector<Index> starts{0, 2, 3}, order{0, 2, 1};
  const std::vector<std::int32_t> ids{0, 2};
  const std::vector<double> dy{1, 2, 4};
  std::vector<double> dtable{10, 20, 30};
  const RowGroups groups{starts.data(), order.data(), ids.data(), 2};
  SECTION("skipped") {
    ops::embedding_backward<Reference, double>(ctx, {dy.data(), 3, 1}, groups, 0, {dtable.data(), 3, 1});
    CHECK(dtable == std::vector<double>{10, 20, 32});
  }
  SECTION("none skipped") {
    ops::embedding_backward<Reference, double>(ctx, {dy.data(), 3, 1}, groups, -1, {dtable.data(), 3, 1});
    CHECK(dtable == std::vector<double>{15, 20, 32});
  }
}
