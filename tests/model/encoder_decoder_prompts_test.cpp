// Prompts, P-tuning and prefixes on encoder-decoders: gradients, what the rows are, how far down gradients go, folders.
#include <catch2/catch.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/check/contract.hpp"
#include "deltatune/model/transformer.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/instances.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bert.hpp"
#include "support/tiny_t5.hpp"

using namespace deltatune;
using Catch::Contains;

namespace {

using X = test::DeviceTensor;
using Gates = PrefixConfig::Gates;

PrefixPlan prefixes(PrefixConfig config, bool encoder = true, bool cross = true, bool decoder = true) {
  PrefixPlan plan;
  plan.prefix = config;
  plan.encoder_prefix = encoder;
  plan.cross_prefix = cross;
  plan.decoder_prefix = decoder;
  return plan;
}
PromptPlan prompt(Index submodules) {
  PromptPlan plan;
  plan.prompt.rows = 2;
  plan.submodules = submodules;
  return plan;
}
PTuningPlan lstm() {
  PTuningPlan plan;
  plan.p_tuning = {.rows = 2, .encoder = PTuningConfig::Encoder::lstm, .hidden = 3, .layers = 1};
  return plan;
}

std::vector<std::pair<std::string, AnyPlan>> all_plans() {
  return {{"prompt", prompt(1)},
          {"PEFT's prompts", prompt(2)},
          {"P-tuning", lstm()},
          {"prefixes", prefixes({.rows = 2})},
          {"prefixes with encoders", prefixes({.rows = 2, .hidden = 4, .dropout = 0.2})},
          {"gated prefixes", prefixes({.rows = 3, .gates = Gates::separate})},
          {"a prefix of the encoder", prefixes({.rows = 2}, true, false, false)},
          {"a prefix of cross-attention", prefixes({.rows = 1}, false, true, false)},
          {"a prefix of the decoder", prefixes({.rows = 2}, false, false, true)},
          {"PEFT's prefix", PrefixPlan::of_peft({.rows = 2})},
          {"PEFT's prefix, shared", PrefixPlan::of_peft({.rows = 2, .hidden = 4}, 2)},
          {"AdapterHub's prefixes", UnionPlan::of(UnionPlan::adapterhub_prefix(2, 4))}};
}

// also: what of the model trains besides.
auto plan_loss_body(const AnyPlan& plan, Mode mode, const std::vector<std::string>& also) {
  return [=]<class Y>(check::Trial<Y>& trial) {
    trial.pass().mode = mode;
    Transformer<Y> fresh(trial.ctx(), test::tiny_t5(), Head::language_model());
    attach_beside(trial.ctx(), fresh, plan);
    if (!also.empty()) unfreeze(fresh, also);
    test::check_pairs_loss(trial, std::move(fresh));
  };
}

Transformer<X> tiny_model(test::DeviceContext& ctx) {
  Architecture architecture = test::tiny_t5();
  architecture.initializer_range = 0.4;
  Transformer<X> model(ctx, architecture, Head::language_model());
  model.initialise(ctx, 1);
  return model;
}

std::vector<float> logits_of(test::DeviceContext& ctx, Transformer<X>& model) {
  Workspace<test::Device> saved(ctx), scratch(ctx);
  DeviceBatch<X> batch(ctx);
  batch.upload(test::text_pairs(), false, model.layout());
  Pass<X> pass{ctx, saved, scratch};
  Transformer<X>::Activations kept;
  const View<float> logits = pass.keep(batch.token_count(), model.architecture().vocab_size);
  model.forward(pass, batch, logits, kept);
  return test::on_host<X>(ctx, logits);
}

}  // namespace

TEST_CASE("prompts on encoder-decoders: gradients", "[model][encoder_decoder][prompt_learning]") {
  for (const auto& [name, plan] : all_plans()) {
    INFO(name);
    test::check_adjoint(plan_loss_body(plan, Mode::train, {}));
    test::check_adjoint(plan_loss_body(plan, Mode::train, {"**.relative_attention_bias.weight", "decoder.block.0.layer.1.EncDecAttention.**"}));
    test::check_device(plan_loss_body(plan, Mode::differentiate, {"**.relative_attention_bias.weight"}), 1e-3);
  }
}

TEST_CASE("cross-attention: keys and values of a prefix are those of rows in front of the source's", "[nn][encoder_decoder]") {
  using Y = Tensor<double, Reference>;
  Reference::Context ctx;
  const Index width = 6, rows = 2, source_rows = 3, queries = 4;
  check::Trial<Y> trial(ctx, {.seed = 4});
  const auto linear = [&](const std::string& name, Index out) { return Linear<Y>(ctx, width, {{name, out}}); };
  CrossAttention<Y>& layer = trial.own(CrossAttention<Y>("cross", linear("q", width), linear("kv", 2 * width), linear("o", width), {.heads = 2}));
  Parameter<Y>& kv = layer.site().deltas.add("prefix", PrefixRows<Y>(ctx, "cross", width, layer.site().width, {.rows = rows}, derive(1))).kv();
  const auto s = trial.input("s", rows + source_rows, width), x = trial.input("x", queries, width);
  Pass<Y>& pass = trial.pass();
  const Sequences of_x = trial.sequences({queries}), longer = trial.sequences({rows + source_rows}), shorter = trial.sequences({source_rows});
  pass.sequences = &of_x;
  const View<double> with_rows = pass.keep(queries, width), with_prefix = pass.keep(queries, width);
  const auto run = [&](View<const double> source, const Sequences& sequences, View<double> y) {
    Source<Y> given{.rows = source, .sequences = sequences};
    CrossAttention<Y>::Saved saved;
    pass.source = &given;
    layer.forward(pass, of_x, x.value, y, saved);
    return saved.kv.read(pass);
  };
  layer.site().deltas.set_enabled("prefix", false);
  const View<double> projected = run(s.value, longer, with_rows);
  ops::copy<Reference, double>(ctx, projected.row_range(0, rows), kv.value());
  layer.site().deltas.set_enabled("prefix", true);
  run(s.value.row_range(rows, source_rows), shorter, with_prefix);
  for (Index i = 0; i < queries; ++i)
    for (Index j = 0; j < width; ++j) CHECK(with_prefix(i, j) == Approx(with_rows(i, j)).epsilon(1e-12));
}

TEST_CASE("prompts on encoder-decoders: gradients go as far down as something trains", "[model][encoder_decoder][prompt_learning]") {
  test::DeviceContext ctx(1);
  struct Lowest {
    Index decoder = 0, encoder = 0;
  };
  const auto lowest = [&](const AnyPlan& plan) {
    Transformer<X> model = tiny_model(ctx);
    attach(ctx, model, plan);
    allocate_gradients(model, ctx);
    DeviceBatch<X> batch(ctx);
    batch.upload(test::text_pairs(), false, model.layout());
    Workspace<test::Device> saved(ctx), scratch(ctx);
    Pass<X> pass{ctx, saved, scratch, Mode::train};
    Transformer<X>::Activations kept;
    model.loss(pass, batch, {.total_weight = 6}, pass.keep(1, 1), kept);
    model.backward(pass, batch, kept);
    return Lowest{kept.stack.lowest, kept.source_stack.lowest};
  };
  const Lowest prompts = lowest(prompt(1)), encoder = lowest(prefixes({.rows = 2}, true, false, false)),
               cross = lowest(prefixes({.rows = 2}, false, true, false)), decoder = lowest(PrefixPlan::of_peft({.rows = 2}));
  CHECK(prompts.encoder == -1);
  CHECK(prompts.decoder == 1);  // its first cross-attention
  CHECK(encoder.encoder == 0);
  CHECK(encoder.decoder == 1);
  CHECK(cross.encoder == 2);  // nothing of its two sublayers
  CHECK(cross.decoder == 1);
  CHECK(decoder.encoder == 2);
  CHECK(decoder.decoder == 0);
}

TEST_CASE("prompts on encoder-decoders: PEFT's prefix moves the positions of the decoder, a prompt those of the encoder", "[model][encoder_decoder]") {
  test::DeviceContext ctx(1);
  const auto last = [&](const AnyPlan& plan) {
    Transformer<X> model = tiny_model(ctx);
    attach(ctx, model, plan);
    DeviceBatch<X> batch(ctx);
    batch.upload(test::text_pairs(), false, model.layout());
    return std::pair(batch.source()->last_position(), batch.last_position());
  };
  CHECK(last(PrefixPlan::of_peft({.rows = 5})) == std::pair<Index, Index>(6, 3 + 5));
  CHECK(last(prefixes({.rows = 5})) == std::pair<Index, Index>(6, 3));
  CHECK(last(prompt(1)) == std::pair<Index, Index>(6 + 2, 3));
}

TEST_CASE("prompts on encoder-decoders: methods keep their promises", "[model][encoder_decoder][prompt_learning][contract]") {
  test::DeviceContext ctx(1);
  for (const auto& [name, plan] : all_plans()) {
    INFO(name);
    const test::TemporaryFolder folder;
    std::visit(
        [&]<class Plan>(const Plan& method) {
          if constexpr (std::is_same_v<Plan, PrefixPlan> || std::is_same_v<Plan, PromptPlan> || std::is_same_v<Plan, PTuningPlan> ||
                        std::is_same_v<Plan, UnionPlan>) {
            const std::vector<std::string> broken =
                check::contract(ctx, tiny_model, test::text_pairs(), method, {.starts_as_identity = false, .folder = folder.path()});
            CHECK(broken == std::vector<std::string>{});
          } else {
            FAIL("no such plan is among them");
          }
        },
        plan);
  }
}

TEST_CASE("prompts on encoder-decoders: what was read from a folder is written again", "[model][encoder_decoder][prompt_learning]") {
  test::DeviceContext ctx(1);
  for (const auto& [name, plan] : all_plans()) {
    INFO(name);
    Transformer<X> model = tiny_model(ctx), fresh = tiny_model(ctx);
    const std::vector<float> plain = logits_of(ctx, model);
    Attachment<X> attachment = attach(ctx, model, plan, 3);
    const test::TemporaryFolder out, again;
    save_adapter(ctx, out.path(), model, plan, attachment, "base");
    Adapter<X> loaded = load_adapter(ctx, fresh, out.path());
    save_adapter(ctx, again.path(), fresh, loaded.plan, loaded.attachment, "base");
    CHECK(JsonConfig::open(again.path() / "adapter_config.json").raw() == JsonConfig::open(out.path() / "adapter_config.json").raw());
    CHECK(logits_of(ctx, fresh) != plain);
    loaded.attachment.set_enabled(false);
    CHECK(logits_of(ctx, fresh) == plain);
  }
}

TEST_CASE("prompts on encoder-decoders: which files are PEFT's, and what they say", "[model][encoder_decoder][prompt_learning]") {
  test::DeviceContext ctx(1);
  const auto saved = [&](const auto& plan) {
    Transformer<X> model = tiny_model(ctx);
    Attachment<X> attachment = attach(ctx, model, plan);
    const test::TemporaryFolder out;
    save_adapter(ctx, out.path(), model, plan, attachment, "base");
    std::string keys;
    const SafeTensors file = SafeTensors::open(out.path() / "adapter_model.safetensors");
    for (const auto& [key, tensor] : file.tensors()) keys += key + to_string(tensor.shape) + " ";
    return std::pair(JsonConfig::open(out.path() / "adapter_config.json").raw(), keys);
  };
  const auto [one, of_one] = saved(prompt(1));
  CHECK(one.at("peft_type") == "PROMPT_TUNING");
  CHECK(one.at("task_type") == "SEQ_2_SEQ_LM");
  CHECK(one.at("num_transformer_submodules") == 1);
  CHECK(of_one == "prompt_embeddings[2, 12] ");
  CHECK(saved(prompt(2)).second == "prompt_embeddings[4, 12] ");
  CHECK(saved(prompt(2)).first.at("num_transformer_submodules") == 2);
  const auto [narrow, of_narrow] = saved(PrefixPlan::of_peft({.rows = 2}));
  CHECK(narrow.at("peft_type") == "PREFIX_TUNING");
  CHECK(narrow.at("num_transformer_submodules") == 2);
  CHECK(narrow.at("num_layers") == 3);  // odd, so that the decoder's two layers have keys of their own
  CHECK(narrow.at("token_dim") == 6);
  CHECK(narrow.at("num_attention_heads") == 2);
  CHECK(of_narrow == "prompt_embeddings[2, 36] ");
  const auto [own, of_own] = saved(prefixes({.rows = 2}));
  CHECK(own.at("peft_type") == "DELTATUNE_PREFIX");
  CHECK(own.at("distances") == "none");
  CHECK(own.at("cross_prefix") == true);
  CHECK(of_own == "cross_prefix.prompt_embeddings[2, 24] encoder_prefix.prompt_embeddings[2, 12] prompt_embeddings[2, 24] ");
  CHECK(saved(prefixes({.rows = 2}, false, true, false)).second == "cross_prefix.prompt_embeddings[2, 24] ");
}

TEST_CASE("prompts on encoder-decoders: mistakes are refused", "[model][encoder_decoder][prompt_learning]") {
  test::DeviceContext ctx(1);
  const auto refusal = [&](const auto& plan) {
    Transformer<X> model = tiny_model(ctx);
    return test::error_text([&] { attach(ctx, model, plan); });
  };
  CHECK_THAT(refusal(PrefixPlan::of_peft({.rows = 2}, 1)), Contains("num_layers") && Contains("expected at least 2"));
  CHECK_THAT(refusal(prefixes({.rows = 2}, false, false, false)), Contains("has a prefix neither in the encoder nor in the decoder"));
  PrefixPlan plan = prefixes({.rows = 2});
  plan.leave_out = {3};
  CHECK_THAT(refusal(plan), Contains("leave_out") && Contains("0 to 2"));
  plan = UnionPlan::adapterhub_prefix(2, 0);
  plan.leave_out = {2};  // of the decoder
  CHECK_THAT(refusal(UnionPlan::of(plan)), Contains("leave_out") && Contains("bias by distance"));
  plan.leave_out = {0};  // all of the encoder
  CHECK_NOTHROW([&] {
    Transformer<X> model = tiny_model(ctx);
    attach(ctx, model, UnionPlan::of(plan));
  }());
  plan.decoder_prefix = false;
  CHECK_THAT(refusal(UnionPlan::of(plan)), Contains("leaves out the decoder"));
  Transformer<X> model = tiny_model(ctx);
  attach(ctx, model, prefixes({.rows = 2}, false, false, true));
  PrefixPlan second = PrefixPlan::of_peft({.rows = 2});
  second.name = "second";
  CHECK_THAT(test::error_text([&] { attach_beside(ctx, model, second); }), Contains("SelfAttention") && Contains("different distances"));
  Bert<X> bert = test::tiny_bert(ctx);
  CHECK_THAT(test::error_text([&] { attach(ctx, bert, prompt(2)); }), Contains("num_transformer_submodules") && Contains("expected 1"));

  // PEFT's files.
  Transformer<X> with = tiny_model(ctx);
  const PrefixPlan narrow = PrefixPlan::of_peft({.rows = 2});
  Attachment<X> attachment = attach(ctx, with, narrow);
  const auto reading = [&](const char* key, const nlohmann::json& value) {
    const test::TemporaryFolder out;
    save_adapter(ctx, out.path(), with, narrow, attachment, "base");
    nlohmann::json config = JsonConfig::open(out.path() / "adapter_config.json").raw();
    config[key] = value;
    write_text_file(out.path() / "adapter_config.json", config.dump());
    Transformer<X> fresh = tiny_model(ctx);
    return test::error_text([&] { load_adapter(ctx, fresh, out.path()); });
  };
  CHECK_THAT(reading("num_transformer_submodules", 1), Contains("num_transformer_submodules") && Contains("expected 2"));
  CHECK_THAT(reading("num_transformer_submodules", 3), Contains("num_transformer_submodules") && Contains("1 or 2"));
  CHECK_THAT(reading("num_layers", 1), Contains("num_layers") && Contains("at least 2"));
}
