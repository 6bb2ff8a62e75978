// What goes out to other programs: GGUF adapters, any method as a plain LoRA, merged models in other types and in several files.
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/program.hpp"
#include "deltatune/io/safetensors.hpp"
#include "support/gguf_file.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Catch::Contains;

namespace {

const std::filesystem::path kLlama = std::filesystem::path(DELTATUNE_TEST_DIR) / "data/gguf/llama";

std::string model_of(const std::string& name) { return (kModels / JsonConfig::open(kCases / name / "case.json").get<std::string>("model")).string(); }

double largest_difference(const TensorInfo& a, const TensorInfo& b) {
  REQUIRE(a.shape == b.shape);
  const std::vector<float> x = floats(a), y = floats(b);
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::fabs(double{x[i]} - double{y[i]}));
  return largest;
}

// The largest difference of the case's logits to those of a model, with an adapter or without.
double logits_difference(const TemporaryFolder& folder, const std::string& name, const std::string& model, const std::string& adapter = "") {
  const std::string out = (folder / "logits").string();
  std::vector<std::string> arguments{"forward", "--model", model, "--batch", (kCases / name / "batch.safetensors").string(), "--out", out};
  if (!adapter.empty()) arguments.insert(arguments.end(), {"--adapter", adapter});
  const Outcome outcome = run_program(arguments);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return largest_difference(SafeTensors::open(out).at("logits"), SafeTensors::open(kCases / name / "expected.safetensors").at("logits"));
}

void check_refused(const TemporaryFolder& folder, const std::vector<std::string>& arguments, const std::vector<std::string>& words) {
  const auto before = folder.names();
  const Outcome outcome = run_program(arguments);
  check_failure(outcome, words);
  CHECK(folder.names() == before);
}

}  // namespace

TEST_CASE("export: a LoRA as a GGUF file", "[cli][files_out]") {
  const TemporaryFolder folder;
  const std::string out = (folder / "lora.gguf").string(), adapter = (kLlama / "lora").string();
  const std::vector<std::string> command{"export", "--model", kLlama.string(), "--adapter", adapter, "--to", "gguf", "--out", out};
  Outcome outcome = run_program(command);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK_THAT(outcome.out, Contains("7 weights") && Contains("llama") && Contains("alpha 12") && Contains("3 with another scaling") && Contains(out));
  CHECK(GgufFile(out).tensors.size() == 14);
  const std::string wide = content_of(out);

  std::vector<std::string> narrow = command;
  narrow.insert(narrow.end(), {"--type", "f16"});
  REQUIRE(run_program(narrow).code == 0);
  CHECK(content_of(out).size() < wide.size());
  REQUIRE(run_program(command).code == 0);
  CHECK((content_of(out) == wide));
  CHECK(folder.names().size() == 1);
}

TEST_CASE("export: what is refused leaves nothing behind", "[cli][files_out][mistakes]") {
  const TemporaryFolder folder;
  const std::string out = (folder / "x.gguf").string(), ia3 = (kCases / "gpt2_ia3/adapter").string(), gpt2 = (kModels / "gpt2_lm").string();
  check_refused(folder, {"export", "--model", gpt2, "--adapter", ia3, "--out", out}, {"peft_type", "expected LORA, got IA3", "deltatune convert --to lora"});
  check_refused(folder, {"export", "--model", gpt2, "--adapter", (folder / "none").string(), "--out", out}, {"no such folder"});
  check_refused(folder, {"export", "--model", (kModels / "mpnet").string(), "--adapter", (kLlama / "lora").string(), "--out", out},
                {"model_type", "\"mpnet\""});
  check_refused(folder,
                {"export", "--model", kLlama.string(), "--adapter", (kLlama / "lora").string(), "--out", (kLlama / "lora/adapter_config.json").string()},
                {"the adapter's own file"});
  check_refused(folder, {"export", "--model", kLlama.string(), "--adapter", (kLlama / "lora").string(), "--to", "ggml", "--out", out}, {"--to", "gguf"});
}

TEST_CASE("convert: methods become a LoRA, exactly where the rank suffices", "[cli][files_out]") {
  const TemporaryFolder folder;
  // A rank of the smaller side of each weight is always enough; (IA)3 changes biases too, and the tables of two cases change.
  for (const auto& [name, rank] : std::vector<std::pair<std::string, int>>{{"lora_query_value", 4},
                                                                           {"lora_word_embeddings", 8},
                                                                           {"dora_all_linear", 24},
                                                                           {"vera_query_value", 32},
                                                                           {"ia3_default", 32},
                                                                           {"miss_query_value", 32},
                                                                           {"lora_pissa", 8},
                                                                           {"gpt2_dora_lm_head", 32},
                                                                           {"adapterhub_lora", 8}}) {
    INFO(name);
    const std::string out = (folder / name).string();
    const Outcome outcome = run_program({"convert", "--model", model_of(name), "--adapter", (kCases / name / "adapter").string(), "--to", "lora", "--rank",
                                         std::to_string(rank), "--out", out});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    const std::string last = last_line(outcome.out);
    CHECK_THAT(last, Contains("rank " + std::to_string(rank)) && Contains("(Frobenius)"));
    CHECK(std::stod(last.substr(last.find("relative error ") + 15)) < 1e-6);
    CHECK(logits_difference(folder, name, model_of(name), out) < 2e-5);
    const nlohmann::json config = nlohmann::json::parse(content_of(folder / name / "adapter_config.json"));
    CHECK(config.at("peft_type") == "LORA");
    CHECK(config.at("use_dora") == false);
    CHECK(config.at("lora_bias") == (name == "ia3_default"));
  }
}

TEST_CASE("convert: says what a smaller rank loses, and the same seed gives the same bytes", "[cli][files_out]") {
  const TemporaryFolder folder;
  const auto convert = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> arguments{
        "convert", "--model", model_of("dora_all_linear"), "--adapter", (kCases / "dora_all_linear/adapter").string(), "--out", (folder / out).string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_program(arguments);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    const std::string last = last_line(outcome.out);
    return std::stod(last.substr(last.find("relative error ") + 15));
  };
  const double four = convert("four", {"--rank", "4"}), eight = convert("eight", {"--rank", "8"});
  CHECK(four > 0.1);
  CHECK(eight < four);
  convert("again", {"--rank", "4"});
  CHECK((content_of(folder / "four/adapter_model.safetensors") == content_of(folder / "again/adapter_model.safetensors")));
}

TEST_CASE("convert: what a LoRA cannot hold is named", "[cli][files_out][mistakes]") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& name, const std::vector<std::string>& words) {
    INFO(name);
    check_refused(folder,
                  {"convert", "--model", model_of(name), "--adapter", (kCases / name / "adapter").string(), "--rank", "4", "--out", (folder / "out").string()},
                  words);
  };
  refused("layer_norm_all", {"LayerNorm.weight", "a LoRA cannot hold", "11 more"});
  refused("adapterhub_houlsby", {"cannot be merged", "a layer of its own"});
  refused("prefix_flat", {"cannot be merged", "keys and values"});
  refused("lora_resized_word_embeddings", {"word_embeddings.weight", "another shape"});
}

TEST_CASE("merge: float16, bfloat16, and several files", "[cli][files_out][merge]") {
  const TemporaryFolder folder;
  const std::string name = "lora_query_value", out = (folder / "merged").string();
  const auto merge = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"merge", "--model", model_of(name), "--adapter", (kCases / name / "adapter").string(), "--out", out, "--overwrite"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_program(arguments);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
  };
  std::set<std::string> whole_names;
  const auto check = [&](const std::string& dtype, DType type, double tolerance) {
    INFO(dtype);
    merge({"--dtype", dtype, "--max-shard-size", "20KB"});
    CHECK(nlohmann::json::parse(content_of(folder / "merged/config.json")).at("torch_dtype") == dtype);
    CHECK_FALSE(std::filesystem::exists(folder / "merged/model.safetensors"));
    const nlohmann::json index = nlohmann::json::parse(content_of(folder / "merged/model.safetensors.index.json"));
    std::set<std::string> files, names;
    Index bytes = 0;
    for (const auto& [tensor, file] : index.at("weight_map").items()) files.insert(file.get<std::string>());
    CHECK(files.size() > 2);
    for (const std::string& file : files) {
      Index in_file = 0;
      const SafeTensors tensors = SafeTensors::open(folder / "merged" / file);
      for (const auto& [tensor, info] : tensors.tensors()) {
        CHECK(info.dtype == type);
        CHECK(index.at("weight_map").at(tensor) == file);
        in_file += static_cast<Index>(info.bytes.size());
        names.insert(tensor);
      }
      CHECK(in_file <= 20000);
      bytes += in_file;
    }
    CHECK(index.at("metadata").at("total_size") == bytes);
    if (whole_names.empty()) whole_names = names;
    CHECK(names == whole_names);
    CHECK(logits_difference(folder, name, out) < tolerance);
  };
  check("float32", DType::F32, 2e-5);
  check("float16", DType::F16, 2e-2);
  check("bfloat16", DType::BF16, 1e-1);
  // One file again: nothing of the several is left.
  merge({});
  for (const auto& entry : std::filesystem::directory_iterator(out)) CHECK_FALSE(entry.path().filename().string().starts_with("model-"));
  CHECK_FALSE(std::filesystem::exists(folder / "merged/model.safetensors.index.json"));
  CHECK(logits_difference(folder, name, out) < 2e-5);
  for (const char* size : {"0", "many", "-5GB"})
    check_refused(
        folder,
        {"merge", "--model", model_of(name), "--adapter", (kCases / name / "adapter").string(), "--out", (folder / "x").string(), "--max-shard-size", size},
        {"--max-shard-size"});
}
