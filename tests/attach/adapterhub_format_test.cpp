// AdapterHub's folders, and OpenDelta's: there and back, names and meanings of older versions, presets, dropped layers, and what is wrong.
#include "deltatune/attach/adapterhub_format.hpp"

#include <catch2/catch.hpp>
#include <functional>
#include <map>

#include "deltatune/attach/adapter_folder.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_bert.hpp"
#include "support/tiny_gpt2.hpp"

namespace {

using namespace deltatune;
namespace fs = std::filesystem;
using X = test::DeviceTensor;
using Context = test::DeviceContext;

const fs::path kConformance = fs::path(DELTATUNE_TEST_DIR) / "conformance";
fs::path case_adapter(const std::string& name) { return kConformance / "cases" / name / "adapter"; }
Bert<X> base_model(Context& ctx, const char* name = "bert_gelu") { return Bert<X>::load(ctx, kConformance / "models" / name, Head::classifier(3)); }
Transformer<X> model_of_case(Context& ctx, const std::string& name) {
  const JsonConfig config = JsonConfig::open(kConformance / "cases" / name / "case.json");
  const Head head = config.get<std::string>("head") == "lm" ? Head::language_model() : Head::classifier(config.get<std::int64_t>("num_labels"));
  return Transformer<X>::load(ctx, kConformance / "models" / config.get<std::string>("model"), head);
}

std::map<std::string, std::vector<float>> values_of(Context& ctx, Attachment<X>& attachment) {
  std::map<std::string, std::vector<float>> values;
  attachment.visit([&](Parameter<X>& parameter) {
    if (!parameter.derived()) values[parameter.path()] = test::on_host<X>(ctx, parameter.value());
  });
  return values;
}
nlohmann::json config_in(const fs::path& folder) { return JsonConfig::open(folder / "adapter_config.json").raw().at("config"); }

// A folder with a changed configuration, and tensors under other names: `rename` gets each and says what it becomes ("": left out).
std::string loading_error(
    const std::string& name, const std::function<void(nlohmann::json&)>& change,
    const std::function<std::string(const std::string&)>& rename = [](const std::string& key) { return key; }) {
  const test::TemporaryFolder folder;
  nlohmann::json json = JsonConfig::open(case_adapter(name) / "adapter_config.json").raw();
  change(json);
  folder.file("adapter_config.json", json.dump());
  const SafeTensors file = SafeTensors::open(case_adapter(name) / "adapter.safetensors");
  SafeTensorsWriter writer;
  for (const auto& [key, tensor] : file.tensors()) {
    TensorInfo renamed = tensor;
    renamed.name = rename(key);
    if (!renamed.name.empty()) writer.add(renamed);
  }
  writer.write(folder.path() / "adapter.safetensors");
  Context ctx(1);
  Transformer<X> model = model_of_case(ctx, name);
  try {
    load_adapter(ctx, model, folder.path());
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}
std::string loading_error_with(const std::string& name, const char* key, const nlohmann::json& value) {
  return loading_error(name, [&](nlohmann::json& json) { json["config"][key] = value; });
}

template <class Model>
void comes_back(Context& ctx, Model&& model, Model&& again, const std::string& name) {
  auto first = load_adapter(ctx, model, case_adapter(name));
  const test::TemporaryFolder folder;
  save_adapter(ctx, folder.path(), model, first.plan, first.attachment, "base");
  CHECK(fs::exists(folder / "adapter.safetensors"));
  auto second = load_adapter(ctx, again, folder.path());
  CHECK(values_of(ctx, first.attachment) == values_of(ctx, second.attachment));
  CHECK(first.attachment.paths() == second.attachment.paths());
  CHECK(base_of(first.plan).modules_to_save == base_of(second.plan).modules_to_save);
  CHECK(method_of(first.plan) == method_of(second.plan));
  const nlohmann::json before = config_in(case_adapter(name)), after = config_in(folder.path());
  const auto all_equal = [](const nlohmann::json& a, const nlohmann::json& b) {
    for (const auto& [key, value] : a.items()) {
      INFO(key);
      CHECK(b.at(key) == value);
    }
  };
  if (name == "adapterhub_ln_neither" || name == "adapterhub_lora_old_version") return;  // other words for the same
  if (!before.contains("configs")) return all_equal(before, after);
  REQUIRE(before["configs"].size() == after["configs"].size());
  for (std::size_t i = 0; i < before["configs"].size(); ++i) all_equal(before["configs"][i], after["configs"][i]);
}

}  // namespace

TEST_CASE("AdapterHub's folders come back as they were", "[attach][adapterhub]") {
  Context ctx(1);
  for (const auto& entry : fs::directory_iterator(kConformance / "cases")) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("adapterhub")) continue;
    INFO(name);
    comes_back(ctx, model_of_case(ctx, name), model_of_case(ctx, name), name);
  }
}

TEST_CASE("AdapterHub: classes of the head beside an adapter", "[attach][adapterhub]") {
  const Architecture bert = architecture_of(JsonConfig::open(kConformance / "models/bert_gelu/config.json"));
  CHECK(adapter_classes(case_adapter("adapterhub_houlsby"), bert) == 3);
  CHECK(adapter_classes(case_adapter("adapterhub_houlsby_bin"), bert) == 3);
  CHECK(adapter_classes(case_adapter("adapterhub_pfeiffer_headless"), bert) == 0);
  CHECK(adapter_classes(case_adapter("opendelta_adapter"), bert) == 3);
}

TEST_CASE("AdapterHub: names with and without the model's prefix, and of old versions", "[attach][adapterhub]") {
  const auto unchanged = [](nlohmann::json&) {};
  CHECK(loading_error("adapterhub_houlsby", unchanged) == "");
  CHECK(loading_error("adapterhub_houlsby", unchanged, [](const std::string& key) { return key.substr(5); }) == "");
  CHECK(loading_error("adapterhub_houlsby", unchanged, [](std::string key) {
          const bool attention = key.find("attention.output") != std::string::npos;
          const std::size_t at = key.find("adapters");
          return key.replace(at, 8, attention ? "attention_text_task_adapters" : "layer_text_lang_adapters");
        }) == "");
}

TEST_CASE("AdapterHub: what older versions meant", "[attach][adapterhub]") {
  const auto read = [](nlohmann::json json) { return read_adapterhub_plan(JsonConfig::parse(json.dump(), "file")); };
  nlohmann::json json = JsonConfig::open(case_adapter("adapterhub_scaling") / "adapter_config.json").raw();
  const auto activation = [&] { return std::get<BottleneckPlan>(read(json).members.at(0)).adapter.activation; };
  CHECK(activation() == ops::Activation::gelu);
  json.erase("version");
  CHECK(activation() == ops::Activation::gelu_new);
  json["config"]["non_linearity"] = "gelu_orig";
  CHECK(activation() == ops::Activation::gelu);
  json["config"] = "houlsby";
  CHECK(activation() == ops::Activation::silu);

  nlohmann::json lora = JsonConfig::open(case_adapter("adapterhub_lora") / "adapter_config.json").raw();
  const auto alpha = [&](const char* version) {
    lora["version"] = version;
    return std::get<AdapterHubLoraPlan>(read(lora).members.at(0)).lora.alpha;
  };
  CHECK(alpha("adapters.1.0.1") == 3);
  CHECK(alpha("adapters.0.2.2") == 3);
  CHECK(alpha("adapters.1.1.0") == 7);
  CHECK(alpha("adapters.1.10.0") == 7);
  CHECK(alpha("3.2.1") == 7);
}

TEST_CASE("AdapterHub: heads that the library added, as the model's own", "[attach][adapterhub]") {
  Context ctx(1);
  const SafeTensors source = SafeTensors::open(case_adapter("adapterhub_houlsby") / "adapter.safetensors");
  const auto error_with = [&](const nlohmann::json& head, const std::map<std::string, Shape>& tensors) -> std::string {
    const test::TemporaryFolder folder;
    fs::copy_file(case_adapter("adapterhub_houlsby") / "adapter_config.json", folder / "adapter_config.json");
    fs::copy_file(case_adapter("adapterhub_houlsby") / "adapter.safetensors", folder / "adapter.safetensors");
    folder.file("head_config.json", nlohmann::json{{"config", head}, {"name", "mine"}}.dump());
    SafeTensorsWriter writer;
    for (const auto& [key, shape] : tensors) writer.add_copy(key, shape, std::vector<float>(static_cast<std::size_t>(element_count(shape)), 0.25F));
    writer.write(folder / "model_head.safetensors");
    Bert<X> model = base_model(ctx);
    try {
      const auto adapter = load_adapter(ctx, model, folder.path());
      CHECK(adapter.keys.at("classifier.weight").starts_with("heads.mine."));
      CHECK(adapter_classes(folder.path(), model.architecture()) == 3);
      model.visit([](Parameter<X>& p) {
        if (p.path() == "classifier.bias") CHECK(p.trains());
      });
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const Shape matrix{32, 32}, row{32}, out{3, 32}, bias{3};
  CHECK(error_with({{"head_type", "classification"}, {"layers", 2}, {"activation_function", "tanh"}, {"use_pooler", false}},
                   {{"heads.mine.1.weight", matrix}, {"heads.mine.1.bias", row}, {"heads.mine.4.weight", out}, {"heads.mine.4.bias", bias}}) == "");
  CHECK(error_with({{"head_type", "classification"}, {"layers", 1}, {"use_pooler", true}}, {{"heads.mine.1.weight", out}, {"heads.mine.1.bias", bias}}) == "");
  CHECK_THAT(error_with({{"head_type", "tagging"}, {"layers", 1}}, {{"heads.mine.1.weight", out}}), Catch::Contains("tagging"));
}

TEST_CASE("AdapterHub: wrong folders", "[attach][adapterhub]") {
  const auto with = [](const char* key, const nlohmann::json& value) { return loading_error_with("adapterhub_houlsby", key, value); };
  CHECK_THAT(with("architecture", "reft"), Catch::Contains("architecture") && Catch::Contains("\"reft\""));
  CHECK_THAT(with("inv_adapter", "nice"), Catch::Contains("inv_adapter"));
  CHECK_THAT(with("non_linearity", "mish"), Catch::Contains("non_linearity") && Catch::Contains("\"mish\""));
  CHECK_THAT(with("reduction_factor", 0), Catch::Contains("reduction_factor"));
  CHECK_THAT(with("reduction_factor", nlohmann::json{{"first", 2}}), Catch::Contains("\"first\""));
  CHECK_THAT(with("reduction_factor", nlohmann::json{{"1", 2}}), Catch::Contains("reduction_factor"));
  CHECK_THAT(with("reduction_factor", 8), Catch::Contains("does not fit") && Catch::Contains("adapter_down"));
  CHECK_THAT(with("scaling", "none"), Catch::Contains("scaling") && Catch::Contains("learned"));
  CHECK_THAT(with("residual_before_ln", "post_add"), Catch::Contains("original_ln_before"));
  CHECK_THAT(with("leave_out", {7}), Catch::Contains("leave_out") && Catch::Contains("0 to 2"));
  CHECK_THAT(with("leave_out", {0, 1, 2}), Catch::Contains("matches no layer"));
  CHECK_THAT(with("leave_out", {0}), Catch::Contains("belongs neither to this adapter"));
  CHECK_THAT(with("ln_after", true), Catch::Contains("has no tensor for") && Catch::Contains("adapter_norm_after.weight"));
  CHECK_THAT(loading_error("adapterhub_houlsby", [](nlohmann::json& json) { json["name"] = "other"; }), Catch::Contains("has no tensor"));
  CHECK_THAT(loading_error_with("adapterhub_lora", "r", 4), Catch::Contains("does not fit"));
  CHECK_THAT(loading_error_with("adapterhub_lora", "vera_d", 0.1), Catch::Contains("VeRA"));
  CHECK_THAT(loading_error_with("adapterhub_lora", "composition_mode", "scale"), Catch::Contains(": r"));
  CHECK_THAT(loading_error_with("adapterhub_lora", "attn_matrices", {"q", "o"}), Catch::Contains("\"o\""));
  CHECK_THAT(loading_error_with("adapterhub_compacter", "phm_dim", 3), Catch::Contains("phm_dim") && Catch::Contains("divisor"));
  CHECK_THAT(loading_error(
                 "adapterhub_compacter", [](nlohmann::json&) {},
                 [](const std::string& key) { return key.find("shared_parameters") == std::string::npos ? key : std::string(); }),
             Catch::Contains("phm_rule") && Catch::Contains("without a head"));
  CHECK_THAT(loading_error(
                 "adapterhub_t5_compacter", [](nlohmann::json&) {},
                 [](const std::string& key) { return key.find("shared_parameters") == std::string::npos ? key : std::string(); }),
             Catch::Contains("shared_parameters.tweets.phm_rule") && Catch::Contains("state_dict()"));
  const auto on_t5 = [](const char* key, const nlohmann::json& value) { return loading_error_with("adapterhub_t5_houlsby_cross", key, value); };
  CHECK_THAT(on_t5("leave_out", {5}), Catch::Contains("leave_out") && Catch::Contains("0 to 4, the encoder's 2 first, then the decoder's 3"));
  CHECK_THAT(on_t5("leave_out", {4}), Catch::Contains("decoder.block.2.") && Catch::Contains("belongs neither to this adapter"));
  CHECK_THAT(on_t5("cross_adapter", false), Catch::Contains("layer.1.adapters.tweets") && Catch::Contains("belongs neither to this adapter"));
  const test::TemporaryFolder folder;
  fs::copy_file(case_adapter("adapterhub_houlsby") / "adapter_config.json", folder / "adapter_config.json");
  Context ctx(1);
  Bert<X> model = base_model(ctx);
  CHECK_THAT(test::error_text([&] { load_adapter(ctx, model, folder.path()); }), Catch::Contains("pytorch_adapter.bin"));
}

TEST_CASE("AdapterHub: final_logits_bias of a head is the model's", "[attach][adapterhub]") {
  const test::TemporaryFolder folder;
  const fs::path source = case_adapter("adapterhub_bart_houlsby");
  for (const char* const file : {"adapter_config.json", "adapter.safetensors", "head_config.json"}) fs::copy_file(source / file, folder / file);
  Context ctx(1);
  const auto loaded = [&](const fs::path& from) {
    Transformer<X> model = model_of_case(ctx, "adapterhub_bart_houlsby");
    const auto adapter = load_adapter(ctx, model, from);
    std::vector<float> bias;
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.path() == "final_logits_bias") bias = test::on_host<X>(ctx, parameter.value());
    });
    return std::pair(adapter.notes, bias);
  };
  std::vector<float> bias = loaded(source).second;
  CHECK(loaded(source).first.empty());
  REQUIRE(bias.size() == 48);
  bias[7] += 1;
  SafeTensorsWriter writer;
  writer.add_copy("final_logits_bias", {1, 48}, bias);
  writer.write(folder.path() / "model_head.safetensors");
  const auto [notes, other] = loaded(folder.path());
  CHECK(other == bias);
  REQUIRE(notes.size() == 1);
  CHECK_THAT(notes[0], Catch::Contains("replaces weights of the model: final_logits_bias"));
}

TEST_CASE("AdapterHub: adapters after cross-attention, where there is none", "[attach][adapterhub]") {
  const test::TemporaryFolder folder;
  nlohmann::json json = JsonConfig::open(case_adapter("adapterhub_houlsby") / "adapter_config.json").raw();
  json["config"]["cross_adapter"] = true;
  folder.file("adapter_config.json", json.dump());
  fs::copy_file(case_adapter("adapterhub_houlsby") / "adapter.safetensors", folder / "adapter.safetensors");
  Context ctx(1);
  Bert<X> model = base_model(ctx);
  const auto adapter = load_adapter(ctx, model, folder.path());
  REQUIRE(adapter.notes.size() == 1);
  CHECK_THAT(adapter.notes[0], Catch::Contains("without effect: cross_adapter"));
  BottleneckPlan plan;
  plan.name = "another";
  plan.after_cross_attention = true;
  CHECK_THAT(test::error_text([&] { attach(ctx, model, plan); }), Catch::Contains("cross_adapter") && Catch::Contains("BERT has no cross-attention"));
}

TEST_CASE("AdapterHub's presets: parameters by their formulas", "[attach][adapterhub]") {
  Context ctx(1);
  const Index c = 12, layers = 2, inner = 20;
  const auto count = [&](const std::string& name, std::function<void(UnionPlan&)> change) {
    Bert<X> model = test::tiny_bert(ctx);
    UnionPlan plan = adapterhub_preset(name);
    change(plan);
    Attachment<X> attachment = attach(ctx, model, plan);
    Index parameters = 0;
    attachment.visit([&](Parameter<X>& parameter) { parameters += parameter.trainable_count(); });
    return parameters;
  };
  const auto bottleneck = [](UnionPlan& plan, double factor) {
    for (UnionMember& member : plan.members)
      if (auto* method = std::get_if<BottleneckPlan>(&member)) method->reduction.factor = factor;
  };
  const auto reduced = [&](double factor) { return [=](UnionPlan& plan) { bottleneck(plan, factor); }; };
  const Index d = 4, one = d * (2 * c + 1) + c;
  CHECK(count("houlsby", reduced(3)) == 2 * layers * one);
  CHECK(count("pfeiffer", reduced(3)) == layers * one);
  CHECK(count("parallel", reduced(3)) == layers * one);
  CHECK(count("scaled_parallel", reduced(3)) == layers * (one + 1));
  CHECK(count("adapter_plus", reduced(3)) == layers * (one + c));
  CHECK(count("pfeiffer", reduced(1000)) == layers * (2 * c + 1 + c));  // at least one column
  const Index n = 4, phm = n * (c / n + d / n) * 2 + d + c;
  CHECK(count("compacter", reduced(3)) == 2 * layers * phm + n * n * n);
  CHECK(count("compacter++", reduced(3)) == layers * phm + n * n * n);
  CHECK(count("lora", [](UnionPlan&) {}) == layers * 2 * 8 * 2 * c);
  CHECK(count("dora", [](UnionPlan&) {}) == layers * 2 * (8 * 2 * c + c));
  CHECK(count("ia3", [](UnionPlan&) {}) == layers * (2 * c + inner));
  const Index flat = 30 * layers * 2 * c, encoded = 30 * c + 512 * (c + 1) + layers * 2 * c * (512 + 1);
  CHECK(count("prefix_tuning_flat", [](UnionPlan&) {}) == flat);
  CHECK(count("prefix_tuning", [](UnionPlan&) {}) == encoded);
  CHECK(count("prompt_tuning", [](UnionPlan&) {}) == 10 * c);
  const Index mam = 30 * c + 800 * (c + 1) + layers * 2 * c * (800 + 1);
  CHECK(count("mam", reduced(3)) == mam + layers * one);
  const Index gates = layers * (c + 1);
  CHECK(count("unipelt", reduced(3)) == 10 * c + 512 * (c + 1) + layers * 2 * c * 513 + gates + layers * one + gates + 2 * gates + layers * 2 * 8 * 2 * c);
  CHECK_THAT(test::error_text([] { adapterhub_preset("nice"); }), Catch::Contains("nice") && Catch::Contains("pfeiffer"));
  for (const char* const name : {"houlsby", "pfeiffer", "parallel", "compacter", "lora", "dora", "ia3", "mam", "unipelt"})
    CHECK(adapterhub_preset(name).method() == name);
}

TEST_CASE("AdapterHub: a rule that isn't learnt stays, and is saved", "[attach][adapterhub]") {
  Context ctx(1);
  UnionPlan plan = adapterhub_preset("compacter");
  auto& method = std::get<BottleneckPlan>(plan.members[0]);
  method.reduction.factor = 3;
  method.adapter.phm->learn_rule = false;
  Bert<X> model = test::tiny_bert(ctx);
  Attachment<X> attachment = attach(ctx, model, plan);
  attachment.set_trainable(false);
  attachment.set_trainable(true);
  attachment.visit([](Parameter<X>& parameter) { CHECK(parameter.trains() == (parameter.path() != "shared_parameters.phm_rule")); });
  const test::TemporaryFolder folder;
  save_adapter(ctx, folder.path(), model, plan, attachment, "base");
  CHECK(SafeTensors::open(folder / "adapter.safetensors").find("bert.shared_parameters.adapter.phm_rule") != nullptr);
}

TEST_CASE("adapters of the first layers are dropped, and the file says so", "[attach][adapterhub]") {
  Context ctx(1);
  UnionPlan plan = adapterhub_preset("houlsby");
  Bert<X> model = test::tiny_bert(ctx), again = test::tiny_bert(ctx);
  Attachment<X> attachment = attach(ctx, model, plan, 3);
  attachment.drop_first_layers(1);
  CHECK(attachment.paths() == std::vector<std::string>{"bert.encoder.layer.1.attention.output", "bert.encoder.layer.1.output"});
  model.visit([](Parameter<X>& parameter) {
    if (parameter.role() == Role::delta) CHECK(parameter.path().starts_with("bert.encoder.layer.1."));
  });
  const test::TemporaryFolder folder;
  save_adapter(ctx, folder.path(), model, plan, attachment, "base");
  CHECK(config_in(folder.path()).at("leave_out") == nlohmann::json{0});
  auto loaded = load_adapter(ctx, again, folder.path());
  CHECK(values_of(ctx, attachment) == values_of(ctx, loaded.attachment));
  attachment.detach();
  model.visit([](Parameter<X>& parameter) { CHECK(parameter.role() != Role::delta); });
}

TEST_CASE("AdapterHub: plans that make no sense", "[attach][adapterhub]") {
  Context ctx(1);
  Bert<X> bert = test::tiny_bert(ctx);
  Gpt2<X> gpt2 = test::tiny_gpt2(ctx);
  const auto error = [&](auto& model, const auto& plan) { return test::error_text([&] { attach(ctx, model, plan); }); };
  const auto lora = [](auto member, const auto& value, bool gated) {
    AdapterHubLoraPlan plan;
    plan.*member = value;
    plan.gated = gated;
    return plan;
  };
  CHECK_THAT(error(bert, UnionPlan{}), Catch::Contains("no method"));
  CHECK_THAT(error(bert, UnionPlan({PrefixPlan{}, PrefixPlan{}})), Catch::Contains("several prefixes"));
  CHECK_THAT(error(bert, UnionPlan::of(PrefixPlan{})), Catch::Contains("a prefix of PEFT") && Catch::Contains("adapterhub_prefix()"));
  CHECK_THAT(error(bert, UnionPlan::of(PromptPlan{})), Catch::Contains("a prompt of PEFT") && Catch::Contains("adapterhub_prompt()"));
  CHECK_THAT(error(gpt2, adapterhub_preset("prompt_tuning")), Catch::Contains("GPT-2"));
  CHECK_THAT(error(gpt2, adapterhub_preset("dora")), Catch::Contains("GPT-2"));
  CHECK_THAT(error(bert, lora(&AdapterHubLoraPlan::kind, AdapterHubLoraPlan::Kind::dora, true)), Catch::Contains("use_gating"));
  CHECK_THAT(error(bert, lora(&AdapterHubLoraPlan::attention, "", false)), Catch::Contains("matches no layer"));
}

TEST_CASE("AdapterHub: gated LoRA refuses to merge, LoRA merges", "[attach][adapterhub]") {
  Context ctx(1);
  Bert<X> model = test::tiny_bert(ctx);
  AdapterHubLoraPlan gated_plan;
  gated_plan.gated = true;
  Attachment<X> gated = attach(ctx, model, gated_plan);
  CHECK_THAT(test::error_text([&] { gated.merge(ctx); }), Catch::Contains("gates"));
  gated.detach();
  Attachment<X> plain = attach(ctx, model, adapterhub_preset("lora"));
  plain.merge(ctx);
  CHECK(plain.merged());
}

TEST_CASE("OpenDelta: what is read can be saved, and wrong folders", "[attach][opendelta]") {
  Context ctx(1);
  for (const char* const name : {"opendelta_adapter", "opendelta_bitfit", "opendelta_prefix", "opendelta_t5_adapter", "opendelta_t5_adapter_sums",
                                 "opendelta_t5_compacter", "opendelta_t5_lora"}) {
    INFO(name);
    Transformer<X> model = model_of_case(ctx, name), again = model_of_case(ctx, name);
    auto first = load_adapter(ctx, model, case_adapter(name));
    const test::TemporaryFolder folder;
    save_adapter(ctx, folder.path(), model, first.plan, first.attachment, "base");
    auto second = load_adapter(ctx, again, folder.path());
    CHECK(values_of(ctx, first.attachment) == values_of(ctx, second.attachment));
    CHECK(method_of(first.plan) == method_of(second.plan));
  }
  // One member for what stands in the same layers, two for other ones.
  const auto members = [&](const char* name) {
    Transformer<X> model = model_of_case(ctx, name);
    return std::get<UnionPlan>(load_adapter(ctx, model, case_adapter(name)).plan).members;
  };
  CHECK(members("opendelta_t5_adapter").size() == 1);
  const std::vector<UnionMember> sums = members("opendelta_t5_adapter_sums");
  REQUIRE(sums.size() == 2);
  CHECK(std::get<BottleneckPlan>(sums[0]).after_cross_attention);
  CHECK(std::get<BottleneckPlan>(sums[0]).leave_out == std::vector<Index>{0, 1});
  CHECK(std::get<BottleneckPlan>(sums[1]).after_feed_forward);
  CHECK(std::get<BottleneckPlan>(sums[1]).leave_out == std::vector<Index>{2, 3, 4});
  const auto error_with = [&](const char* name, const char* key, const nlohmann::json& value, const char* tensors_of) {
    const test::TemporaryFolder folder;
    nlohmann::json json = JsonConfig::open(case_adapter(name) / "config.json").raw();
    json[key] = value;
    folder.file("config.json", json.dump());
    fs::copy_file(case_adapter(tensors_of) / "pytorch_model.bin", folder / "pytorch_model.bin");
    Bert<X> model = base_model(ctx);
    return test::error_text([&] { load_adapter(ctx, model, folder.path()); });
  };
  CHECK_THAT(error_with("opendelta_adapter", "delta_type", "low_rank_adapter", "opendelta_adapter"),
             Catch::Contains("delta_type") && Catch::Contains("low_rank_adapter"));
  CHECK_THAT(error_with("opendelta_adapter", "bottleneck_dim", 6, "opendelta_prefix"), Catch::Contains("holds no tensors"));
  CHECK_THAT(error_with("opendelta_adapter", "delta_type", "bitfit", "opendelta_adapter"), Catch::Contains("modulelist"));
  CHECK_THAT(error_with("opendelta_adapter", "non_linearity", "mish", "opendelta_adapter"), Catch::Contains("non_linearity"));
  CHECK_THAT(error_with("opendelta_adapter", "delta_type", "adapter", "opendelta_gpt2_adapter"), Catch::Contains("h.0.attn.c_proj"));
}
