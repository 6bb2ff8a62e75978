// Classifiers with a decoder: one text for both sides, gradients, training, and heads where PEFT has them.
#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/attach/adapterhub_format.hpp"
#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/attach/prefix_plan.hpp"
#include "deltatune/attach/prompt_plan.hpp"
#include "deltatune/attach/save_adapter.hpp"
#include "deltatune/check/contract.hpp"
#include "deltatune/delta/selections.hpp"
#include "deltatune/io/hf_export.hpp"
#include "deltatune/model/transformer.hpp"
#include "deltatune/train/evaluation.hpp"
#include "deltatune/train/features.hpp"
#include "deltatune/train/trainer.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/instances.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bart.hpp"
#include "support/tiny_t5.hpp"

namespace {

using namespace deltatune;
using Catch::Contains;
using Ids = std::vector<std::int32_t>;
using X = test::DeviceTensor;
using Model = Transformer<X>;

constexpr Index kClasses = 3;

// Texts of three lengths, the first with two end-of-text tokens and a token behind them.
Dataset three_texts(const Architecture& a) {
  const std::int32_t end = a.eos_ids.front();
  Dataset data;
  data.add({.ids = {4, end, 8, 15, end, 16}, .label = 2});
  data.add({.ids = {end}, .label = 0});
  data.add({.ids = {7, 12, 11, end}, .label = 1});
  return data;
}
const std::vector<Index> kAll{0, 1, 2};

Model classifier(test::DeviceContext& ctx, Architecture architecture) {
  architecture.initializer_range = 0.4;
  Model model(ctx, architecture, Head::classifier(kClasses));
  model.initialise(ctx, 1);
  return model;
}

std::vector<float> logits(test::DeviceContext& ctx, Model& model, const PackedBatch& batch) {
  DeviceBatch<X> device(ctx);
  device.upload(batch, false, model.layout());
  Workspace<test::Device> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch};
  Model::Activations kept;
  const View<float> values = pass.keep(batch.count(), kClasses);
  model.forward(pass, device, values, kept);
  return test::on_host<X>(ctx, values);
}

// prompt: rows in front of the encoder's, or 0.
auto label_loss_body(const Architecture& architecture, const std::vector<std::string>& trainable, Mode mode, Index prompt = 0) {
  return [=]<class Y>(check::Trial<Y>& trial) {
    trial.pass().mode = mode;
    Transformer<Y> fresh(trial.ctx(), architecture, Head::classifier(kClasses));
    if (prompt > 0) {
      PromptPlan plan;
      plan.prompt.rows = prompt;
      attach(trial.ctx(), fresh, plan);
    }
    if (!trainable.empty()) unfreeze(fresh, trainable);
    Transformer<Y>& model = trial.own(std::move(fresh));
    allocate_gradients(model, trial.ctx());
    DeviceBatch<Y> batch(trial.ctx());
    batch.upload(three_texts(architecture).batch(kAll), model.embeddings_train(), model.layout());
    typename Transformer<Y>::Activations kept;
    const auto loss = trial.loss("loss");
    backend_of<Y>::fill(trial.ctx(), loss.value, scalar_of<Y>(0));
    model.loss(trial.pass(), batch, {.total_weight = 3}, loss.value, kept);
    if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept);
  };
}

std::vector<Architecture> architectures() { return {test::tiny_bart("bart", {{"classifier_dropout", 0.2}}), test::tiny_bart("mbart"), test::tiny_t5(true)}; }

}  // namespace

TEST_CASE("classifiers with a decoder: gradients through both stacks, whatever trains", "[model][encoder_decoder][classifier]") {
  for (const std::string pattern : {"**", "**.encoder.**", "**.decoder.**", "**.shared.weight", "classification_head.**", "classification_head.out_proj.*"})
    for (const Architecture& architecture : architectures()) {
      INFO(architecture.title << ", " << pattern);
      test::check_adjoint(label_loss_body(architecture, {pattern}, Mode::train));
    }
  for (const std::string pattern : {"transformer.encoder.final_layer_norm.weight", "transformer.decoder.**.relative_attention_bias.weight",
                                    "transformer.decoder.block.0.layer.1.EncDecAttention.k.weight"})
    test::check_adjoint(label_loss_body(test::tiny_t5(), {pattern}, Mode::train));
  test::check_adjoint(label_loss_body(test::tiny_bart(), {}, Mode::train, 2));
  test::check_device(label_loss_body(test::tiny_bart(), {"**"}, Mode::differentiate), 1e-3);
}

TEST_CASE("classifiers with a decoder read one text twice", "[model][encoder_decoder][classifier]") {
  test::DeviceContext ctx(1);
  for (const Architecture& architecture : architectures()) {
    INFO(architecture.title);
    Model model = classifier(ctx, architecture);
    const std::int32_t end = architecture.eos_ids.front();
    PackedBatch text, twice;
    text.add(Ids{4, end, 8, 15, end, 16});
    twice.source.push_back(text);
    twice.add(Ids{architecture.starts_with_last ? 16 : architecture.start_id, 4, end, 8, 15});
    const std::vector<float> scores = logits(ctx, model, text);
    CHECK(scores == logits(ctx, model, twice));
    // A token more for the decoder, or fewer for the encoder, would be other scores.
    PackedBatch other = twice;
    other.add(Ids{5});
    other.source.front().add(Ids{5});
    PackedBatch longer = twice, shorter;
    longer.offsets.back() = longer.rows() + 1;
    longer.ids.push_back(end);
    longer.positions.push_back(5);
    longer.types.push_back(0);
    shorter.add(Ids{4, end, 8, 15, end});
    if (!architecture.starts_with_last) CHECK(scores != logits(ctx, model, shorter));
    CHECK(scores != logits(ctx, model, longer));
    const std::vector<float> both = logits(ctx, model, other);
    for (std::size_t k = 0; k < scores.size(); ++k) CHECK(both[k] == Approx(scores[k]).margin(1e-6));
  }
}

TEST_CASE("classifiers with a decoder train, evaluate and take features like any other", "[model][encoder_decoder][classifier]") {
  test::DeviceContext ctx(1);
  const Architecture architecture = test::tiny_bart();
  const Dataset data = three_texts(architecture);
  {
    Model model = classifier(ctx, architecture);
    unfreeze(model, {"**"});
    Trainer<Model> trainer(ctx, model, {.optimizer = {.learning_rate = 1e-2}, .dropout = false});
    trainer.plan(data.largest_batch(3));
    ctx.reset_counters();
    const double before = trainer.step(data.batch(kAll)).loss;
    for (int step = 0; step < 40; ++step) trainer.step(data.batch(kAll));
    CHECK(ctx.allocations() == 0);
    const Evaluation result = evaluate(trainer, data, 2);
    CHECK(result.accuracy == 1);
    CHECK(result.loss < 0.2 * before);
    CHECK(std::string(model.task_type()) == "SEQ_CLS");
    CHECK(model.class_name() == "BartForSequenceClassification");
  }
  std::vector<double> losses[2];
  for (const bool cached : {false, true}) {
    Model model = classifier(ctx, architecture);
    apply(model, head_only(family_of(model)));
    Dataset texts = data;
    if (cached) compute_features(ctx, model, texts, 2);
    Trainer<Model> trainer(ctx, model, {.optimizer = {.learning_rate = 0.05}, .dropout = false});
    for (int step = 0; step < 3; ++step) losses[cached].push_back(trainer.step(texts.batch(kAll)).loss);
  }
  for (std::size_t i = 0; i < 3; ++i) CHECK(losses[1][i] == Approx(losses[0][i]).epsilon(1e-5));
  CHECK(losses[0][2] < losses[0][0]);
}

TEST_CASE("classifiers with a decoder: what methods promise", "[model][encoder_decoder][classifier]") {
  for (const Architecture& architecture : architectures()) {
    const auto check_contract = [&](const std::string& name, const auto& plan, check::ContractOptions options) {
      test::DeviceContext ctx(1);
      const test::TemporaryFolder folder;
      options.folder = folder.path();
      INFO(architecture.title << ", " << name);
      const auto make = [&](auto&) { return classifier(ctx, architecture); };
      CHECK(check::contract(ctx, make, three_texts(architecture).batch(kAll), plan, options) == std::vector<std::string>{});
    };
    check_contract("LoRA", LoraPlan(), {.merges = true});
    BottleneckPlan adapters = BottleneckPlan::of("houlsby");
    adapters.reduction.factor = 3;
    check_contract("Houlsby", adapters, {.starts_as_identity = false});
    PromptPlan prompt;
    prompt.prompt.rows = 2;
    check_contract("prompt", prompt, {.starts_as_identity = false});
    PrefixPlan prefix;
    prefix.prefix.rows = 2;
    check_contract("prefix", prefix, {.starts_as_identity = false});
  }
}

TEST_CASE("classifiers with a decoder: checkpoints become language models, and the other way round", "[model][encoder_decoder][classifier]") {
  test::DeviceContext ctx(1);
  const test::TemporaryFolder folder;
  const nlohmann::json t5 = {{"model_type", "t5"}, {"vocab_size", 20}, {"d_model", 12},     {"d_kv", 3},        {"d_ff", 10},
                             {"num_layers", 1},    {"num_heads", 2},   {"eos_token_id", 1}, {"pad_token_id", 0}};
  for (const nlohmann::json& config : {t5, test::bart_json("bart")}) {
    const Architecture architecture = architecture_of(JsonConfig::parse(config.dump(), "config.json"));
    const std::filesystem::path in = folder.path() / architecture.family, cls = in / "cls", lm = in / "lm";
    std::filesystem::create_directories(in);
    write_text_file(in / "config.json", config.dump());
    Model model = classifier(ctx, architecture);
    save_hf_checkpoint(ctx, cls, model, in, {});
    CHECK(JsonConfig::open(cls / "config.json").get<std::vector<std::string>>("architectures") ==
          std::vector{architecture.class_name + "ForSequenceClassification"});
    const std::vector<float> scores = logits(ctx, model, three_texts(architecture).batch(kAll));
    Model again = Model::load(ctx, cls, Head::classifier(kClasses));
    CHECK(again.load_report().initialised.empty());
    CHECK(logits(ctx, again, three_texts(architecture).batch(kAll)) == scores);

    Model writes = Model::load(ctx, cls, Head::language_model());
    for (const std::string& path : writes.load_report().initialised) CHECK(path == "final_logits_bias");
    CHECK(writes.load_report().left_out.size() == 4);
    save_hf_checkpoint(ctx, lm, writes, cls, {});
    Model fresh = Model::load(ctx, lm, Head::classifier(kClasses), 3), same = Model::load(ctx, lm, Head::classifier(kClasses), 3);
    CHECK(fresh.load_report().initialised == std::vector<std::string>{"classification_head.dense.weight", "classification_head.dense.bias",
                                                                      "classification_head.out_proj.weight", "classification_head.out_proj.bias"});
    const std::vector<float> drawn = logits(ctx, fresh, three_texts(architecture).batch(kAll));
    CHECK(drawn != scores);
    CHECK(drawn == logits(ctx, same, three_texts(architecture).batch(kAll)));
  }
}

TEST_CASE("classifiers with a decoder: the head trains beside deltas, and goes into PEFT's folder by its name", "[model][encoder_decoder][classifier]") {
  test::DeviceContext ctx(1);
  const test::TemporaryFolder folder;
  const auto modules = [&](Model& model, const std::string& name) {
    LoraPlan plan;
    auto lora = attach(ctx, model, plan);
    save_adapter(ctx, folder.path() / name, model, lora, "base");
    return JsonConfig::open(folder.path() / name / "adapter_config.json").get<std::vector<std::string>>("modules_to_save");
  };
  Model classifies = classifier(ctx, test::tiny_bart());
  CHECK(modules(classifies, "cls") == std::vector<std::string>{"classifier", "score", "classification_head"});
  Index trained = 0;
  classifies.visit([&](Parameter<X>& parameter) { trained += parameter.trains() && parameter.role() != Role::delta ? 1 : 0; });
  CHECK(trained == 4);
  Model writes(ctx, test::tiny_bart(), Head::language_model());
  CHECK(modules(writes, "lm") == std::vector<std::string>{"classifier", "score"});
}

TEST_CASE("classifiers with a decoder: mistakes are refused", "[model][encoder_decoder][classifier]") {
  test::DeviceContext ctx(1);
  Model model = classifier(ctx, test::tiny_bart());
  const auto error = [&](const PackedBatch& batch) { return test::error_text([&] { logits(ctx, model, batch); }); };
  const auto text = [](const Ids& ids) {
    PackedBatch batch;
    batch.add(Ids{5, 2});
    batch.add(ids);
    return batch;
  };
  CHECK(logits(ctx, model, text({3, 2})).size() == 2 * kClasses);
  CHECK_THAT(error(text({3, 4})), Contains("sequence 1") && Contains("no end-of-text token") && Contains("token 2") && Contains("special tokens"));
  CHECK_THAT(error(text({3, 4, 5, 6, 7, 8, 9, 10, 2})), Contains("at most 8 tokens") && Contains("got 9"));
  PackedBatch gap = text({3, 4, 2});
  gap.positions.back() = 4;
  CHECK_THAT(error(gap), Contains("sequence 1") && Contains("gap"));
  CHECK_THAT(test::error_text([&] {
               DeviceBatch<X> device(ctx);
               device.upload(text({3, 2}), false, InputLayout{.first_position = 2});
               Workspace<test::Device> saved(ctx), scratch(ctx);
               Pass<X> pass{ctx, saved, scratch};
               Model::Activations kept;
               model.forward(pass, device, pass.keep(2, kClasses), kept);
             }),
             Contains("layout()"));
  const auto make = [&](const Architecture& architecture) { return test::error_text([&] { Model(ctx, architecture, Head::classifier(2)); }); };
  CHECK_THAT(make(test::tiny_bart("bart", {{"eos_token_id", {2, 7}}})), Contains("BART") && Contains("one eos_token_id"));
  Architecture other = test::tiny_t5();
  other.start_id = -1;
  CHECK_THAT(make(other), Contains("T5") && Contains("decoder_start_token_id"));
  other = test::tiny_t5();
  other.head.classifier = "";
  CHECK_THAT(make(other), Contains("T5 has no classifier") || Contains("has no classifier"));
}

TEST_CASE("the output layer of a language model alone, where it has a table of its own", "[model][encoder_decoder][selection]") {
  test::DeviceContext ctx(1);
  Model own(ctx, test::tiny_t5(true), Head::language_model());
  apply(own, head_only(family_of(own)));
  std::vector<std::string> trained;
  own.visit([&](Parameter<X>& parameter) {
    if (parameter.trains()) trained.push_back(parameter.path());
  });
  CHECK(trained == std::vector<std::string>{"lm_head.weight"});
  for (const Architecture& architecture : {test::tiny_t5(), test::tiny_bart()}) {
    Model tied(ctx, architecture, Head::language_model());
    CHECK_THAT(test::error_text([&] { head_only(family_of(tied)); }),
               Contains("the table of the token embeddings") && Contains(architecture.title) && Contains("LoRA with the target lm_head"));
  }
  Architecture bare = test::tiny_t5();
  bare.head.lm_head = "";
  CHECK_THAT(test::error_text([&] { head_only({bare, false}); }), Contains("has no output layer"));
}
