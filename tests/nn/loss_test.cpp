// The language model's loss in chunks, and what labels weigh.
#include "deltatune/nn/loss.hpp"

#include <vector>

#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

constexpr Index kRows = 7, kVocab = 13, kWidth = 5;
const std::vector<std::int32_t> kLabels{3, 0, 12, 3, 7, 1, 12};

// A head that reads a table of others.
template <class X>
Linear<X> head_on(context_of<X>& ctx, View<scalar_of<X>> table) {
  Linear<X> head(ctx, kWidth, {{"lm_head", kVocab}}, {.bias = false, .shared = true});
  head.share(ctx, {table, {}}, table);
  return head;
}

auto loss_body(Index rows, const ops::LogitShape& shape = {}) {
  return [=]<class X>(check::Trial<X>& trial) {
    using T = scalar_of<X>;
    const auto x = trial.input("x", kRows, kWidth);
    const auto table = trial.parameter("table", kVocab, kWidth);
    const auto loss = trial.loss("loss");
    backend_of<X>::fill(trial.ctx(), loss.value, T(0));
    Linear<X> head = head_on<X>(trial.ctx(), table.value);
    typename Linear<X>::Saved kept;
    language_model_loss<X>(trial.pass(), x.value, head, kept, trial.array(kLabels), {.label_smoothing = 0.2, .total_weight = 9}, x.gradient, table.gradient,
                           loss.value, shape, rows);
  };
}

// Loss, gradient of x and gradient of the table for chunks of so many rows.
std::vector<std::vector<float>> results(Index rows, bool wanted) {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  Workspace<test::Device> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch};
  const auto random = [&](Index n, Index m, std::uint64_t stream) {
    std::vector<float> host;
    for (Index i = 0; i < n * m; ++i) host.push_back(static_cast<float>(normal(derive(1, stream), static_cast<std::uint64_t>(i))));
    X tensor(ctx, {n, m});
    test::from_host<X>(ctx, host, tensor.view());
    return tensor;
  };
  const X x = random(kRows, kWidth, 1);
  X table = random(kVocab, kWidth, 2);
  X dx(ctx, {kRows, kWidth}), dtable(ctx, {kVocab, kWidth}), loss(ctx, {1});
  Tensor<std::int32_t, test::Device> labels(ctx, {kRows});
  test::Device::copy_in(ctx, kLabels.data(), labels.view().data, labels.bytes());
  Linear<X> head = head_on<X>(ctx, table.view());
  typename Linear<X>::Saved kept;
  language_model_loss<X>(pass, x.view(), head, kept, labels.view().data, {.total_weight = 9}, wanted ? dx.view() : View<float>(),
                         wanted ? dtable.view() : View<float>(), loss.view(), {}, rows);
  CHECK(scratch.peak() <= (rows * kVocab * 4 + 63) / 64 * 64 + 64);
  return {test::on_host<X>(ctx, loss.view()), test::on_host<X>(ctx, dx.view()), test::on_host<X>(ctx, dtable.view())};
}

}  // namespace

TEST_CASE("language model loss: gradients, whole and in chunks", "[nn][loss]") {
  for (const Index rows : {1, 3, 100}) {
    test::check_adjoint(loss_body(rows));
    test::check_device(loss_body(rows));
    for (const ops::LogitShape& shape : {ops::LogitShape{.scale = 0.5}, ops::LogitShape{.scale = 2, .cap = 1.5}}) {
      test::check_adjoint(loss_body(rows, shape));
      test::check_device(loss_body(rows, shape));
    }
  }
}

TEST_CASE("language model loss: chunks change nothing but the room they take", "[nn][loss]") {
  const auto whole = results(kRows, true);
  for (const Index rows : {1, 2, 3, 6}) {
    const auto chunked = results(rows, true);
    for (std::size_t k = 0; k < whole.size(); ++k)
      for (std::size_t i = 0; i < whole[k].size(); ++i) CHECK(chunked[k][i] == Approx(whole[k][i]).margin(1e-6));
  }
  const auto forward_only = results(3, false);
  CHECK(forward_only[0][0] == Approx(whole[0][0]).epsilon(1e-6));
  CHECK(forward_only[1] == std::vector<float>(kRows * kWidth, 0.0F));
}

TEST_CASE("predictions: rows behind which stands a label, the first token's only behind a prompt", "[nn][loss]") {
  PackedBatch batch;
  batch.add(std::vector<std::int32_t>{5, 6, 7});
  batch.add(std::vector<std::int32_t>{8});
  batch.add(std::vector<std::int32_t>{9, 1});
  batch.token_labels = {5, -100, 7, 8, -100, 1};
  const auto predictions = [&](const InputLayout& layout) {
    std::vector<std::pair<Index, std::int32_t>> found;
    const PackedBatch arranged = layout.rows() > 0 ? detail::arranged(batch, layout) : batch;
    detail::visit_predictions(arranged, false, [&](Index row, std::int32_t label) { found.emplace_back(row, label); });
    CHECK(label_weight(batch, {}, layout) == static_cast<double>(found.size()));
    return found;
  };
  using Found = std::vector<std::pair<Index, std::int32_t>>;
  CHECK(predictions({}) == Found{{1, 7}, {4, 1}});
  CHECK(predictions({.front = 2}) == Found{{1, 5}, {3, 7}, {6, 8}, {10, 1}});
  CHECK(predictions({.after_first = 1}) == Found{{2, 7}, {7, 1}});

  test::DeviceContext ctx(1);
  DeviceBatch<test::DeviceTensor> device(ctx);
  device.upload(batch, false);
  CHECK(device.prediction_count() == 2);
  std::vector<Index> last(3);
  test::Device::copy_out(ctx, device.last_rows().rows, last.data(), static_cast<Index>(3 * sizeof(Index)));
  test::Device::synchronize(ctx);
  CHECK(last == std::vector<Index>{2, 3, 5});
}
