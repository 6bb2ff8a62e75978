// Compiled twice, for left::run and right::run: a product, a row operation and attention over three rows. The answer is j - 15.5 in column j.
#include <numeric>

#include "deltatune/nn/packed_batch.hpp"
#include "deltatune/ops/attention.hpp"
#include "deltatune/tensor/tensor_trait.hpp"
#include "side.hpp"

namespace {

using namespace deltatune;
using X = Tensor<float, Cuda>;

}  // namespace

std::vector<float> SIDE::run(Cuda::Context& ctx) {
  constexpr Index kRows = 3, kWidth = 32;
  X q(ctx, {kRows, kWidth}), k(ctx, {kRows, kWidth}), v(ctx, {kRows, kWidth}), o(ctx, {kRows, kWidth}), lse(ctx, {kRows, 1}), weight(ctx, {kWidth, kWidth});
  Cuda::fill(ctx, q.view(), 0.5F);
  Cuda::fill(ctx, weight.view(), 0.25F);
  Cuda::gemm(ctx, Gemm<float>{.a = q.view(), .b = weight.view(), .c = k.view(), .transpose_b = true});  // equal keys: attention takes the mean
  std::vector<float> values(static_cast<std::size_t>(kRows * kWidth));
  std::iota(values.begin(), values.end(), 0.0F);
  Cuda::copy_in(ctx, values.data(), v.view().data, v.bytes());
  Cuda::for_each_row(ctx, kRows, kWidth, CentreRow{v.view()});

  DeviceBatch<X> batch(ctx);
  PackedBatch host;
  host.add(std::vector<std::int32_t>(static_cast<std::size_t>(kRows), 0));
  batch.upload(host, false);
  AttentionPlan plan;
  plan.queries = plan.keys = batch.sequences();
  plan.heads = plan.kv_heads = 1;
  plan.head_width = kWidth;
  Workspace<Cuda> scratch(ctx);
  ops::attention_forward<Cuda, float>(ctx, {plan, q.view(), k.view(), v.view(), o.view(), lse.view()}, scratch);
  Cuda::copy_out(ctx, o.view().data, values.data(), o.bytes());
  Cuda::synchronize(ctx);
  return values;
}
