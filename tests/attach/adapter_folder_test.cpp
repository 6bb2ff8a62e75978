// Adapter folders that are wrong: a clear Error each.
#include "deltatune/attach/adapter_folder.hpp"

#include <catch2/catch.hpp>
#include <functional>

#include "deltatune/delta/selections.hpp"
#include "support/instances.hpp"
#include "support/temporary_folder.hpp"

namespace {

using namespace deltatune;
namespace fs = std::filesystem;
using X = test::DeviceTensor;
using Context = test::DeviceContext;

const fs::path kCaseFolder = fs::path(DELTATUNE_TEST_DIR) / "conformance";
const fs::path kAdapter = kCaseFolder / "cases" / "lora_query_value" / "adapter";

Bert<X> plain_model(Context& ctx, const char* name = "bert_gelu") { return Bert<X>::load(ctx, kCaseFolder / "models" / name, Head::classifier(3)); }

// Loads the adapter of a case after a change to its configuration, or to its tensors: `change` gets each name and says what it becomes
// ("": left out).
std::string loading_error(
    const std::function<void(nlohmann::json&)>& change_config,
    const std::function<std::string(const std::string&)>& rename = [](const std::string& name) { return name; }, const char* model_name = "bert_gelu") {
  const test::TemporaryFolder folder;
  nlohmann::json config = JsonConfig::open(kAdapter / "adapter_config.json").raw();
  change_config(config);
  write_text_file(folder.path() / "adapter_config.json", config.dump());
  const SafeTensors file = SafeTensors::open(kAdapter / "adapter_model.safetensors");
  SafeTensorsWriter writer;
  for (const auto& [name, tensor] : file.tensors()) {
    TensorInfo renamed = tensor;
    renamed.name = rename(name);
    if (!renamed.name.empty()) writer.add(renamed);
  }
  writer.write(folder.path() / "adapter_model.safetensors");
  Context ctx(1);
  Bert<X> model = plain_model(ctx, model_name);
  try {
    load_adapter(ctx, model, folder.path());
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void unchanged(nlohmann::json&) {}

const std::string kQuery = "base_model.model.bert.encoder.layer.0.attention.self.query.";

}  // namespace

TEST_CASE("the adapter of the other tests loads", "[attach]") { CHECK(loading_error(unchanged) == ""); }

TEST_CASE("wrong adapter configurations", "[attach]") {
  const auto with = [](const char* key, const nlohmann::json& value) { return loading_error([&](nlohmann::json& config) { config[key] = value; }); };
  CHECK_THAT(with("peft_type", "LOHA"), Catch::Contains("adapter_config.json: peft_type") && Catch::Contains("\"LOHA\""));
  CHECK_THAT(loading_error([](nlohmann::json& config) { config.erase("peft_type"); }), Catch::Contains("peft_type") && Catch::Contains("missing"));
  CHECK_THAT(with("r", 0), Catch::Contains("adapter_config.json: rank") && Catch::Contains("at least 1"));
  CHECK_THAT(with("r", "four"), Catch::Contains("adapter_config.json: r:") && Catch::Contains("an integer"));
  CHECK_THAT(with("r", 5), Catch::Contains("lora_A.weight") && Catch::Contains("[5, 32]") && Catch::Contains("[4, 32]"));
  CHECK_THAT(with("use_dora", true), Catch::Contains("has no tensor for") && Catch::Contains("lora_magnitude_vector"));
  CHECK_THAT(with("bias", "some"), Catch::Contains("bias") && Catch::Contains("lora_only"));
  CHECK_THAT(with("lora_dropout", 1.5), Catch::Contains("dropout"));
  CHECK_THAT(with("target_parameters", {"x"}), Catch::Contains("target_parameters"));
  CHECK_THAT(with("rank_pattern", {{"(", 4}}), Catch::Contains("regular expression"));
  CHECK_THAT(with("modules_to_save", {"classifier", "pooler"}), Catch::Contains("has no tensor for bert.pooler.dense.weight"));
  CHECK_THAT(with("init_lora_weights", "corda"), Catch::Contains("init_lora_weights") && Catch::Contains("changes the base weights"));
  CHECK(with("init_lora_weights", "gaussian").empty());
  CHECK(with("init_lora_weights", false).empty());
  CHECK(with("some_future_key", 1).empty());
  CHECK(loading_error([](nlohmann::json& config) {
          config = {{"peft_type", "LORA"}, {"r", 4}, {"target_modules", {"query", "value"}}, {"modules_to_save", {"classifier"}}};
        }).empty());
}

TEST_CASE("wrong adapter tensors", "[attach]") {
  const auto renaming = [](const std::string& from, const std::string& to) {
    return loading_error(unchanged, [&](const std::string& name) { return name == from ? to : name; });
  };
  CHECK_THAT(renaming(kQuery + "lora_A.weight", ""), Catch::Contains("has no tensor for") && Catch::Contains("lora_A.weight"));
  CHECK_THAT(renaming("base_model.model.classifier.weight", ""), Catch::Contains("has no tensor for classifier.weight"));
  const auto without_saved_modules = [](nlohmann::json& config) { config["modules_to_save"] = config["task_type"] = nullptr; };
  const auto to_score = [](const std::string& name) { return name == "base_model.model.classifier.weight" ? "base_model.model.score.weight" : name; };
  CHECK_THAT(loading_error(without_saved_modules, to_score), Catch::Contains("score.weight") && Catch::Contains("neither to this adapter nor to the model"));
  CHECK(renaming("base_model.model.classifier.bias", "classifier.bias").empty());
  CHECK_THAT(loading_error(unchanged,
                           [](const std::string& name) {
                             const std::size_t at = name.find("layer.2.");
                             return at == std::string::npos ? name : name.substr(0, at) + "layer.9." + name.substr(at + 8);
                           }),
             Catch::Contains("layer.9.attention.self.query") && Catch::Contains("no such layer"));
  CHECK_THAT(loading_error(
                 unchanged, [](const std::string& name) { return name; }, "bert_gelu_new"),
             !Catch::Matchers::Equals(""));
}

TEST_CASE("folders that are no adapters", "[attach]") {
  Context ctx(1);
  Bert<X> model = plain_model(ctx);
  const test::TemporaryFolder folder;
  CHECK_THROWS_WITH(load_adapter(ctx, model, folder.path()), Catch::Contains("adapter_config.json"));
  CHECK_THROWS_WITH(adapter_classes(folder.path() / "nowhere", model.architecture()), Catch::Contains("no such folder"));
  write_text_file(folder.path() / "adapter_config.json", "{\"peft_type\": \"LORA\"}");
  write_text_file(folder.path() / "adapter_model.bin", "pickle");
  CHECK_THROWS_WITH(load_adapter(ctx, model, folder.path()), Catch::Contains("adapter_model.bin"));
}

TEST_CASE("selections come back from their own folders, which PEFT refuses by name", "[attach]") {
  Context ctx(1);
  const test::TemporaryFolder folder;
  Bert<X> model = plain_model(ctx);
  apply(model, bitfit_query_ffn(family_of(model)));
  model.visit([](Parameter<X>& parameter) {
    if (parameter.trains()) parameter.value().data[0] = 42.0F;
  });
  Attachment<X> nothing("default");
  save_adapter(ctx, folder.path(), model, SelectionPlan(bitfit_query_ffn(family_of(model))), nothing, "base");
  CHECK(adapter_classes(folder.path(), model.architecture()) == 3);
  CHECK(JsonConfig::open(folder.path() / "adapter_config.json").get<std::string>("peft_type") == "DELTATUNE_SELECTION");

  Bert<X> again = plain_model(ctx);
  const Adapter<X> loaded = load_adapter(ctx, again, folder.path());
  CHECK(method_of(loaded.plan) == "bitfit_query_ffn");
  CHECK(loaded.keys.at("classifier.weight") == "classifier.weight");
  again.visit([&](Parameter<X>& parameter) { CHECK((parameter.value().data[0] == 42.0F) == parameter.trains()); });

  // Another selection than the file holds.
  nlohmann::json config = JsonConfig::open(folder.path() / "adapter_config.json").raw();
  config["trainable"] = {"classifier.**"};
  write_text_file(folder.path() / "adapter_config.json", config.dump());
  CHECK_THROWS_WITH(load_adapter(ctx, again, folder.path()), Catch::Contains("belongs neither to this adapter"));
  config["trainable"] = {"**.bias"};
  write_text_file(folder.path() / "adapter_config.json", config.dump());
  CHECK_THROWS_AS(load_adapter(ctx, again, folder.path()), Error);
}
