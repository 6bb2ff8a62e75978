// Encoder-decoders: gradients through both stacks, whatever trains, and work that what is frozen does not make.
#include <catch2/catch.hpp>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/attach/adapterhub_lora_plan.hpp"
#include "deltatune/attach/bottleneck_plan.hpp"
#include "deltatune/attach/diff_pruning_plan.hpp"
#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/attach/union_plan.hpp"
#include "deltatune/io/hf_export.hpp"
#include "deltatune/model/transformer.hpp"
#include "deltatune/train/trainer.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/instances.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bart.hpp"
#include "support/tiny_t5.hpp"

using namespace deltatune;
using Catch::Contains;
using test::bart_json;
using test::tiny_bart;
using test::tiny_t5;

namespace {

Architecture tiny_umt5() {
  return family::umt5(JsonConfig::parse(R"({"model_type": "umt5", "vocab_size": 20, "d_model": 12, "d_kv": 3, "d_ff": 10, "num_layers": 2, "num_heads": 2,
      "num_decoder_layers": 2, "relative_attention_num_buckets": 6, "relative_attention_max_distance": 5, "pad_token_id": 0, "eos_token_id": 1})",
                                        "config.json"));
}

// adapters: none, or what stands in the model beside.
auto loss_body(const Architecture& architecture, const std::vector<std::string>& trainable, Mode mode, const std::optional<BottleneckPlan>& adapters = {}) {
  return [=]<class X>(check::Trial<X>& trial) {
    trial.pass().mode = mode;
    Transformer<X> fresh(trial.ctx(), architecture, Head::language_model());
    if (adapters) attach(trial.ctx(), fresh, *adapters);
    if (!trainable.empty()) unfreeze(fresh, trainable);
    test::check_pairs_loss(trial, std::move(fresh));
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
      test::check_adjoint(loss_body(tiny_t5(gated), pattern, Mode::train));
    }
  test::check_adjoint(loss_body(tiny_t5(true), {"lm_head.weight"}, Mode::train));
  test::check_device(loss_body(tiny_t5(), {"**"}, Mode::differentiate), 1e-3);
}

TEST_CASE("encoder-decoders: gradients through BART, mBART and UMT5", "[model][encoder_decoder]") {
  const std::vector<std::vector<std::string>> patterns{{"**"},
                                                       {"**.bias"},
                                                       {"model.encoder.**"},
                                                       {"model.decoder.**"},
                                                       {"**.encoder_attn.**"},
                                                       {"model.encoder.layers.1.fc2.weight"},
                                                       {"model.decoder.layers.0.final_layer_norm.*"},
                                                       {"**.layernorm_embedding.*"},
                                                       {"model.encoder.embed_positions.weight"},
                                                       {"model.decoder.embed_positions.weight"},
                                                       {"model.shared.weight"}};
  for (const std::string type : {"bart", "mbart"})
    for (const auto& pattern : patterns) {
      INFO(type << ", " << pattern.front());
      test::check_adjoint(loss_body(tiny_bart(type), pattern, Mode::train));
    }
  for (const std::string norm : {"model.encoder.layer_norm.*", "model.decoder.layer_norm.*"})
    test::check_adjoint(loss_body(tiny_bart("mbart"), {norm}, Mode::train));
  for (const std::string pattern : {"**", "encoder.block.1.**.relative_attention_bias.weight", "decoder.block.0.**.relative_attention_bias.weight"})
    test::check_adjoint(loss_body(tiny_umt5(), {pattern}, Mode::train));
  test::check_device(loss_body(tiny_bart(), {"**"}, Mode::differentiate), 1e-3);
}

TEST_CASE("encoder-decoders: final_logits_bias moves the scores, never trains, and goes where the model goes", "[model][encoder_decoder]") {
  test::DeviceContext ctx(1);
  Transformer<X> model(ctx, tiny_bart(), Head::language_model());
  model.initialise(ctx, 1);
  Parameter<X>* bias = nullptr;
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.path() == "final_logits_bias") bias = &parameter;
  });
  REQUIRE(bias != nullptr);
  CHECK(bias->file_shape() == Shape{1, 20});
  DeviceBatch<X> batch(ctx);
  const auto scores = [&](Transformer<X>& scored) {
    batch.upload(test::text_pairs(), false, scored.layout());
    Workspace<test::Device> saved(ctx), scratch(ctx);
    Pass<X> pass{ctx, saved, scratch};
    Transformer<X>::Activations kept;
    const View<float> logits = pass.keep(batch.token_count(), scored.architecture().vocab_size);
    scored.forward(pass, batch, logits, kept);
    return test::on_host<X>(ctx, logits);
  };
  const std::vector<float> before = scores(model);
  std::vector<float> values(20);
  for (std::size_t w = 0; w < values.size(); ++w) values[w] = static_cast<float>(w) / 8;
  test::Device::copy_in(ctx, values.data(), bias->value().data, 20 * sizeof(float));
  const std::vector<float> after = scores(model);
  for (std::size_t i = 0; i < after.size(); ++i) CHECK(after[i] == Approx(before[i] + values[i % 20]).margin(1e-6));

  unfreeze(model, {"**"});
  CHECK_FALSE(bias->trains());
  LoraPlan lora;
  lora.bias = BiasTraining::all;
  CHECK_FALSE(trains_beside(model, lora, *bias, {}));
  DiffPruningPlan pruning;
  pruning.parameters = {"final_logits_bias"};
  CHECK_THAT(test::error_text([&] {
               Transformer<X> other(ctx, tiny_bart(), Head::language_model());
               attach(ctx, other, pruning);
             }),
             Contains("matches nothing"));
  Trainer<Transformer<X>> trainer(ctx, model, {});
  trainer.step(test::text_pairs());
  CHECK(test::on_host<X>(ctx, bias->value()) == values);

  const test::TemporaryFolder folder;
  nlohmann::json config = bart_json("bart");
  write_text_file(folder.path() / "config.json", config.dump());
  save_hf_checkpoint(ctx, folder.path() / "saved", model, folder.path(), {});
  Transformer<X> loaded = Transformer<X>::load(ctx, folder.path() / "saved", Head::language_model());
  CHECK(loaded.load_report().initialised.empty());
  CHECK(scores(loaded) == scores(model));
  loaded.resize_vocabulary(ctx, 23);
  const std::vector<float> larger = scores(loaded), same = scores(model);
  for (std::size_t i = 0; i < larger.size(); ++i)
    if (i % 23 < 20) CHECK(larger[i] == Approx(same[i / 23 * 20 + i % 23]).margin(1e-6));
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
    test::check_adjoint(loss_body(tiny_t5(), {}, Mode::train, plan));
    test::check_adjoint(loss_body(tiny_t5(true), {"encoder.**"}, Mode::train, plan));
  }
  test::check_device(loss_body(tiny_t5(), {"**"}, Mode::differentiate, after_all), 1e-3);
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
  CHECK_THAT(error(UnionPlan({lora, UnionPlan::adapterhub_prompt()})), Contains("member 1: prompt_tuning: does not exist for T5 in AdapterHub"));
}

TEST_CASE("encoder-decoders: gradients through AdapterHub's methods on BART and mBART", "[model][encoder_decoder]") {
  BottleneckPlan plan;
  plan.reduction.factor = 3;
  plan.adapter.activation = ops::Activation::silu;
  plan.after_attention = plan.after_cross_attention = true;
  BottleneckPlan normed = plan, added = plan, parallel = plan;
  normed.adapter.original_ln_before = added.adapter.original_ln_before = parallel.adapter.parallel = true;
  added.adapter.residual = BottleneckConfig::Residual::post_add;
  for (const BottleneckPlan& each : {plan, normed, added, parallel}) {
    test::check_adjoint(loss_body(tiny_bart(), {"**"}, Mode::train, each));
    if (each.adapter.residual != BottleneckConfig::Residual::post_add) test::check_adjoint(loss_body(tiny_bart("mbart"), {}, Mode::train, each));
  }
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
  CHECK_THAT(test::error_text([&] { Transformer<X>(ctx, test::tiny_t5(), Head::none()); }), Contains("T5") && Contains("runs with a head alone"));
  Transformer<X> model(ctx, test::tiny_t5(), Head::language_model());
  model.initialise(ctx, 1);
  const auto run = [&ctx](Transformer<X>& of, const PackedBatch& batch) {
    return test::error_text([&] {
      DeviceBatch<X> device(ctx);
      device.upload(batch, false, of.layout());
      Workspace<test::Device> saved(ctx), scratch(ctx);
      Pass<X> pass{ctx, saved, scratch};
      Transformer<X>::Activations kept;
      of.loss(pass, device, {.total_weight = 6}, pass.keep(1, 1), kept);
    });
  };
  PackedBatch batch = test::text_pairs();
  batch.source.clear();
  CHECK_THAT(run(model, batch), Contains("T5 is an encoder-decoder and needs a source text per sequence"));
  batch = test::text_pairs();
  batch.source.front() = {};
  batch.source.front().add(std::vector<std::int32_t>{4});
  CHECK_THAT(run(model, batch), Contains("needs one source per target") && Contains("expected 3") && Contains("got 1"));
  Transformer<X> bart(ctx, tiny_bart(), Head::language_model());
  const auto too_long = [&](bool source) {
    PackedBatch one, of_source;
    of_source.add(std::vector<std::int32_t>(source ? 9 : 8, 5));
    one.add(std::vector<std::int32_t>(source ? 8 : 9, 5));
    one.token_labels.assign(one.ids.size(), 5);
    one.source.push_back(of_source);
    return run(bart, one);
  };
  for (const bool source : {false, true}) CHECK_THAT(too_long(source), Contains("at most 8 tokens") && Contains("got 9"));
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

TEST_CASE("encoder-decoders: a head of its own has no place in a folder of BART", "[model][encoder_decoder]") {
  test::DeviceContext ctx(1);
  Transformer<X> model(ctx, tiny_bart(), Head::language_model());
  model.initialise(ctx, 1);
  LoraPlan plan;
  plan.targets = Targets::named({"lm_head"});
  auto lora = attach(ctx, model, plan);
  lora.merge(ctx);
  const test::TemporaryFolder folder;
  write_text_file(folder.path() / "config.json", bart_json("bart").dump());
  CHECK_THAT(test::error_text([&] { save_hf_checkpoint(ctx, folder.path() / "saved", model, folder.path(), {}); }),
             Contains("lm_head") && Contains("BART") && Contains("save the adapter"));
  lora.unmerge(ctx);
  save_hf_checkpoint(ctx, folder.path() / "saved", model, folder.path(), {});
}

TEST_CASE("encoder-decoders: configurations of BART, mBART and UMT5", "[model][encoder_decoder]") {
  const Architecture bart = tiny_bart();
  CHECK(bart.longest() == 8);
  CHECK(tiny_bart("bart", {{"pad_token_id", nullptr}}).pad_id == 1);
  CHECK(bart.eos_ids == std::vector<std::int32_t>{2});
  CHECK(bart.start_id == 2);
  CHECK(bart.input.scale == Approx(std::sqrt(12.0)));
  CHECK(bart.encoder->stack.layers[0].attention.heads == 2);
  CHECK(bart.stack.layers[0].cross->heads == 3);
  CHECK(bart.stack.layers[0].attention.causal);
  CHECK_FALSE(bart.stack.layers[0].cross->causal);
  CHECK(tiny_bart("bart", {{"eos_token_id", {2, 7}}, {"decoder_start_token_id", 0}}).eos_ids == std::vector<std::int32_t>{2, 7});
  CHECK(tiny_bart("mbart").stack.final_norm == "decoder.layer_norm");
  CHECK(tiny_umt5().encoder->stack.relative_bias->table.starts_with("encoder.block.{}."));

  const auto message = [](const std::string& type, const nlohmann::json& changes) { return test::error_text([&] { tiny_bart(type, changes); }); };
  CHECK_THAT(message("bart", {{"encoder_attention_heads", 5}}), Contains("d_model") && Contains("encoder_attention_heads"));
  CHECK_THAT(message("bart", {{"normalize_before", true}}), Contains("normalize_before") && Contains("not supported"));
  CHECK_THAT(message("mbart", {{"normalize_before", false}}), Contains("normalize_before") && Contains("not supported"));
  CHECK_THAT(message("bart", {{"static_position_embeddings", true}}), Contains("static_position_embeddings"));
  CHECK_THAT(message("bart", {{"tie_word_embeddings", false}}), Contains("tie_word_embeddings"));
  CHECK_THAT(message("bart", {{"is_encoder_decoder", false}}), Contains("is_encoder_decoder"));
  CHECK_THAT(message("bart", {{"decoder_layerdrop", 0.1}}), Contains("decoder_layerdrop") && Contains("expected 0"));
  CHECK_THAT(message("bart", {{"activation_function", "swiglu"}}), Contains("activation_function") && Contains("swiglu"));
}

TEST_CASE("encoder-decoders: what a decoder reads to predict a target", "[model][encoder_decoder]") {
  using Tokens = std::vector<std::int32_t>;
  CHECK(tiny_bart().decoder_input({5, ops::kIgnoredLabel, 9, 2}, ops::kIgnoredLabel) == Tokens{2, 5, 19, 9});
  CHECK(tiny_bart("mbart").decoder_input({5, 9, 2, 17}, ops::kIgnoredLabel) == Tokens{17, 5, 9, 2});  // cc25: the language code ends the target
  CHECK(tiny_t5().decoder_input({1}, ops::kIgnoredLabel) == Tokens{0});
  CHECK_THAT(test::error_text([] { tiny_bart().decoder_input({}, ops::kIgnoredLabel); }), Contains("empty target"));
  CHECK_THAT(test::error_text([] { tiny_bart("mbart").decoder_input({4, ops::kIgnoredLabel}, ops::kIgnoredLabel); }), Contains("last token is scored"));
  Architecture without = tiny_bart();
  without.start_id = -1;
  CHECK_THAT(test::error_text([&] { without.decoder_input({4}, ops::kIgnoredLabel); }), Contains("decoder_start_token_id"));
}
