// Every family that is described: gradients through all of it, what methods promise on it, its configurations, and one of a user's own.
#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <vector>

#include "contract/methods.hpp"
#include "deltatune/attach/any_plan.hpp"
#include "deltatune/io/hf_export.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"
#include "support/instances.hpp"
#include "support/shapes.hpp"
#include "support/temporary_folder.hpp"

using namespace deltatune;
using Catch::Contains;

namespace {

const std::vector<std::string> kEncoders{"roberta", "xlm-roberta", "camembert", "distilbert", "mpnet", "electra", "modernbert"};

std::vector<std::string> described_families() {
  std::vector<std::string> families = kEncoders;
  for (const auto& [family, features] : test::decoder_features()) families.push_back(family);
  return families;
}

PackedBatch sentences() {
  PackedBatch batch;
  for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{4, 8, 15, 16, 23, 9, 2}, {3}, {7, 12, 11, 5}}) batch.add(tokens);
  batch.labels = {0, 2, 1};
  return batch;
}

auto classifier_body(const std::string& family, const std::vector<std::string>& trainable, Mode mode, Index prefix_rows = 0) {
  return [=]<class X>(check::Trial<X>& trial) {
    trial.pass().mode = mode;
    Transformer<X> fresh(trial.ctx(), test::small_architecture(family), Head::classifier(3));
    if (prefix_rows > 0) {
      PrefixPlan prefix;
      prefix.prefix.rows = prefix_rows;
      attach_beside(trial.ctx(), fresh, prefix);
    }
    unfreeze(fresh, trainable);
    Transformer<X>& model = trial.own(std::move(fresh));
    DeviceBatch<X> batch(trial.ctx());
    batch.upload(sentences(), model.embeddings_train(), model.layout());
    typename Transformer<X>::Activations kept;
    const auto logits = trial.output("logits", 3, 3);
    model.forward(trial.pass(), batch, logits.value, kept);
    if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept, logits.gradient);
  };
}

// All of it, what has no weights, a layer in the middle, and what lies below and above the layers.
std::vector<std::vector<std::string>> patterns(const Architecture& a) {
  std::vector<std::vector<std::string>> all{{"**"}, {"**." + a.layer_path(1) + "**"}, {"**." + a.input.words + ".weight"}, {a.head.output_module() + ".**"}};
  if (a.stack.norm.bias || a.stack.layers[0].attention.bias) all.push_back({"**.bias"});
  if (!a.input.projection.empty()) all.push_back({"**." + a.input.projection + ".**"});
  if (a.stack.relative_bias) all.push_back({"**." + a.stack.relative_bias->table + ".weight"});
  if (!a.stack.final_norm.empty()) all.push_back({"**." + a.stack.final_norm + ".*"});
  if (!a.head.norm.empty()) all.push_back({a.head.norm + ".*"});
  return all;
}

std::vector<std::int32_t> positions_of(const std::string& family, const PackedBatch& batch, InputLayout layout) {
  const Architecture a = test::small_architecture(family);
  layout.first_position = a.input.first_position;
  if (a.input.skips_padding_id) layout.skipped_id = static_cast<std::int32_t>(a.pad_id);
  return detail::arranged(batch, layout).positions;
}

}  // namespace

TEST_CASE("families: gradients through every part", "[model][families]") {
  for (const std::string& family : described_families()) {
    if (family == "xlm-roberta" || family == "camembert") continue;  // RoBERTa under other names
    for (const auto& pattern : patterns(test::small_architecture(family))) {
      INFO(family << ", " << pattern.front());
      test::check_adjoint(classifier_body(family, pattern, Mode::train));
    }
    test::check_device(classifier_body(family, {"**"}, Mode::differentiate), 1e-3);
  }
}

TEST_CASE("families: norms in every place, and what else no family has yet", "[model][families]") {
  const auto body = [](NormPlace place) {
    return [=]<class X>(check::Trial<X>& trial) {
      trial.pass().mode = Mode::train;
      Architecture a = test::small_architecture("gpt2");
      a.stack.place = place;
      a.stack.names.attention.branch_norm = "ln_1_after";
      a.stack.names.feed_forward.branch_norm = "ln_2_after";
      for (LayerSpec& layer : a.stack.layers) layer.attention.soft_cap = 2;
      Transformer<X> fresh(trial.ctx(), a, Head::classifier(3));
      unfreeze(fresh, {"**.h.1.**"});
      Transformer<X>& model = trial.own(std::move(fresh));
      DeviceBatch<X> batch(trial.ctx());
      batch.upload(sentences(), model.embeddings_train(), model.layout());
      typename Transformer<X>::Activations kept;
      const auto logits = trial.output("logits", 3, 3);
      model.forward(trial.pass(), batch, logits.value, kept);
      if (trial.backward_wanted()) model.backward(trial.pass(), batch, kept, logits.gradient);
    };
  };
  for (const NormPlace place : {NormPlace::after_sum, NormPlace::before, NormPlace::around, NormPlace::after_branch}) test::check_adjoint(body(place));
  Reference::Context ctx;
  Architecture a = test::small_architecture("gpt2");
  a.stack.norm.kind = NormSpec::Kind::rms_norm;
  a.stack.place = NormPlace::after_sum;
  CHECK_THROWS_WITH((Transformer<Tensor<double, Reference>>(ctx, a, Head::none())), Contains("GPT-2") && Contains("RMSNorm"));
}

TEST_CASE("families: methods keep their promises", "[model][families][contract]") {
  for (const std::string& family : described_families()) {
    const test::Contracts<test::DeviceTensor> check_contract(family);
    LoraPlan lora;
    lora.lora.rank = 3;
    check_contract("LoRA", lora, {.merges = true});
    lora.dora = true;
    lora.targets.all_linear = true;
    check_contract("DoRA everywhere", lora, {.merges = true});
    check_contract("(IA)3", Ia3Plan{}, {.merges = true});
    check_contract("LayerNorm tuning", NormTuningPlan{}, {.merges = true});
    PromptPlan prompt;
    prompt.prompt.rows = 2;
    check_contract("prompt tuning", prompt, {.starts_as_identity = false});
  }
}

TEST_CASE("families: RoBERTa's positions count from behind the padding id and leave it out", "[model][families]") {
  PackedBatch batch;
  batch.add(std::vector<std::int32_t>{0, 9, 1, 8, 2});
  batch.add(std::vector<std::int32_t>{1, 7});
  using Positions = std::vector<std::int32_t>;
  CHECK(positions_of("roberta", batch, {}) == Positions{2, 3, 1, 4, 5, 1, 2});
  CHECK(positions_of("mpnet", batch, {}) == Positions{2, 3, 1, 4, 5, 1, 2});
  CHECK(positions_of("roberta", batch, {.shift = 3}) == Positions{5, 6, 1, 7, 8, 1, 5});                            // behind a prefix
  CHECK(positions_of("roberta", batch, {.front = 2, .counted = 2}) == Positions{2, 3, 4, 5, 6, 7, 8, 2, 3, 4, 5});  // a prompt: ids are not seen
  CHECK(positions_of("distilbert", batch, {}) == Positions{0, 1, 2, 3, 4, 0, 1});
}

TEST_CASE("families: a sequence may be as long as the positions behind the first", "[model][families]") {
  test::DeviceContext ctx(1);
  using X = test::DeviceTensor;
  Transformer<X> model = test::small_model<X>(ctx, "roberta");
  CHECK(model.architecture().longest() == 22);
  PackedBatch batch;
  batch.add(std::vector<std::int32_t>(23, 5));
  batch.labels = {0};
  CHECK_THAT(test::error_text([&] { check::detail::outputs(ctx, model, batch); }), Contains("at most 22 tokens") && Contains("got 23"));
}

TEST_CASE("families: what prefixes cannot be in front of", "[model][families]") {
  test::DeviceContext ctx(1);
  using X = test::DeviceTensor;
  PrefixPlan prefix;
  prefix.prefix.rows = 2;
  Transformer<X> model = test::small_model<X>(ctx, "modernbert");
  CHECK_THAT(test::error_text([&] { attach(ctx, model, prefix); }), Contains("in front of the tokens"));
  Transformer<X> plain = test::small_model<X>(ctx, "modernbert");
  CHECK(check::detail::outputs(ctx, model, sentences()) == check::detail::outputs(ctx, plain, sentences()));
}

TEST_CASE("families: prefixes in front of a bias by distance, which nobody else has", "[model][families]") {
  for (const std::string trained : {"classifier.**", "**.relative_attention_bias.weight"}) {
    test::check_adjoint(classifier_body("mpnet", {trained}, Mode::train, 2));
    test::check_device(classifier_body("mpnet", {trained}, Mode::differentiate, 2), 1e-3);
  }
  PrefixPlan prefix;
  prefix.prefix.rows = 2;
  test::Contracts<test::DeviceTensor>("mpnet")("prefix", prefix, {.starts_as_identity = false});
  test::DeviceContext ctx(1);
  Transformer<test::DeviceTensor> model = test::small_model<test::DeviceTensor>(ctx, "mpnet");
  Attachment<test::DeviceTensor> attachment = attach(ctx, model, prefix);
  const test::TemporaryFolder out;
  save_adapter(ctx, out.path(), model, prefix, attachment, "base");
  CHECK(JsonConfig::open(out.path() / "adapter_config.json").get<std::string>("peft_type") == "DELTATUNE_PREFIX");
}

TEST_CASE("families: configurations of both versions of transformers, and those that are refused", "[model][families]") {
  const auto with = [](const std::string& family, const nlohmann::json& changes) {
    nlohmann::json config = JsonConfig::open(std::filesystem::path(DELTATUNE_TEST_DIR) / "conformance/models" / family / "config.json").raw();
    if (changes.is_object()) config.update(changes);
    return architecture_of(JsonConfig::parse(config.dump(), "config.json"));
  };
  const auto message = [&](const std::string& family, const nlohmann::json& changes) { return test::error_text([&] { with(family, changes); }); };
  const Architecture old = with("modernbert_mean", {}), now = with("modernbert_v5", {});
  REQUIRE(old.layers() == now.layers());
  for (std::size_t l = 0; l < old.stack.layers.size(); ++l) {
    CHECK(old.stack.layers[l].attention.window == now.stack.layers[l].attention.window);
    CHECK(old.stack.layers[l].attention.rotary == now.stack.layers[l].attention.rotary);
  }
  CHECK(with("modernbert", {{"rope_theta", 5.0}}).stack.layers[0].attention.rotary == with("modernbert", {}).stack.layers[0].attention.rotary);
  CHECK_THAT(message("modernbert", {{"rope_scaling", {{"rope_type", "linear"}}}}), Contains("rope_type") && Contains("linear"));
  CHECK_THAT(message("modernbert", {{"layer_types", {"full_attention"}}}), Contains("one kind per layer"));
  CHECK_THAT(message("modernbert", {{"classifier_pooling", "max"}}), Contains("cls or mean"));
  CHECK_THAT(message("mpnet", {{"relative_attention_num_buckets", 16}}), Contains("relative_attention_num_buckets"));
  CHECK_THAT(message("roberta", {{"position_embedding_type", "relative_key"}}), Contains("absolute"));
  CHECK_THAT(message("electra", {{"is_decoder", true}}), Contains("is_decoder"));
  CHECK_THAT(message("roberta", {{"model_type", "deberta-v2"}}), Contains("unknown architecture") && Contains("roberta") && Contains("deberta-v2"));
}

TEST_CASE("families: one of a user's own is loaded, trained and written like the others", "[model][families]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  // Rotary positions and gated layers under names of its own.
  const ArchitectureOf own = [](const JsonConfig& json) {
    Architecture a = family::described(json, "Own", "Own", "own.");
    a.hidden_size = 12;
    a.max_position_embeddings = 16;
    a.input = {.module = "tokens", .words = "tokens"};
    a.stack = {.layers = family::repeated({.attention = {.heads = 4, .kv_heads = 2, .head_width = 4, .rotary = RotarySpec{.theta = 100}},
                                           .feed_forward = {.intermediate_size = 8, .gated = true}},
                                          2),
               .final_norm = "norm",
               .names = {"block.{}.",
                         {{"mix", "mix.adapters", "norm_1"}, "mix", {"mix.q", "mix.k", "mix.v"}, "mix.out"},
                         {{"ffn", "ffn.adapters", "norm_2"}, {"ffn.gate", "ffn.up"}, "ffn.down"}}};
    a.head = {.classifier = "decide"};
    return a;
  };
  const test::TemporaryFolder folder;
  write_text_file(folder.path() / "config.json", R"({"model_type": "own", "vocab_size": 30})");
  Transformer<X> model(ctx, own(JsonConfig::open(folder.path() / "config.json")), Head::classifier(3));
  model.initialise(ctx, 1);
  save_hf_checkpoint(ctx, folder.path() / "saved", model, folder.path(), {});
  Transformer<X> loaded = Transformer<X>::load(ctx, folder.path() / "saved", own, Head::classifier(3));
  CHECK(loaded.load_report().initialised.empty());
  CHECK(check::detail::outputs(ctx, loaded, sentences()) == check::detail::outputs(ctx, model, sentences()));
  LoraPlan plan;
  plan.targets = Targets::named({"q", "gate"});
  plan.modules_to_save = {"decide"};
  attach(ctx, loaded, plan);
  Trainer<Transformer<X>> trainer(ctx, loaded, {.optimizer = {.learning_rate = 1e-2}});
  const double first = trainer.step(sentences()).loss;
  for (int i = 0; i < 30; ++i) trainer.step(sentences());
  CHECK(trainer.step(sentences()).loss < 0.5 * first);
  CHECK_THAT(test::error_text([&] { attach(ctx, loaded, LoraPlan{}); }), Contains("no default") && Contains("Own"));
}

static_assert(TrainableModel<Transformer<test::DeviceTensor>>);
static_assert(!TrainableModel<Linear<test::DeviceTensor>>);
