// The settings of the methods: each is read and written, whatever method it belongs to; and what attach() and load_adapter() return is saved by itself.
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/attach/methods.hpp"
#include "deltatune/attach/setting.hpp"
#include "support/error_text.hpp"
#include "support/instances.hpp"
#include "support/temporary_folder.hpp"

namespace {

using namespace deltatune;
namespace fs = std::filesystem;
using X = test::DeviceTensor;
using Context = test::DeviceContext;
using Gates = PrefixConfig::Gates;

Bert<X> settings_model(Context& ctx) { return Bert<X>::load(ctx, fs::path(DELTATUNE_TEST_DIR) / "conformance" / "models" / "bert_gelu", Head::classifier(3)); }

// Gives a setting a value that it does not have.
void change(const Setting& setting) {
  std::visit(
      []<class V>(const V& value) {
        if constexpr (std::is_same_v<V, Choice>) {
          const std::string word = value.word();
          for (const std::string& other : value.words()) {
            value.set(other, "test");
            if (value.word() != word) return;
          }
        } else if constexpr (std::is_same_v<V, bool*>) {
          *value = !*value;
        } else if constexpr (std::is_same_v<V, Index*>) {
          *value += 3;
        } else if constexpr (std::is_same_v<V, double*>) {
          *value += 0.125;
        } else if constexpr (std::is_same_v<V, std::string*>) {
          *value += "a";
        } else if constexpr (std::is_same_v<V, std::vector<Index>*>) {
          *value = {1, 4};
        } else if constexpr (std::is_same_v<V, std::vector<std::string>*>) {
          *value = {"b", "c"};
        } else if constexpr (std::is_same_v<V, Targets*>) {
          *value = Targets::named({"key"});
          value->exclude.names = {"output.dense"};
          value->layers = {1};
          value->layers_patterns = {"layer"};
        } else {
          value->emplace_back("query", 7);
        }
      },
      setting.value);
}

nlohmann::json written(AnyPlan plan) {
  nlohmann::json json = nlohmann::json::object();
  detail::write_settings(json, settings_of(plan), {}, true);
  return json;
}

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) files[entry.path().filename().string()] = std::string(MappedFile(entry.path()).text());
  return files;
}

}  // namespace

TEST_CASE("settings: what each method lists is written and read again", "[attach]") {
  for (const Method& method : all_methods()) {
    if (method.group == std::string(UnionPlan::kGroup) && std::holds_alternative<UnionPlan>(method.plan)) continue;  // of its members
    INFO(method.name);
    AnyPlan plan = method.plan;
    for (const Setting& setting : settings_of(plan)) {
      AnyPlan changed = method.plan;
      for (const Setting& same : settings_of(changed))
        if (std::string(same.key) == setting.key && std::string(same.option) == setting.option) change(same);
      nlohmann::json json = written(changed);
      if (*setting.key == '\0') {
        CHECK(json == written(method.plan));  // the plan does that by itself
        continue;
      }
      INFO(setting.key);
      CHECK(json != written(method.plan));
      for (const char* const key : {"rank_pattern", "alpha_pattern"})  // as config_text() writes them
        if (json.contains(key) && json[key].is_array()) {
          nlohmann::json object = nlohmann::json::object();
          for (const auto& pair : json[key]) object[pair.at(0).get<std::string>()] = pair.at(1);
          json[key] = object;
        }
      AnyPlan read = method.plan;
      detail::read_settings(JsonConfig::parse(json.dump(), "file"), settings_of(read), false, true);
      CHECK(written(read) == written(changed));
    }
  }
}

TEST_CASE("settings: a name stands once in a method, and every option has its help", "[attach]") {
  for (Method& method : all_methods()) {
    INFO(method.name);
    std::set<std::string> keys, options;
    for (const Setting& setting : settings_of(method.plan)) {
      INFO(setting.key << " " << setting.option);
      if (!std::holds_alternative<UnionPlan>(method.plan)) {
        CHECK((*setting.key == '\0' || keys.insert(setting.key).second));
        CHECK((*setting.option == '\0' || options.insert(setting.option).second));
      }
      CHECK((*setting.option == '\0') == (*setting.help == '\0'));
    }
    CHECK(method_named(method.name).name == method.name);
  }
  CHECK_THAT(test::error_text([] { method_named("lorra"); }), Catch::Contains("lorra") && Catch::Contains("lora, dora, adalora"));
}

TEST_CASE("settings: a word that is none of a choice", "[attach]") {
  PrefixConfig prefix;
  const Choice gates(prefix.gates, {{"none", Gates::none}, {"shared", Gates::shared}, {"separate", Gates::separate}});
  gates.set("shared", "file: gates");
  CHECK(prefix.gates == Gates::shared);
  CHECK_THAT(test::error_text([&] { gates.set("all", "file: gates"); }),
             Catch::Contains("file: gates") && Catch::Contains("none, shared or separate") && Catch::Contains("\"all\""));
  CHECK(prefix.gates == Gates::shared);
}

TEST_CASE("what attach() returned is saved without its plan, in the format that has its method", "[attach]") {
  Context ctx(1);
  const test::TemporaryFolder folder;
  for (const char* const name : {"lora", "houlsby", "unipelt", "prefix"}) {
    INFO(name);
    const AnyPlan plan = method_named(name).plan;
    Bert<X> model = settings_model(ctx);
    freeze_base(model);
    auto attached = attach_beside(ctx, model, plan, 5);
    CHECK(method_of(attached.plan) == method_of(plan));
    save_adapter(ctx, folder.path() / "alone", model, attached, "base");
    save_adapter(ctx, folder.path() / "told", model, plan, attached, "base");
    CHECK(files_of(folder.path() / "alone") == files_of(folder.path() / "told"));

    Bert<X> again = settings_model(ctx);
    Adapter<X> loaded = load_adapter(ctx, again, folder.path() / "alone");
    CHECK(method_of(loaded.plan) == method_of(plan));
    save_adapter(ctx, folder.path() / "twice", again, loaded, "base");
    CHECK(files_of(folder.path() / "twice").size() == files_of(folder.path() / "alone").size());
  }
}

TEST_CASE("methods whose files have no place for numbers of layers name their targets instead", "[attach]") {
  Context ctx(1);
  const test::TemporaryFolder folder;
  const auto there_and_back = [&](auto plan) {
    plan.targets.layers = {1};
    Bert<X> model = settings_model(ctx);
    auto attached = attach(ctx, model, plan);
    save_adapter(ctx, folder.path() / "adapter", model, attached, "base");
    Bert<X> again = settings_model(ctx);
    Adapter<X> loaded = load_adapter(ctx, again, folder.path() / "adapter");
    CHECK(trainable_count(again) == trainable_count(model));
    for (const std::string& path : attached.paths()) CHECK_THAT(path, Catch::Contains("layer.1."));
    CHECK(loaded.attachment.paths() == attached.paths());
  };
  Ia3Plan ia3;
  ia3.targets = Targets::named({"key", "value"});
  ia3.feedforward = NameRule{};
  there_and_back(ia3);
  ia3.targets = Targets::named({"key", "attention.output.dense"});
  ia3.feedforward = NameRule{{"output.dense"}, {}};
  there_and_back(ia3);
  const JsonConfig config = JsonConfig::open(folder.path() / "adapter" / "adapter_config.json");
  const std::vector<std::string> targets = config.get<std::vector<std::string>>("target_modules");
  const std::vector<std::string> at_input = config.get<std::vector<std::string>>("feedforward_modules");
  REQUIRE(at_input.size() == 1);
  CHECK(std::find(targets.begin(), targets.end(), at_input[0]) != targets.end());  // as PEFT asks for it
  there_and_back(NormTuningPlan{});
}
