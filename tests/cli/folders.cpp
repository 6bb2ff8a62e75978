// Adapter folders as other tools, downloads and users leave them: read to the right numbers, with a note, or refused with a remedy. Tables and heads that
// are tied: who reads which after training, loading and merging.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>

#include "cli/language_model.hpp"
#include "cli/program.hpp"
#include "deltatune/io/safetensors.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

namespace {

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return largest;
}

// A copy of a conformance case's adapter, for a test to change.
struct Place {
  explicit Place(const std::string& case_name, const std::string& model_name) : from(kCases / case_name), model((kModels / model_name).string()) {
    std::filesystem::create_directories(folder / "adapter");
    change([](const std::string& key) { return key; });
  }

  // Writes the adapter anew, its tensors under other keys and its configuration changed. more: further tensors.
  void change(
      const std::function<std::string(const std::string&)>& rename, const std::function<void(Json&)>& configure = [](Json&) {},
      const std::function<void(SafeTensorsWriter&)>& more = [](SafeTensorsWriter&) {}) const {
    Json config = Json::parse(content_of(from / "adapter/adapter_config.json"));
    configure(config);
    folder.file("adapter/adapter_config.json", config.dump());
    const SafeTensors file = SafeTensors::open(from / "adapter/adapter_model.safetensors");
    SafeTensorsWriter writer;
    for (const auto& [key, tensor] : file.tensors()) {
      TensorInfo renamed = tensor;
      renamed.name = rename(key);
      writer.add(renamed);
    }
    more(writer);
    writer.write(folder / "adapter/adapter_model.safetensors");
  }

  Outcome forward(const Arguments& adapters) const {
    std::filesystem::remove(folder / "out");
    Arguments arguments{"forward", "--model", model, "--batch", (from / "batch.safetensors").string(), "--out", (folder / "out").string()};
    for (const std::string& adapter : adapters) arguments.insert(arguments.end(), {"--adapter", (folder / adapter).string()});
    return run_program(arguments);
  }
  // The numbers of PEFT, and a note with each of the words.
  void check_read(const Arguments& words) const {
    const Outcome outcome = forward({"adapter"});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(outcome.err.starts_with("note: ") == !words.empty());
    for (const std::string& word : words) {
      INFO(word);
      CHECK(outcome.err.find(word) != std::string::npos);
    }
    const SafeTensors expected = SafeTensors::open(from / "expected.safetensors"), got = SafeTensors::open(folder / "out");
    CHECK(largest_difference(floats(got.at("logits")), floats(expected.at("logits"))) <= 2e-5);
  }
  void check_refused(const Outcome& outcome, const Arguments& words) const {
    check_failure(outcome, words);
    CHECK_FALSE(std::filesystem::exists(folder / "out"));
  }

  TemporaryFolder folder;
  std::filesystem::path from;
  std::string model;
};

const std::string kPrefix = "base_model.model.";

std::string replaced(std::string text, const std::string& part, const std::string& with) {
  const std::size_t at = text.find(part);
  return at == std::string::npos ? text : text.replace(at, part.size(), with);
}

}  // namespace

TEST_CASE("keys as other tools leave them", "[cli][folders]") {
  const Place place("lora_query_value", "bert_gelu");
  const auto without_prefix = [](const std::string& key) { return key.substr(kPrefix.size()); };
  const std::vector<std::function<std::string(const std::string&)>> ways{
      [](const std::string& key) { return "_orig_mod." + key; },
      [](const std::string& key) { return "module." + key; },
      [](const std::string& key) { return "module._orig_mod." + key; },
      [](const std::string& key) { return kPrefix + key; },
      [](const std::string& key) { return replaced(key, kPrefix, "base_model.model.model."); },
      [](const std::string& key) { return replaced(key, kPrefix, "base_model.model._fsdp_wrapped_module."); },
      [](const std::string& key) { return replaced(key, "layer.", "layer._checkpoint_wrapped_module."); },
      [](const std::string& key) { return replaced(replaced(key, "lora_A.", "lora_A.default."), "lora_B.", "lora_B.default."); },
      [](const std::string& key) { return replaced(key, "classifier.", "classifier.modules_to_save.tuned."); },
      [](const std::string& key) { return replaced(key, ".bert.", "."); },
      without_prefix,
  };
  for (const auto& way : ways) {
    INFO(way(kPrefix + "bert.encoder.layer.0.attention.self.query.lora_A.weight"));
    place.change(way);
    place.check_read({"adapter_model.safetensors: keys such as ", " are read as base_model.model."});
  }
  place.change([](const std::string& key) { return key; });
  place.check_read({});

  place.change([&](const std::string& key) { return replaced(key, "lora_A.", key.find("layer.0") == std::string::npos ? "lora_A.first." : "lora_A.second."); });
  place.check_refused(place.forward({"adapter"}), {"adapter_model.safetensors", "several adapters", "first, second"});
}

TEST_CASE("what an adapter's folder holds besides is said", "[cli][folders]") {
  const Place place("lora_query_value", "bert_gelu");
  const auto same = [](const std::string& key) { return key; };
  const auto unchanged = [](Json&) {};
  SECTION("fields that are not known") {
    place.change(same, [](Json& config) { config["use_new_scaling"] = true; });
    place.check_read({"adapter_config.json", "use_new_scaling", "without effect"});
    place.change(same, [](Json& config) { config["use_new_scaling"] = false; });
    place.check_read({});
  }
  SECTION("tensors that the configuration does not ask for") {
    place.change(same, unchanged, [](SafeTensorsWriter& writer) {
      for (const char* const part : {"lora_A.weight", "lora_B.weight"}) {
        const Shape shape = std::string(part) == "lora_A.weight" ? Shape{4, 32} : Shape{32, 4};
        writer.add_copy(kPrefix + "bert.encoder.layer.1.attention.self.key." + part, shape, std::vector<float>(128, 0.5F));
      }
    });
    place.check_read({"layer.1.attention.self.key.lora_A.weight", "not used"});
  }
  SECTION("buffers of old versions") {
    place.change(same, unchanged, [](SafeTensorsWriter& writer) {
      writer.add_copy(kPrefix + "bert.embeddings.position_ids", {1, 3}, std::vector<std::int64_t>{0, 1, 2});
    });
    place.check_read({"bert.embeddings.position_ids", "not used"});
  }
  SECTION("other tensors are a mistake") {
    place.change(same, unchanged, [](SafeTensorsWriter& writer) { writer.add_copy(kPrefix + "bert.encoder.layer.0.gate", {1}, std::vector<float>{1}); });
    place.check_refused(place.forward({"adapter"}), {"layer.0.gate", "belongs neither to this adapter"});
  }
  SECTION("a head that another adapter has brought") {
    std::filesystem::copy(place.from / "adapter", place.folder / "first");
    std::filesystem::copy(place.from / "adapter", place.folder / "again");
    CHECK(place.forward({"first", "again"}).err.empty());
    place.change(same, unchanged);
    std::filesystem::remove_all(place.folder / "again");
    std::filesystem::copy(kCases / "lora_regex_targets/adapter", place.folder / "again");
    const Outcome outcome = place.forward({"first", "again"});
    CHECK(outcome.code == 0);
    CHECK(outcome.err.find("replaces what another adapter brought, with other values: classifier.weight") != std::string::npos);
  }
}

TEST_CASE("folders that do not hold what they should", "[cli][folders]") {
  const Place place("lora_query_value", "bert_gelu");
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 90868376\n";
  SECTION("Git LFS pointers") {
    place.folder.file("adapter/adapter_model.safetensors", pointer);
    place.check_refused(place.forward({"adapter"}), {"adapter_model.safetensors", "Git LFS pointer", "90868376 bytes", "git lfs pull"});
    std::filesystem::create_directories(place.folder / "model");
    place.folder.file("model/config.json", content_of(kModels / "bert_gelu/config.json"));
    place.folder.file("model/model.safetensors", pointer);
    place.check_refused(run_program({"inspect", "--model", (place.folder / "model").string()}), {"model.safetensors", "Git LFS pointer"});
    place.folder.file("model/config.json", pointer);
    place.check_refused(run_program({"inspect", "--model", (place.folder / "model").string()}), {"config.json", "Git LFS pointer"});
  }
  SECTION("names of the Hub") {
    place.check_refused(run_program({"inspect", "--model", "sentence-transformers/all-MiniLM-L6-v2"}),
                        {"no such folder", "hf download sentence-transformers/all-MiniLM-L6-v2"});
    place.check_refused(run_program({"inspect", "--model", place.model, "--adapter", "someone/adapter"}), {"no such folder", "hf download someone/adapter"});
  }
  SECTION("one level too high") {
    std::filesystem::create_directories(place.folder / "runs");
    std::filesystem::rename(place.folder / "adapter", place.folder / "runs/tuned");
    place.check_refused(place.forward({"runs"}), {"has no adapter_config.json", "runs/tuned"});
    std::filesystem::create_directories(place.folder / "snapshots/0123");
    std::filesystem::copy(kModels / "bert_gelu", place.folder / "snapshots/0123/model", std::filesystem::copy_options::recursive);
    place.check_refused(run_program({"inspect", "--model", (place.folder / "snapshots").string()}), {"has no config.json", "snapshots/0123/model"});
  }
  SECTION("a layer without a reduction factor") {
    std::filesystem::copy(kCases / "adapterhub_reductions_without_default/adapter", place.folder / "hub");
    Json config = Json::parse(content_of(place.folder / "hub/adapter_config.json"));
    config["config"]["reduction_factor"].erase("1");
    place.folder.file("hub/adapter_config.json", config.dump());
    place.check_refused(run_program({"inspect", "--model", (kModels / "bert_gelu_new").string(), "--adapter", (place.folder / "hub").string()}),
                        {"reduction_factor", "no factor for layer 1", "default"});
  }
}

TEST_CASE("patterns count in the order in which they were given, in training and from the folder", "[cli][folders]") {
  const TemporaryFolder folder;
  make_text_model(folder / "model");
  const std::string model = (folder / "model").string(), data = folder.file("data.csv", toy_table(24)).string();
  const auto train = [&](const Arguments& more) {
    Arguments arguments{"train",
                        "--model",
                        model,
                        "--data",
                        data,
                        "--eval-data",
                        data,
                        "--method",
                        "lora",
                        "--targets",
                        "query",
                        "--rank",
                        "3",
                        "--steps",
                        "4",
                        "--max-length",
                        "16",
                        "--learning-rate",
                        "3e-2",
                        "--warmup-ratio",
                        "0",
                        "--out",
                        (folder / "out").string(),
                        "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::filesystem::remove_all(folder / "out");
    return run_program(arguments);
  };
  const std::string special = "layer.0.attention.self.query";
  for (const std::string option : {"--rank-pattern", "--alpha-pattern"}) {
    for (const bool general_first : {true, false}) {
      INFO(option << (general_first ? ", general first" : ", special first"));
      const Arguments patterns = general_first ? Arguments{"query=2", special + "=5"} : Arguments{special + "=5", "query=2"};
      const Outcome trained = train({option, patterns[0], option, patterns[1]});
      INFO(trained.err);
      REQUIRE(trained.code == 0);
      const std::string config = content_of(folder / "out/adapter_config.json");
      CHECK((config.find("\"query\": 2") < config.find("\"" + special + "\": 5")) == general_first);
      const Outcome read = run_program({"evaluate", "--model", model, "--adapter", (folder / "out").string(), "--data", data, "--max-length", "16", "--json"});
      INFO(read.err);
      REQUIRE(read.code == 0);
      CHECK(Json::parse(last_line(read.out)).at("eval_loss").get<double>() ==
            Approx(Json::parse(last_line(trained.out)).at("eval_loss").get<double>()).epsilon(1e-5));
    }
  }
  for (const auto& [more, word] : std::vector<std::pair<Arguments, std::string>>{{{"--rank-pattern", "value=2"}, "\"value\" matches none of the targets"},
                                                                                 {{"--alpha-pattern", "qeury=2"}, "\"qeury\" matches none of the targets"},
                                                                                 {{"--rank-pattern", "query=2", "--rank-pattern", "query=4"}, "twice"},
                                                                                 {{"--rank-pattern", "query=2.5"}, "whole number"}}) {
    const Outcome outcome = train(more);
    INFO(outcome.err);
    CHECK(outcome.code == 1);
    CHECK(outcome.err.find(word) != std::string::npos);
  }
}

TEST_CASE("tables and heads that are tied", "[cli][folders][lm]") {
  const TemporaryFolder folder;
  make_language_model(folder / "model");
  std::string text;
  for (int i = 0; i < 30; ++i) text += "abcdefgh";
  const std::string model = (folder / "model").string(), data = folder.file("poem.txt", text).string(), adapter = (folder / "adapter").string(),
                    merged = (folder / "merged").string();
  const auto loss_of = [&](const std::string& of, const Arguments& more) {
    Arguments arguments{"evaluate", "--model", of, "--data", data, "--max-length", "16", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_program(arguments);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return Json::parse(last_line(outcome.out)).at("eval_loss").get<double>();
  };
  const SafeTensors base = SafeTensors::open(folder / "model/model.safetensors");
  const std::vector<float> table = floats(base.at("transformer.wte.weight"));
  // What trains; whether the table and the head of the merged model are the base's.
  struct Tied {
    Arguments options;
    bool same_table, same_head;
  };
  const std::vector<Tied> ways{{{"--targets", "c_attn", "--modules-to-save", "wte"}, false, true},
                               {{"--targets", "c_attn", "--modules-to-save", "lm_head"}, true, false},
                               {{"--targets", "c_attn", "--modules-to-save", "wte,lm_head"}, false, false},
                               {{"--targets", "c_attn,lm_head"}, true, false},
                               {{"--targets", "wte"}, false, true},
                               {{"--targets", "wte,lm_head"}, false, false}};
  for (const Tied& way : ways) {
    INFO(way.options[1] << " " << way.options.back());
    for (const char* name : {"adapter", "merged"}) std::filesystem::remove_all(folder / name);
    Arguments arguments{"train", "--task",  "lm", "--model",      model, "--data",          data,   "--eval-data",    data, "--method", "lora",  "--rank",
                        "2",     "--steps", "6",  "--max-length", "16",  "--learning-rate", "3e-2", "--warmup-ratio", "0",  "--out",    adapter, "--json"};
    arguments.insert(arguments.end(), way.options.begin(), way.options.end());
    const Outcome trained = run_program(arguments);
    INFO(trained.err);
    REQUIRE(trained.code == 0);
    const double loss = Json::parse(last_line(trained.out)).at("eval_loss").get<double>();
    CHECK(loss_of(model, {"--adapter", adapter}) == Approx(loss).epsilon(1e-4));

    REQUIRE(run_program({"merge", "--model", model, "--adapter", adapter, "--out", merged}).code == 0);
    CHECK(Json::parse(content_of(folder / "merged/config.json")).at("tie_word_embeddings") == false);
    const SafeTensors whole = SafeTensors::open(folder / "merged/model.safetensors");
    CHECK((floats(whole.at("transformer.wte.weight")) == table) == way.same_table);
    CHECK((floats(whole.at("lm_head.weight")) == table) == way.same_head);
    CHECK(loss_of(merged, {}) == Approx(loss).epsilon(1e-4));
  }
}
