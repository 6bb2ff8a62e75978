// Encoder-decoders: gradients through both stacks, whatever trains, and work that what is frozen does not make.
#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/attach/adapterhub_lora_plan.hpp"
#include "deltatune/attach/bottleneck_plan.hpp"
#include "deltatune/attach/union_plan.hpp"
#include "deltatune/model/transformer.hpp"
#include "deltatune/train/trainer.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/instances.hpp"
#include "support/tiny_t5.hpp"

using namespace deltatune;
using Catch::Contains;
using test::tiny_t5;

namespace {

// adapters: none, or what stands in the model beside.
auto loss_body(const std::vector<std::string>& trainable, Mode mode, bool gated, const std::optional<BottleneckPlan>& adapters = {}) {
  return [=]<class X>(check::Trial<X>& trial) {
    trial.pass().mode = mode;
    Transformer<X> fresh(trial.ctx(), tiny_t5(gated), Head::language_model());
    if (adapters) attach(trial.ctx(), fresh, *adapters);
    if (!trainable.empty()) unfreeze(fresh, trainable);
    Transformer<X>& model = trial.own(std::move(fresh));
    allocate_gradients(model, trial.ctx());  // loss() takes the gradient through the head at once
    DeviceBatch<X> batch(trial.ctx());
    batch.upload(test::text_pairs(), model.embeddings_train(), model.layout());
    typename Transformer<X>::Activations kept;
    const auto loss = trial.loss("loss");
    backend_of<X>::fill(trial.ctx(), loss.value, scalar_of<X>(0));
    model.loss(trial.pass(), batch, {.total_weight = 6}, loss.value, kept);
    if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept);
  };
}

using X = test::DeviceTensor;

// Products of a backward pass.
struct Backward {
  Index products = 0;
  Index source_lowest = 0, source_parts = 0;
};
Backward backward_of(const std::vector<std::string>& trainable) {
  test::DeviceContext ctx(1);
  Transformer<X> model(ctx, test::tiny_t5(), Head::language_model());
  model.initialise(ctx, 1);
  unfreeze(model, trainable);
  allocate_gradients(model, ctx);
  DeviceBatch<X> batch(ctx);
  batch.upload(test::text_pairs(), model.embeddings_train(), model.layout());
  Workspace<test::Device> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch, Mode::train};
  Transformer<X>::Activations kept;
  const View<float> loss = pass.keep(1, 1);
  test::Device::fill(ctx, loss, 0.0F);
  model.loss(pass, batch, {.total_weight = 6}, loss, kept);
  const Index before = ctx.gemm_calls();
  model.backward(pass, batch, kept);
  return {ctx.gemm_calls() - before, kept.source_stack.lowest, static_cast<Index>(kept.source_stack.parts.size())};
}

}  // namespace

TEST_CASE("encoder-decoders: gradients through both stacks, whatever trains", "[model][encoder_decoder]") {
  const std::vector<std::vector<std::string>> patterns{{"**"},
                                                       {"encoder.**"},
                                                       {"decoder.**"},
                                                       {"**.EncDecAttention.**"},
                                                       {"decoder.block.1.layer.1.EncDecAttention.k.weight"},
                                                       {"encoder.block.0.layer.1.**"},
                                                       {"encoder.final_layer_norm.weight"},
                                                       {"decoder.final_layer_norm.weight"},
                                                       {"decoder.block.1.layer.2.**"},
                                                       {"encoder.**.relative_attention_bias.weight"},
                                                       {"decoder.**.relative_attention_bias.weight"},
                                                       {"shared.weight"}};
  for (const bool gated : {false, true})
    for (const auto& pattern : patterns) {
      INFO(pattern.front());
      test::check_adjoint(loss_body(pattern, Mode::train, gated));
    }
  test::check_adjoint(loss_body({"lm_head.weight"}, Mode::train, true));
  test::check_device(loss_body({"**"}, Mode::differentiate, false), 1e-3);
}

TEST_CASE("encoder-decoders: gradients through bottlenecks behind cross-attention", "[model][encoder_decoder]") {
  BottleneckPlan after_cross;
  after_cross.reduction.factor = 3;
  after_cross.adapter.activation = ops::Activation::silu;
  after_cross.after_feed_forward = false;
  after_cross.after_cross_attention = true;
  BottleneckPlan after_all = after_cross;
  after_all.after_attention = after_all.after_feed_forward = true;
  BottleneckPlan parallel = after_all;
  parallel.adapter.parallel = true;
  BottleneckPlan summed = after_cross, gated = after_cross;
  summed.adapter.original_ln_before = true;  // x = h + r
  gated.adapter.gated = true;
  for (const BottleneckPlan& plan : {after_cross, after_all, parallel, summed, gated}) {
    test::check_adjoint(loss_body({}, Mode::train, false, plan));
    test::check_adjoint(loss_body({"encoder.**"}, Mode::train, true, plan));
  }
  test::check_device(loss_body({"**"}, Mode::differentiate, false, after_all), 1e-3);
}

TEST_CASE("encoder-decoders: where adapters stand, by layers of both stacks", "[model][encoder_decoder]") {
  test::DeviceContext ctx(1);
  Transformer<X> model(ctx, tiny_t5(true), Head::language_model());
  model.initialise(ctx, 1);
  const auto paths = [&](const auto& plan) {
    Attachment<X> attachment = attach(ctx, model, plan);
    const std::vector<std::string> all = attachment.paths();
    attachment.detach();
    return all;
  };
  const auto error = [&](const auto& plan) { return test::error_text([&] { attach(ctx, model, plan); }); };
  using Paths = std::vector<std::string>;
  BottleneckPlan adapters = BottleneckPlan::of("houlsby");
  adapters.reduction = {.factor = 0, .by_layer = {{0, 3}, {2, 2}}};  // the encoder has layer 0, the decoder 1 and 2
  adapters.leave_out = {1};
  CHECK(paths(adapters) == Paths{"encoder.block.0.layer.0", "encoder.block.0.layer.1", "decoder.block.1.layer.0", "decoder.block.1.layer.2"});
  adapters.after_cross_attention = true;
  CHECK(paths(adapters).at(3) == "decoder.block.1.layer.1");
  adapters.leave_out = {0};
  CHECK_THAT(error(adapters), Contains("has no factor for layer 1"));
  adapters.leave_out = {1};
  Attachment<X> attachment = attach(ctx, model, adapters);
  attachment.visit([](Parameter<X>& parameter) {
    if (parameter.path() == "encoder.block.0.layer.0.adapters.adapter_down.0.weight") CHECK(parameter.shape() == Shape{4, 12});
    if (parameter.path() == "decoder.block.1.layer.1.adapters.adapter_down.0.weight") CHECK(parameter.shape() == Shape{6, 12});
  });
  attachment.drop_first_layers(1);
  CHECK(attachment.paths() == Paths{"decoder.block.1.layer.0", "decoder.block.1.layer.1", "decoder.block.1.layer.2"});
  attachment.detach();

  AdapterHubLoraPlan lora;
  lora.attention = "k";
  lora.intermediate = true;
  lora.leave_out = {2};
  const Paths of_lora{"encoder.block.0.layer.0.SelfAttention.k", "encoder.block.0.layer.1.DenseReluDense.wi_1", "decoder.block.0.layer.0.SelfAttention.k",
                      "decoder.block.0.layer.1.EncDecAttention.k", "decoder.block.0.layer.2.DenseReluDense.wi_1"};
  CHECK(paths(lora) == of_lora);
  Paths of_both{"encoder.block.0.layer.0", "encoder.block.0.layer.1"};
  adapters.after_cross_attention = false;
  adapters.leave_out = {1, 2};
  of_both.insert(of_both.end(), of_lora.begin(), of_lora.end());
  CHECK(paths(UnionPlan({adapters, lora})) == of_both);

  lora.leave_out = {3};
  CHECK_THAT(error(lora), Contains("leave_out") && Contains("expected 0 to 2, the encoder's 1 first, then the decoder's 2") && Contains("got 3"));
  adapters.leave_out = {-1};
  CHECK_THAT(error(adapters), Contains("leave_out") && Contains("got -1"));
  adapters.leave_out = {0, 1, 2};
  CHECK_THAT(error(UnionPlan({lora, adapters})), Contains("member 0: leave_out"));
  lora.leave_out = {};
  CHECK_THAT(error(UnionPlan({lora, adapters})), Contains("member 1") && Contains("cross_adapter"));
  CHECK_THAT(error(UnionPlan({lora, UnionPlan::adapterhub_prompt()})), Contains("member 1") && Contains("not supported on T5, an encoder-decoder, yet"));
}

TEST_CASE("encoder-decoders: what is frozen costs no backward", "[model][encoder_decoder]") {
  const Backward all = backward_of({"**"}), decoder = backward_of({"decoder.**"}), top = backward_of({"decoder.block.1.layer.2.DenseReluDense.wo.weight"}),
                 cross = backward_of({"decoder.block.1.layer.1.EncDecAttention.q.weight"}), encoder = backward_of({"encoder.block.0.layer.1.**"});
  CHECK(all.source_lowest < all.source_parts);
  for (const Backward& backward : {decoder, top, cross}) CHECK(backward.source_lowest == backward.source_parts);
  CHECK(encoder.source_lowest == 1);  // its feed-forward sublayer
  CHECK(top.products == 1);
  // Its own: dW. Above it: two of each projection in the feed-forward part are one for dx alone; then context and q.
  CHECK(cross.products == 2 + 1 + 1);
  CHECK(decoder.products < all.products);
}

TEST_CASE("encoder-decoders learn, and what is frozen stays as it is", "[model][encoder_decoder]") {
  const std::string trained = GENERATE("encoder.", "decoder.", "shared.");
  test::DeviceContext ctx(1);
  Architecture architecture = test::tiny_t5();
  architecture.initializer_range = 0.4;
  Transformer<X> model(ctx, architecture, Head::language_model());
  model.initialise(ctx, 1);
  unfreeze(model, {trained + "**"});
  const auto values = [&](bool trains) {
    std::vector<std::vector<float>> all;
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.trains() == trains) all.push_back(test::on_host<X>(ctx, parameter.value()));
    });
    return all;
  };
  const auto frozen = values(false), start = values(true);
  TrainerConfig config;
  config.dropout = false;
  config.optimizer.learning_rate = 1e-2;
  Trainer<Transformer<X>> trainer(ctx, model, config);
  const double before = trainer.step(test::text_pairs()).loss;
  ctx.reset_counters();
  double after = 0;
  for (int step = 0; step < 60; ++step) after = trainer.step(test::text_pairs()).loss;
  CHECK(ctx.allocations() == 0);
  CHECK(after < 0.85 * before);
  CHECK(values(false) == frozen);
  CHECK(values(true) != start);
  CHECK(trainer.loss(test::text_pairs()) / 6 == Approx(after).margin(0.3));  // the mean over what is predicted
}

TEST_CASE("encoder-decoders: mistakes are refused", "[model][encoder_decoder]") {
  test::DeviceContext ctx(1);
  CHECK_THAT(test::error_text([&] { Transformer<X>(ctx, test::tiny_t5(), Head::none()); }), Contains("T5") && Contains("only the language model head"));
  Transformer<X> model(ctx, test::tiny_t5(), Head::language_model());
  model.initialise(ctx, 1);
  const auto run = [&](const PackedBatch& batch) {
    return test::error_text([&] {
      DeviceBatch<X> device(ctx);
      device.upload(batch, false, model.layout());
      Workspace<test::Device> saved(ctx), scratch(ctx);
      Pass<X> pass{ctx, saved, scratch};
      Transformer<X>::Activations kept;
      model.loss(pass, device, {.total_weight = 6}, pass.keep(1, 1), kept);
    });
  };
  PackedBatch batch = test::text_pairs();
  batch.source.clear();
  CHECK_THAT(run(batch), Contains("T5 is an encoder-decoder and needs a source text per sequence"));
  batch = test::text_pairs();
  batch.source.front() = {};
  batch.source.front().add(std::vector<std::int32_t>{4});
  CHECK_THAT(run(batch), Contains("needs one source per target") && Contains("expected 3") && Contains("got 1"));
  CHECK(std::string(model.task_type()) == "SEQ_2_SEQ_LM");
  CHECK(model.class_name() == "T5ForConditionalGeneration");
}

TEST_CASE("encoder-decoders: configurations", "[model][encoder_decoder]") {
  const auto with = [](const std::string& type, const nlohmann::json& changes) {
    nlohmann::json config{{"model_type", type}, {"vocab_size", 20}, {"d_model", 16}, {"d_kv", 4}, {"d_ff", 10}, {"num_layers", 3}, {"num_heads", 2}};
    if (changes.is_object()) config.update(changes);
    return architecture_of(JsonConfig::parse(config.dump(), "config.json"));
  };
  const Architecture old = with("t5", {});
  CHECK(old.encoder->stack.layers.size() == 3);
  CHECK(old.layers() == 3);
  CHECK(old.stack.layers[0].cross.has_value());
  CHECK_FALSE(old.encoder->stack.layers[0].cross.has_value());
  CHECK(old.head.tied);
  CHECK(old.head.logit_scale == 0.25);
  CHECK(old.stack.relative_bias->max_distance == 128);
  CHECK_FALSE(old.stack.relative_bias->bidirectional);
  const Architecture later = with("t5", {{"feed_forward_proj", "gated-gelu"}, {"tie_word_embeddings", false}, {"num_decoder_layers", 2}});
  CHECK(later.layers() == 2);
  CHECK_FALSE(later.head.tied);
  CHECK(later.head.logit_scale == 1);
  CHECK(later.stack.layers[0].feed_forward.gated);
  CHECK(with("t5", {{"tie_word_embeddings", true}, {"scale_decoder_outputs", false}}).head.logit_scale == 1);  // as transformers 5 may write it
  CHECK_FALSE(with("mt5", {}).head.tied);
  CHECK(with("mt5", {}).stack.layers[0].feed_forward.gated);
  CHECK_THAT(test::error_text([&] { with("t5", {{"feed_forward_proj", "gated-silu"}}); }), Contains("feed_forward_proj") && Contains("gated-silu"));
}
