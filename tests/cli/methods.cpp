// --method: each one on both families, alone and beside others: trained, saved, read, merged where that is exact; and what the program says where not.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/language_model.hpp"
#include "cli/program.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/text/tokenizer.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

namespace {

// A method, options that make it small enough for a toy model, whether it can be merged.
struct Method {
  std::string name;
  Arguments options = {};
  bool merges = false;
};

const std::vector<Method>& methods() {
  static const std::vector<Method> all{
      {"lora", {"--rank", "2", "--alpha", "4", "--dropout", "0.1", "--lora-plus-ratio", "4"}, true},
      {"lora", {"--rank", "2", "--init", "pissa"}, true},
      {"lora", {"--rank", "2", "--init", "olora", "--rslora", "--targets", "all-linear"}, true},
      {"dora", {"--rank", "2", "--targets", "all-linear", "--layers", ""}, true},
      {"adalora", {"--rank", "3", "--target-rank", "1", "--tinit", "0", "--tfinal", "1", "--delta-t", "1"}, true},
      {"vera", {"--rank", "4", "--d-initial", "0.2"}, true},
      {"ia3", {}, true},
      {"houlsby", {"--reduction-factor", "4", "--non-linearity", "gelu"}},
      {"pfeiffer", {"--reduction-factor", "4", "--leave-out", "0"}},
      {"parallel", {"--reduction-factor", "4", "--scaling", "2"}},
      {"compacter", {"--reduction-factor", "4"}},
      {"compacter++", {"--reduction-factor", "4"}},
      {"adapter_plus", {"--reduction-factor", "4"}},
      {"prefix", {"--virtual-tokens", "3"}},
      {"prefix_mlp", {"--virtual-tokens", "3", "--encoder-hidden", "8"}},
      {"prompt", {"--virtual-tokens", "3"}},
      {"prompt", {"--prompt-init", "text", "--prompt-text", "good day", "--virtual-tokens", "3"}},
      {"p_tuning", {"--virtual-tokens", "3", "--encoder-hidden", "8"}},
      {"p_tuning", {"--virtual-tokens", "3", "--encoder-hidden", "4", "--encoder", "lstm"}},
      {"bitfit", {}, true},
      {"layer_norm", {}, true},
      {"diff_pruning", {"--density", "0.01", "--prune-at", "2", "--structured"}, true},
      {"diff_pruning", {"--prune-at", "9"}, true},
      {"mam", {"--virtual-tokens", "3", "--encoder-hidden", "8", "--reduction-factor", "4"}},
      {"unipelt", {"--virtual-tokens", "3", "--encoder-hidden", "8", "--reduction-factor", "4", "--rank", "2"}},
      {"head", {}, true},
      {"last_layers", {"--last-layers", "1"}, true},
      {"full", {}, true},
  };
  return all;
}

Arguments without_empty(const Arguments& options) {
  Arguments kept;
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (i + 1 < options.size() && options[i + 1].empty()) {
      ++i;
    } else {
      kept.push_back(options[i]);
    }
  }
  return kept;
}

// A model of each family, and texts with labels.
struct MethodPlace {
  explicit MethodPlace(const std::string& family) : family_name(family) {
    if (family == "gpt2") {
      make_language_model(folder / "model");
    } else {
      make_text_model(folder / "model");
    }
    folder.file("data.csv", toy_table(24));
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  // Trains on the labelled texts and returns the summary.
  Json train(const std::string& method, const Arguments& options, const std::string& out, const Arguments& more = {}) const {
    Arguments arguments{"train",   "--model", path("model"),  "--data", path("data.csv"), "--eval-data", path("data.csv"),  "--method", method,
                        "--steps", "4",       "--batch-size", "8",      "--max-length",   "16",          "--learning-rate", "1e-2",     "--warmup-ratio",
                        "0",       "--out",   path(out),      "--json"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return last_json(checked(arguments));
  }
  Json evaluate(const std::string& model, const Arguments& adapters) const {
    Arguments arguments{"evaluate", "--model", path(model), "--data", path("data.csv"), "--max-length", "16", "--json"};
    for (const std::string& adapter : adapters) arguments.insert(arguments.end(), {"--adapter", path(adapter)});
    return last_json(checked(arguments));
  }

  std::string family_name;
  TemporaryFolder folder;
};

void check_method(const MethodPlace& place, const Method& method, int number) {
  const std::string out = method.name + std::to_string(number);
  INFO(place.family_name << " " << out);
  const Json summary = place.train(method.name, without_empty(method.options), out);
  CHECK(summary.at("trainable_parameters").get<Index>() > 0);
  CHECK(summary.at("trainable_parameters").get<Index>() <= summary.at("total_parameters").get<Index>());
  const bool full = method.name == "full";
  const Json result = full ? place.evaluate(out, {}) : place.evaluate("model", {out});
  CHECK(result.at("eval_loss").get<double>() == Approx(summary.at("eval_loss").get<double>()).epsilon(1e-4));
  CHECK(result.at("eval_accuracy").get<double>() == Approx(summary.at("eval_accuracy").get<double>()));
  if (full) return;

  const Json about = last_json(checked({"inspect", "--model", place.path("model"), "--adapter", place.path(out), "--json"}));
  REQUIRE(about.at("adapters").size() == 1);
  CHECK(about.at("adapters").at(0).at("trainable_parameters").get<Index>() > 0);

  const std::string merged = out + "_merged";
  const Outcome outcome = run_program({"merge", "--model", place.path("model"), "--adapter", place.path(out), "--out", place.path(merged)});
  INFO(outcome.err);
  if (method.merges) {
    REQUIRE(outcome.code == 0);
    CHECK(place.evaluate(merged, {}).at("eval_loss").get<double>() == Approx(result.at("eval_loss").get<double>()).margin(1e-5));
  } else {
    CHECK(outcome.code == 1);
    CHECK(outcome.err.find("cannot be merged") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(place.folder / merged));
  }
}

}  // namespace

TEST_CASE("every method on BERT", "[cli][methods]") {
  const MethodPlace place("bert");
  int number = 0;
  for (const Method& method : methods()) check_method(place, method, number++);
  check_method(place, {"bitfit_query_ffn", {}, true}, number);
}

// PEFT takes the rows of tokenizer(text)["input_ids"], special tokens and all, again and again; and needs the text and the tokenizer in the file.
TEST_CASE("a prompt that starts from a text has the rows of PEFT's start, and says so in the file", "[cli][methods]") {
  const MethodPlace place("bert");
  checked({"train", "--model", place.path("model"), "--data", place.path("data.csv"), "--method", "prompt", "--prompt-init", "text", "--prompt-text",
           "good day", "--virtual-tokens", "6", "--steps", "1", "--learning-rate", "0", "--out", place.path("prompt")});
  const JsonConfig config = JsonConfig::open(place.folder / "prompt/adapter_config.json");
  CHECK(config.get<std::string>("prompt_tuning_init") == "TEXT");
  CHECK(config.get<std::string>("prompt_tuning_init_text") == "good day");
  CHECK(config.get<std::string>("tokenizer_name_or_path") == place.path("model"));

  const std::vector<std::int32_t> ids = Tokenizer::open(place.folder / "model").encode("good day", 16);
  REQUIRE(ids.size() == 4);  // [CLS] good day [SEP]
  const SafeTensors model = SafeTensors::open(place.folder / "model/model.safetensors"),
                    adapter = SafeTensors::open(place.folder / "prompt/adapter_model.safetensors");
  const TensorInfo& table = model.at("bert.embeddings.word_embeddings.weight");
  const std::vector<float> words = floats(table), rows = floats(adapter.at("prompt_embeddings"));
  const std::size_t columns = static_cast<std::size_t>(table.shape.at(1));
  REQUIRE(rows.size() == 6 * columns);
  for (std::size_t row = 0; row < 6; ++row)
    for (std::size_t j = 0; j < columns; ++j) CHECK(rows[row * columns + j] == words[static_cast<std::size_t>(ids[row % 4]) * columns + j]);
}

TEST_CASE("every method on GPT-2", "[cli][methods]") {
  const MethodPlace place("gpt2");
  int number = 0;
  for (const Method& method : methods()) check_method(place, method, number++);
}

TEST_CASE("merging keeps the type of the model's weights", "[cli][methods]") {
  const MethodPlace place("bert");
  const std::filesystem::path file = place.folder / "model/model.safetensors";
  {
    const SafeTensors whole = SafeTensors::open(file);
    SafeTensorsWriter writer;
    for (const auto& [name, tensor] : whole.tensors()) {
      writer.add_rounded(name, tensor.shape, floats(tensor), name.find("LayerNorm") == std::string::npos ? DType::BF16 : DType::F32);
    }
    writer.write(file);
  }
  place.train("lora", {"--rank", "2"}, "lora");
  const auto merge = [&](const std::string& out, const Arguments& more) {
    Arguments arguments{"merge", "--model", place.path("model"), "--adapter", place.path("lora"), "--out", place.path(out)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    checked(arguments);
  };
  merge("merged", {});
  merge("wide", {"--dtype", "float32"});
  const SafeTensors merged = SafeTensors::open(place.folder / "merged/model.safetensors"), wide = SafeTensors::open(place.folder / "wide/model.safetensors");
  for (const auto& [name, tensor] : merged.tensors()) {
    INFO(name);
    CHECK(tensor.dtype == (name.find("LayerNorm") == std::string::npos ? DType::BF16 : DType::F32));
    CHECK(wide.at(name).dtype == DType::F32);
  }
  CHECK(JsonConfig::open(place.folder / "merged/config.json").get<std::string>("torch_dtype") == "bfloat16");
  CHECK(JsonConfig::open(place.folder / "wide/config.json").get<std::string>("torch_dtype") == "float32");
  CHECK(place.evaluate("wide", {}).at("eval_loss").get<double>() == Approx(place.evaluate("model", {"lora"}).at("eval_loss").get<double>()).margin(1e-5));
  CHECK(place.evaluate("merged", {}).at("eval_loss").get<double>() == Approx(place.evaluate("model", {"lora"}).at("eval_loss").get<double>()).epsilon(0.02));
}

TEST_CASE("several methods at once: a folder each, and the list of them", "[cli][methods]") {
  for (const char* family : {"bert", "gpt2"}) {
    const MethodPlace place(family);
    const Arguments rows{"--virtual-tokens", "3"}, small{"--reduction-factor", "4"}, both{"--virtual-tokens", "3", "--reduction-factor", "4"};
    for (const auto& [method, options] : std::vector<std::pair<std::string, Arguments>>{{"lora+bitfit", {"--rank", "2"}},
                                                                                        {"prefix+parallel", both},
                                                                                        {"prompt+houlsby", both},
                                                                                        {"prefix+prompt", rows},
                                                                                        {"compacter+++lora", small},
                                                                                        {"lora+unipelt", {"--rank", "2"}}}) {
      INFO(family << " " << method);
      const Json summary = place.train(method, options, method, {"--save-every", "3"});
      const std::string folder = place.path(method);
      const Json list = Json::parse(content_of(folder + "/adapters.json")).at("adapters");
      REQUIRE(list.size() == 2);
      const Json result = place.evaluate("model", {method});
      CHECK(result.at("eval_loss").get<double>() == Approx(summary.at("eval_loss").get<double>()).epsilon(1e-4));
      const std::string first = list.at(0).get<std::string>(), second = list.at(1).get<std::string>();
      CHECK(place.evaluate("model", {method + "/" + first, method + "/" + second}).at("eval_loss") == result.at("eval_loss"));

      // What the first method's folder holds alone is something else.
      const Json alone = place.evaluate("model", {method + "/" + first});
      CHECK(std::fabs(alone.at("eval_loss").get<double>() - result.at("eval_loss").get<double>()) > 1e-7);

      // From the third step on to the same bits.
      std::map<std::string, std::string> before;
      for (const auto& part : {first, second})
        for (const auto& entry : std::filesystem::directory_iterator(folder + "/" + part)) before[entry.path().string()] = content_of(entry.path());
      place.train(method, options, method, {"--save-every", "3", "--resume"});
      for (const auto& [file, content] : before) {
        INFO(file);
        CHECK((content_of(file) == content));
      }
    }
  }
}

TEST_CASE("adapters given one by one are attached beside each other", "[cli][methods]") {
  const MethodPlace place("bert");
  place.train("lora", {"--rank", "2"}, "a");
  place.train("lora", {"--rank", "3", "--targets", "all-linear", "--seed", "5"}, "b");
  const double a = place.evaluate("model", {"a"}).at("eval_loss").get<double>(), b = place.evaluate("model", {"b"}).at("eval_loss").get<double>();
  const double both = place.evaluate("model", {"a", "b"}).at("eval_loss").get<double>();
  CHECK(both != Approx(a));
  CHECK(both != Approx(b));
  checked({"merge", "--model", place.path("model"), "--adapter", place.path("a"), "--adapter", place.path("b"), "--out", place.path("merged")});
  CHECK(place.evaluate("merged", {}).at("eval_loss").get<double>() == Approx(both).margin(1e-5));
}

TEST_CASE("methods and options that don't go together", "[cli][methods][mistakes]") {
  const MethodPlace place("bert");
  const auto fails = [&](const Arguments& more, const std::vector<std::string>& words) {
    Arguments arguments{"train", "--model", place.path("model"), "--data", place.path("data.csv"), "--steps", "1", "--max-length",
                        "16",    "--out",   place.path("out")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_program(arguments);
    check_failure(outcome, words);
    CHECK_FALSE(std::filesystem::exists(place.folder / "out"));
  };
  fails({"--method", "lara"}, {"--method", "\"lara\"", "lora", "houlsby", "diff_pruning", "joined by +"});
  fails({"--method", "lora+"}, {"--method"});
  fails({"--method", ""}, {"--method"});
  fails({"--method", "lora+lora"}, {"--method", "twice"});
  fails({"--method", "lora+full"}, {"--method", "full"});
  fails({"--method", "bitfit", "--rank", "4"}, {"--rank", "bitfit"});
  fails({"--method", "lora", "--reduction-factor", "4"}, {"--reduction-factor", "lora"});
  fails({"--method", "lora+bitfit", "--density", "0.1"}, {"--density", "lora+bitfit"});
  fails({"--method", "prefix", "--encoder-hidden", "8"}, {"--encoder-hidden", "prefix"});
  fails({"--method", "head", "--structured"}, {"--structured", "head"});
  fails({"--method", "prompt", "--prompt-init", "text"}, {"--prompt-text", "missing"});
  fails({"--method", "prompt", "--prompt-init", "random", "--prompt-text", "good"}, {"--prompt-text"});
  fails({"--method", "houlsby", "--reduction-factor", "-1"}, {"reduction_factor"});
  fails({"--method", "compacter", "--reduction-factor", "32"}, {"phm_dim"});
  fails({"--method", "parallel", "--non-linearity", "sine"}, {"--non-linearity", "sine", "gelu"});
  fails({"--method", "pfeiffer", "--leave-out", "7"}, {"leave_out", "7"});
  fails({"--method", "houlsby", "--cross-adapter"}, {"cross_adapter", "no cross-attention"});
  fails({"--method", "adalora", "--rank", "2", "--target-rank", "4"}, {"target_r"});
  fails({"--method", "last_layers", "--last-layers", "9"}, {"last layers", "9"});
  fails({"--method", "diff_pruning", "--density", "2"}, {"density"});
  fails({"--method", "prefix", "--virtual-tokens", "30"}, {"--max-length", "10", "16"});
}
