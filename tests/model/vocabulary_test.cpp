// The logits of a large vocabulary never exist as a whole.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "deltatune/attach/attachment.hpp"
#include "deltatune/attach/lora_plan.hpp"
#include "support/device.hpp"
#include "support/instances.hpp"

using namespace deltatune;

TEST_CASE("language models: memory of a step does not grow with tokens times vocabulary", "[model][loss]") {
  using X = test::DeviceTensor;
  constexpr Index kVocab = 151936, kTokens = 2049;  // 2,048 of them are predicted
  const JsonConfig config = JsonConfig::parse(
      R"({"model_type": "llama", "vocab_size": 151936, "hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8,
          "max_position_embeddings": 4096, "tie_word_embeddings": true})",
      "config.json");
  for (const bool adapts_head : {false, true}) {
    test::DeviceContext ctx(2);
    Transformer<X> model(ctx, architecture_of(config), Head::language_model());
    model.initialise(ctx, 1);
    LoraPlan plan;
    plan.lora.rank = 2;
    plan.targets = Targets::named(adapts_head ? std::vector<std::string>{"q_proj", "lm_head"} : std::vector<std::string>{"q_proj"});
    attach(ctx, model, plan);
    model.visit([&](Parameter<X>& parameter) { parameter.allocate_gradient(ctx); });
    PackedBatch batch;
    std::vector<std::int32_t> ids;
    for (Index i = 0; i < kTokens; ++i) ids.push_back(static_cast<std::int32_t>(i * 71 % kVocab));
    batch.add(ids);
    batch.token_labels = ids;
    DeviceBatch<X> device(ctx);
    device.upload(batch, model.embeddings_train(), model.layout());
    Workspace<test::Device> saved(ctx), scratch(ctx);
    Pass<X> pass{ctx, saved, scratch, Mode::train};
    typename Transformer<X>::Activations kept;
    const View<float> loss = pass.keep(1, 1);
    test::Device::fill(ctx, loss, 0.0F);
    model.loss(pass, device, {.total_weight = kTokens - 1}, loss, kept);
    model.backward(pass, device, kept);
    CHECK(test::on_host<X>(ctx, loss)[0] == Approx(std::log(151936.0)).margin(0.1));
    CHECK(saved.peak() + scratch.peak() < logits_rows<float>(kVocab) * kVocab * 4 + (4 << 20));  // 256 rows, 148 MiB; all logits: 1,187 MiB
  }
}
