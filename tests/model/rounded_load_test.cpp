// Weights that are rounded as they are read.
#include <catch2/catch.hpp>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/check/contract.hpp"
#include "support/conformance_cases.hpp"
#include "support/error_text.hpp"
#include "support/instances.hpp"

using namespace deltatune;
using Catch::Contains;

namespace {

using X = test::DeviceTensor;

PackedBatch texts() {
  PackedBatch batch;
  for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{4, 8, 15, 16, 23}, {3}, {7, 12}}) batch.add(tokens);
  return batch;
}

}  // namespace

TEST_CASE("layers rounded as they are read hold the numbers of those that are rounded later, and never more", "[model][bfloat16]") {
  for (const char* const name : {"llama_tied_bias", "gpt2_lm", "gemma2"}) {
    INFO(name);
    const auto load = [&](test::DeviceContext& ctx, bool rounds) { return Transformer<X>::load(ctx, test::kModels / name, Head::language_model(), 0, rounds); };
    test::DeviceContext ctx(1), less(1);
    Transformer<X> later = load(ctx, false), early = load(less, true);
    CHECK(less.peak_bytes() < ctx.peak_bytes());
    Index rounded = 0;
    early.visit([&](Parameter<X>& parameter) { rounded += parameter.rounded() ? parameter.size() : 0; });
    CHECK(ctx.peak_bytes() - less.peak_bytes() == 2 * rounded);
    LoraPlan plan;
    plan.lora.rank = 2;
    plan.targets.all_linear = true;
    for (Transformer<X>* const model : {&later, &early}) {
      test::DeviceContext& own = model == &later ? ctx : less;
      auto lora = attach(own, *model, plan);
      model->cast_base_to_bf16(own);
      if (model == &early) CHECK(ctx.live_bytes() == less.live_bytes());
      static_cast<void>(lora);
    }
    CHECK(check::detail::outputs(ctx, later, texts()) == check::detail::outputs(less, early, texts()));
  }
}

TEST_CASE("layers rounded as they are read: what needs their weights is refused", "[model][bfloat16]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = Transformer<X>::load(ctx, test::kModels / "llama", Head::language_model(), 0, true);
  LoraPlan dora;
  dora.dora = true;
  CHECK_THAT(test::error_text([&] { attach(ctx, model, dora); }), Contains("q_proj.weight: is stored in bfloat16 only"));
  CHECK_THAT(test::error_text([&] { unfreeze(model, {"**.q_proj.weight"}); }), Contains("bfloat16"));
}
