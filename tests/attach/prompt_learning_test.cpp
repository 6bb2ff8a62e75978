// Prefix tuning, prompt tuning and P-tuning in whole models: gradients and how far down they go, folders, checkpoints, generation.
#include <catch2/catch.hpp>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/model/generate.hpp"
#include "deltatune/train/checkpoint.hpp"
#include "deltatune/train/prompt_ensemble.hpp"
#include "deltatune/train/trainer.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/shapes.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bert.hpp"
#include "support/tiny_gpt2.hpp"

namespace {

using namespace deltatune;
using X = test::DeviceTensor;
using Tokens = std::vector<std::int32_t>;
using Gates = PrefixConfig::Gates;

constexpr Index kRows = 3;

PrefixPlan prefix(PrefixConfig config = {.rows = kRows}, std::vector<Index> leave_out = {}) {
  PrefixPlan plan;
  plan.prefix = config;
  plan.leave_out = std::move(leave_out);
  return plan;
}
PromptPlan prompt(PromptConfig config = {.rows = kRows}) {
  PromptPlan plan;
  plan.prompt = config;
  return plan;
}
PTuningPlan p_tuning(PTuningConfig config) {
  PTuningPlan plan;
  plan.p_tuning = config;
  return plan;
}

// Every kind of plan, for whatever has to hold for all.
std::vector<std::pair<std::string, AnyPlan>> all_plans() {
  return {{"flat prefix", prefix()},
          {"prefix with an encoder", prefix({.rows = kRows, .hidden = 5})},
          {"gated prefix", prefix({.rows = kRows, .hidden = 5, .shifts_positions = false, .gates = Gates::separate}, {0})},
          {"prompt", prompt()},
          {"prompts behind the first token", prompt({.rows = kRows, .prompts = 2, .like_words = false, .after_first = true})},
          {"P-tuning", p_tuning({.rows = kRows, .hidden = 5})},
          {"P-tuning with an LSTM", p_tuning({.rows = kRows, .encoder = PTuningConfig::Encoder::lstm, .hidden = 4})}};
}

PackedBatch toy_batch() {
  PackedBatch batch;
  for (const Tokens& tokens : {Tokens{4, 8, 15, 16}, Tokens{23}, Tokens{7, 9, 11}}) batch.add(tokens);
  batch.labels = {0, 2, 1};
  return batch;
}

template <class Model>
std::vector<float> logits_of(test::DeviceContext& ctx, Model& model, const PackedBatch& host) {
  Workspace<test::Device> saved(ctx), scratch(ctx);
  DeviceBatch<X> batch(ctx);
  batch.upload(host, false, model.layout());
  Pass<X> pass{ctx, saved, scratch};
  typename Model::Activations kept;
  const bool per_token = model.is_language_model();
  const View<float> logits = pass.keep(per_token ? host.rows() : host.count(), per_token ? model.architecture().vocab_size : model.num_labels());
  model.forward(pass, batch, logits, kept);
  return test::on_host<X>(ctx, logits);
}

auto bert_body(const AnyPlan& plan, Mode mode) {
  return [=]<class Y>(check::Trial<Y>& trial) {
    trial.pass().mode = mode;
    test::BertShape config;
    config.vocab_size = 30;
    config.hidden_size = 12;
    config.layers = 2;
    config.heads = 3;
    config.intermediate_size = 20;
    config.max_position_embeddings = 16;
    Bert<Y> fresh(trial.ctx(), config, Head::classifier(3));
    attach_beside(trial.ctx(), fresh, plan);
    Bert<Y>& model = trial.own(std::move(fresh));
    PackedBatch host = toy_batch();
    if (model.layout().prompts > 1) host.prompts = {1, 0, 1};
    DeviceBatch<Y> batch(trial.ctx());
    batch.upload(host, model.embeddings_train(), model.layout());
    typename Bert<Y>::Activations kept;
    const auto logits = trial.output("logits", 3, 3);
    model.forward(trial.pass(), batch, logits.value, kept);
    if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept, logits.gradient);
  };
}

}  // namespace

TEST_CASE("prompt learning: gradients through a whole model", "[attach][prompt_learning]") {
  for (const auto& [name, plan] : all_plans()) {
    INFO(name);
    test::check_adjoint(bert_body(plan, Mode::train));
    test::check_device(bert_body(plan, Mode::differentiate), 2e-4);  // an encoder's rows are small, and LayerNorm magnifies them
  }
}

TEST_CASE("prompt learning: a prefix needs no gradient below its lowest layer, a prompt that of everything", "[attach][prompt_learning]") {
  test::DeviceContext ctx(1);
  const auto lowest = [&](const AnyPlan& plan) {
    Bert<X> model = test::tiny_bert(ctx);
    attach_beside(ctx, model, plan);
    allocate_gradients(model, ctx);
    Workspace<test::Device> saved(ctx), scratch(ctx);
    DeviceBatch<X> batch(ctx);
    batch.upload(toy_batch(), false, model.layout());
    Pass<X> pass{ctx, saved, scratch, Mode::differentiate};
    Bert<X>::Activations kept;
    model.forward(pass, batch, pass.keep(3, 3), kept);
    return kept.stack.lowest;
  };
  CHECK(lowest(prefix()) == 0);
  CHECK(lowest(prefix({.rows = kRows, .hidden = 5}, {0})) == 2);  // sublayers
  CHECK(lowest(prompt()) == -1);
  CHECK(lowest(p_tuning({.rows = kRows})) == -1);
}

TEST_CASE("prompt learning: a trained adapter comes back from its folder, without what computed its rows", "[attach][prompt_learning]") {
  test::DeviceContext ctx(1);
  for (const auto& [name, plan] : all_plans()) {
    INFO(name);
    Bert<X> model = test::tiny_bert(ctx);
    Attachment<X> attachment = attach_beside(ctx, model, plan, 3);
    {
      Trainer<Bert<X>> trainer(ctx, model, {.optimizer = {.learning_rate = 0.01}});
      trainer.step(toy_batch());
      trainer.step(toy_batch());
    }
    // Saved before the next pass: the rows are those of the updated encoder.
    const test::TemporaryFolder out, again;
    save_adapter(ctx, out.path(), model, plan, attachment, "base");
    PackedBatch batch = toy_batch();
    if (model.layout().prompts > 1) batch.prompts = {0, 1, 1};
    const std::vector<float> trained = logits_of(ctx, model, batch);

    const SafeTensors file = SafeTensors::open(out.path() / "adapter_model.safetensors");
    for (const auto& [key, tensor] : file.tensors()) {
      INFO(key);
      CHECK((key == "prompt_embeddings" || key.starts_with("base_model.classifier.") || key.find("prefix_gate.") != std::string::npos));
    }
    Bert<X> fresh = test::tiny_bert(ctx);
    Adapter<X> loaded = load_adapter(ctx, fresh, out.path());
    CHECK(fresh.layout() == model.layout());
    const std::vector<float> read = logits_of(ctx, fresh, batch);
    for (std::size_t i = 0; i < trained.size(); ++i) CHECK(read[i] == Approx(trained[i]).margin(1e-6));
    fresh.visit([&](Parameter<X>& parameter) { CHECK_FALSE(parameter.path().starts_with("prompt_encoder.")); });
    // Switched off it is gone; it can be trained on and saved again.
    save_adapter(ctx, again.path(), fresh, loaded.plan, loaded.attachment, "base");
    CHECK(JsonConfig::open(again.path() / "adapter_config.json").raw() == JsonConfig::open(out.path() / "adapter_config.json").raw());
    CHECK(SafeTensors::open(again.path() / "adapter_model.safetensors").tensors().size() == file.tensors().size());
    Trainer<Bert<X>>(ctx, fresh, {}).step(toy_batch());
    CHECK(logits_of(ctx, fresh, batch) != read);
    loaded.attachment.set_enabled(false);
    CHECK(fresh.layout() == InputLayout{});
    CHECK_THAT(test::error_text([&] { attachment.merge(ctx); }), Catch::Contains("cannot be merged"));
  }
}

TEST_CASE("prompt learning: PEFT's settings are filled in from the model, and what PEFT has not it refuses by name", "[attach][prompt_learning]") {
  test::DeviceContext ctx(1);
  const auto config_of = [&](const AnyPlan& plan) {
    Bert<X> model = test::tiny_bert(ctx);
    Attachment<X> attachment = attach_beside(ctx, model, plan);
    const test::TemporaryFolder out;
    save_adapter(ctx, out.path(), model, plan, attachment, "base");
    return JsonConfig::open(out.path() / "adapter_config.json").raw();
  };
  const nlohmann::json flat = config_of(prefix());
  CHECK(flat.at("peft_type") == "PREFIX_TUNING");
  CHECK(flat.at("task_type") == "SEQ_CLS");
  CHECK(flat.at("num_virtual_tokens") == 3);
  CHECK(flat.at("token_dim") == 12);
  CHECK(flat.at("num_layers") == 2);
  CHECK(flat.at("num_attention_heads") == 3);
  CHECK(flat.at("num_transformer_submodules") == 1);
  CHECK(flat.at("prefix_projection") == false);
  CHECK(flat.at("encoder_hidden_size") == 12);
  CHECK_FALSE(flat.contains("bias"));
  CHECK(config_of(prefix({.rows = 3, .hidden = 5})).at("encoder_hidden_size") == 5);
  CHECK(config_of(prefix({.rows = 3, .hidden = 5})).at("prefix_projection") == true);
  CHECK(config_of(prefix({.rows = 3, .shifts_positions = false})).at("peft_type") == "DELTATUNE_PREFIX");
  CHECK(config_of(prefix({.rows = 3}, {1})).at("peft_type") == "DELTATUNE_PREFIX");
  CHECK(config_of(prompt()).at("prompt_tuning_init") == "RANDOM");
  CHECK(config_of(prompt({.rows = 3, .prompts = 2})).at("peft_type") == "DELTATUNE_PROMPT");
  PromptPlan text = prompt();
  text.start = {PromptStart::Kind::text, {{1, 2}}};
  CHECK(config_of(text).at("prompt_tuning_init") == "RANDOM");  // nothing that PEFT could name
  text.text = "Is this good?";
  text.tokenizer = "bert-base-uncased";
  CHECK(config_of(text).at("prompt_tuning_init") == "TEXT");
  CHECK(config_of(text).at("prompt_tuning_init_text") == "Is this good?");
  CHECK(config_of(p_tuning({.rows = 3})).at("encoder_hidden_size") == 12);
  CHECK(config_of(p_tuning({.rows = 3, .encoder = PTuningConfig::Encoder::lstm})).at("encoder_reparameterization_type") == "LSTM");
}

TEST_CASE("prompt learning: a run goes on from its checkpoint, which holds the encoder", "[attach][prompt_learning]") {
  test::DeviceContext ctx(1);
  for (const AnyPlan& plan :
       {AnyPlan(prefix({.rows = kRows, .hidden = 5})), AnyPlan(p_tuning({.rows = kRows, .encoder = PTuningConfig::Encoder::lstm, .dropout = 0.3}))}) {
    const TrainerConfig config{.optimizer = {.learning_rate = 0.01}, .seed = 4};
    const test::TemporaryFolder folder;
    double expected = 0;
    {
      Bert<X> model = test::tiny_bert(ctx);
      attach(ctx, model, plan, 3);
      Trainer<Bert<X>> trainer(ctx, model, config);
      trainer.step(toy_batch());
      save_checkpoint(folder.path(), trainer, {.step = 1}, nlohmann::json::object());
      trainer.step(toy_batch());
      expected = trainer.step(toy_batch()).loss;
    }
    CHECK(SafeTensors::open(folder.path() / "state.safetensors").find("value.prompt_encoder.embedding.weight") != nullptr);
    Bert<X> model = test::tiny_bert(ctx);
    attach(ctx, model, plan, 77);
    Trainer<Bert<X>> trainer(ctx, model, config);
    load_checkpoint(folder.path(), trainer, nlohmann::json::object());
    trainer.step(toy_batch());
    CHECK(trainer.step(toy_batch()).loss == expected);
  }
}

TEST_CASE("prompt learning: gradients of several batches add up to those of one", "[attach][prompt_learning]") {
  test::DeviceContext ctx(1);
  PackedBatch first, second;
  first.add(Tokens{4, 8, 15, 16});
  first.labels = {0};
  second.add(Tokens{23});
  second.add(Tokens{7, 9, 11});
  second.labels = {2, 1};
  for (const auto& [name, plan] : all_plans()) {
    INFO(name);
    const auto norms = [&](const std::vector<PackedBatch>& batches) {
      Bert<X> model = test::tiny_bert(ctx);
      attach(ctx, model, plan, 3);
      Trainer<Bert<X>> trainer(ctx, model, {.optimizer = {.learning_rate = 0.01}, .dropout = false});
      const double before = trainer.step(batches).gradient_norm;
      return std::pair(before, trainer.step(batches).gradient_norm);
    };
    const auto one = norms({toy_batch()}), several = norms({first, second});
    CHECK(several.first == Approx(one.first).epsilon(1e-4));
    CHECK(several.second == Approx(one.second).epsilon(1e-3));
  }
}

TEST_CASE("prompt learning: each of several prompts gives what it gives alone", "[attach][prompt_learning]") {
  test::DeviceContext ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  PromptPlan both = prompt({.rows = kRows, .prompts = 2});
  both.start.kind = PromptStart::Kind::vocabulary;
  attach(ctx, model, both, 3);
  std::vector<float> rows;
  model.input().deltas.visit([&](Parameter<X>& parameter) { rows = test::on_host<X>(ctx, parameter.value()); });
  std::vector<std::vector<float>> alone;
  for (std::size_t k = 0; k < 2; ++k) {
    Bert<X> single = test::tiny_bert(ctx);
    attach(ctx, single, prompt());
    single.input().deltas.visit([&](Parameter<X>& parameter) {
      const std::size_t half = rows.size() / 2;
      test::from_host<X>(ctx, {rows.begin() + static_cast<std::ptrdiff_t>(k * half), rows.begin() + static_cast<std::ptrdiff_t>((k + 1) * half)},
                         parameter.value());
    });
    alone.push_back(logits_of(ctx, single, toy_batch()));
  }
  const auto logits = [&](const PackedBatch& batch) { return logits_of(ctx, model, batch); };
  const std::vector<float> mean = prompt_ensemble(logits, 2, 3, Ensemble::mean)(toy_batch());
  REQUIRE(mean.size() == alone[0].size());
  for (std::size_t i = 0; i < mean.size(); ++i) CHECK(mean[i] == Approx((alone[0][i] + alone[1][i]) / 2).margin(1e-6));
  CHECK(alone[0] != alone[1]);
  // Trained beside each other, both learn.
  Trainer<Bert<X>>(ctx, model, {.optimizer = {.learning_rate = 0.01}}).step(with_every_prompt(toy_batch(), 2));
  std::vector<float> now;
  model.input().deltas.visit([&](Parameter<X>& parameter) { now = test::on_host<X>(ctx, parameter.value()); });
  CHECK(now.front() != rows.front());
  CHECK(now.back() != rows.back());
}

TEST_CASE("prompt learning: token by token with the cache as in one pass", "[attach][prompt_learning]") {
  test::DeviceContext ctx(1);
  const Tokens start{1, 2, 3};
  for (const auto& [name, plan] : all_plans()) {
    if (name == "gated prefix") continue;  // gates are a mean over the tokens that are there: see delta/prefix.hpp
    INFO(name);
    Gpt2<X> model = test::tiny_gpt2(ctx);
    attach(ctx, model, plan, 3);
    const Tokens tokens = generate(ctx, model, start, {.max_new_tokens = 6, .stops_at_end = false});
    Tokens all = start;
    for (const std::int32_t token : tokens) {
      PackedBatch batch;
      batch.add(all);
      const std::vector<float> logits = logits_of(ctx, model, batch);
      const auto last = logits.end() - model.architecture().vocab_size;
      CHECK(token == std::max_element(last, logits.end()) - last);
      all.push_back(token);
    }
  }
}

TEST_CASE("prompt learning: several methods at once, any of them switched off", "[attach][prompt_learning]") {
  test::DeviceContext ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  const std::vector<float> plain = logits_of(ctx, model, toy_batch());
  PrefixPlan first = prefix({.rows = 2});
  first.name = "prefix";
  PromptPlan second = prompt();
  second.name = "prompt";
  Attachment<X> a = attach(ctx, model, first, 1);
  const std::vector<float> with_first = logits_of(ctx, model, toy_batch());
  Attachment<X> b = attach_beside(ctx, model, second, 2);
  CHECK(model.layout() == InputLayout{.front = 3, .counted = 3, .shift = 2});
  const std::vector<float> with_both = logits_of(ctx, model, toy_batch());
  CHECK(with_both != with_first);
  b.set_enabled(false);
  CHECK(logits_of(ctx, model, toy_batch()) == with_first);
  a.set_enabled(false);
  CHECK(logits_of(ctx, model, toy_batch()) == plain);
  a.detach();
  b.set_enabled(true);
  CHECK(logits_of(ctx, model, toy_batch()) != plain);
  b.detach();
  CHECK(logits_of(ctx, model, toy_batch()) == plain);
}

TEST_CASE("prompt learning: folders that are wrong", "[attach][prompt_learning]") {
  test::DeviceContext ctx(1);
  Bert<X> saved = test::tiny_bert(ctx);
  const PrefixPlan plan = prefix();
  Attachment<X> attachment = attach(ctx, saved, plan);
  const auto loading_error = [&](const std::function<void(nlohmann::json&)>& change, bool with_rows = true) {
    const test::TemporaryFolder out;
    save_adapter(ctx, out.path(), saved, plan, attachment, "base");
    nlohmann::json config = JsonConfig::open(out.path() / "adapter_config.json").raw();
    change(config);
    write_text_file(out.path() / "adapter_config.json", config.dump());
    if (!with_rows) {
      SafeTensorsWriter writer;
      writer.add_copy("base_model.classifier.bias", {3}, std::vector<float>(3));
      writer.write(out.path() / "adapter_model.safetensors");
    }
    Bert<X> model = test::tiny_bert(ctx);
    return test::error_text([&] { load_adapter(ctx, model, out.path()); });
  };
  const auto with = [&](const char* key, const nlohmann::json& value) { return loading_error([&](nlohmann::json& config) { config[key] = value; }); };
  CHECK_THAT(with("num_virtual_tokens", 4), Catch::Contains("prompt_embeddings") && Catch::Contains("[4, 48]") && Catch::Contains("[3, 48]"));
  CHECK_THAT(with("num_virtual_tokens", 0), Catch::Contains("num_virtual_tokens") && Catch::Contains("at least 1"));
  CHECK_THAT(with("num_transformer_submodules", 2), Catch::Contains("num_transformer_submodules"));
  CHECK_THAT(with("peft_type", "PROMPT_TUNING"), Catch::Contains("prompt_embeddings") && Catch::Contains("[3, 12]"));
  CHECK_THAT(with("peft_type", "DELTATUNE_PREFIX"), Catch::Contains("gates") && Catch::Contains("missing"));
  CHECK_THAT(loading_error([](nlohmann::json&) {}, false), Catch::Contains("has no tensor for prompt_embeddings"));
  Bert<X> model = test::tiny_bert(ctx);
  CHECK_THAT(test::error_text([&] { attach(ctx, model, prefix({.rows = 3}, {2})); }), Catch::Contains("leave_out") && Catch::Contains("0 to 1"));
  CHECK_THAT(test::error_text([&] { attach(ctx, model, prefix({.rows = 3}, {0, 1})); }), Catch::Contains("leaves out every layer"));
}
