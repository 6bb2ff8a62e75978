#include "deltatune/nn/packed_batch.hpp"

#include <map>
#include <set>
#include <vector>

#include "deltatune/backend/reference.hpp"
#include "support/error_text.hpp"

using namespace deltatune;
using X = Tensor<float, Reference>;
using Tokens = std::vector<std::int32_t>;

TEST_CASE("packed batch: rows one after another, positions from 0", "[nn][batch]") {
  PackedBatch batch;
  CHECK(batch.count() == 0);
  batch.add(Tokens{5, 6, 7});
  batch.add(Tokens{8});
  CHECK(batch.ids == Tokens{5, 6, 7, 8});
  CHECK(batch.positions == Tokens{0, 1, 2, 0});
  CHECK(batch.types == Tokens{0, 0, 0, 0});
  CHECK(batch.offsets == std::vector<Index>{0, 3, 4});
  CHECK(batch.rows() == 4);
  CHECK(batch.count() == 2);
  CHECK(test::error_text([&] { batch.add({}); }).find("batch: a sequence without tokens") == 0);
  CHECK(batch.count() == 2);
}

TEST_CASE("device batch: maps of rows and sequences, and groups of equal ids", "[nn][batch]") {
  Reference::Context ctx;
  DeviceBatch<X> device(ctx);
  PackedBatch batch;
  batch.add(Tokens{5, 9, 5});
  batch.add(Tokens{2, 5});
  device.upload(batch, true);
  const Sequences& s = device.sequences();
  CHECK(s.count == 2);
  CHECK(s.rows == 5);
  CHECK(s.max_length == 3);
  CHECK(s.first(1) == 3);
  CHECK(s.length(1) == 2);
  CHECK(std::vector<std::int32_t>(s.row_sequence, s.row_sequence + 5) == Tokens{0, 0, 0, 1, 1});
  CHECK(device.labels() == nullptr);
  CHECK(device.targets() == nullptr);
  std::map<std::int32_t, std::vector<Index>> groups;
  const RowGroups g = device.id_groups();
  for (Index i = 0; i < g.count; ++i) groups[g.ids[i]] = std::vector<Index>(g.order + g.starts[i], g.order + g.starts[i + 1]);
  CHECK(groups == std::map<std::int32_t, std::vector<Index>>{{2, {3}}, {5, {0, 2, 4}}, {9, {1}}});
  CHECK(device.position_groups().count == 3);
  CHECK(device.type_groups().count == 1);
}

TEST_CASE("device batch: source and target of an encoder-decoder count from first positions of their own", "[nn][batch]") {
  Reference::Context ctx;
  DeviceBatch<X> device(ctx);
  PackedBatch batch, source;
  batch.add(Tokens{5, 9});
  batch.add(Tokens{2});
  batch.token_labels = {9, 4, 7};
  source.add(Tokens{3, 4, 5});
  source.add(Tokens{6});
  batch.source.push_back(source);
  device.upload(batch, true, {.first_position = 1, .target_first_position = 2});
  CHECK(Tokens(device.positions(), device.positions() + 3) == Tokens{2, 3, 2});
  CHECK(Tokens(device.source()->positions(), device.source()->positions() + 4) == Tokens{1, 2, 3, 1});
  CHECK(device.last_position() == 3);
  CHECK(device.position_groups().count == 2);
  // Each row predicts its own label.
  CHECK(device.prediction_count() == 3);
  CHECK(Tokens(device.predicted(), device.predicted() + 3) == Tokens{9, 4, 7});
}

TEST_CASE("device batch: buffers are used again by a batch that is no larger, whatever its ids", "[nn][batch]") {
  Reference::Context ctx;
  DeviceBatch<X> device(ctx);
  PackedBatch large;
  large.add(Tokens(40, 7));  // one group
  large.add(Tokens(20, 7));
  large.labels = {1, 0};
  device.upload(large, true);
  ctx.reset_counters();
  PackedBatch small;
  Tokens distinct;
  for (std::int32_t i = 0; i < 59; ++i) distinct.push_back(i);
  small.add(distinct);
  small.labels = {2};
  device.upload(small, true);
  CHECK(ctx.allocations() == 0);
  CHECK(device.id_groups().count == 59);
  CHECK(device.labels()[0] == 2);
  CHECK(device.sequences().count == 1);
  small.labels.clear();
  device.upload(small, true);
  CHECK(device.labels() == nullptr);  // not those of the batch before
}

TEST_CASE("device batch: a classifier of the last token leaves out the padding at the end of a sequence", "[nn][batch]") {
  Reference::Context ctx;
  DeviceBatch<X> device(ctx);
  PackedBatch batch;
  for (const Tokens& tokens : std::vector<Tokens>{{5, 9, 9}, {9, 9}, {9, 5}, {2}}) batch.add(tokens);
  const auto lengths = [&](const InputLayout& layout) {
    device.upload(batch, false, layout);
    std::vector<Index> result;
    for (Index b = 0; b < device.sequences().count; ++b) result.push_back(device.sequences().length(b));
    return result;
  };
  CHECK(lengths({.pad_id = 9}) == std::vector<Index>{1, 1, 2, 1});
  CHECK(lengths({.shift = 2, .pad_id = 9}) == std::vector<Index>{1, 1, 2, 1});
  CHECK(lengths({}) == std::vector<Index>{3, 2, 2, 1});
  CHECK(lengths({.front = 1, .counted = 1, .pad_id = 9}) == std::vector<Index>{4, 3, 3, 2});  // behind a prompt transformers does not see the ids
}
