// forward: the numbers of transformers and PEFT in every conformance case; padding; files.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <span>

#include "cli/program.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/safetensors.hpp"

using namespace deltatune;
using namespace deltatune::test;

namespace {

// NaN counts as infinitely far.
double difference(const TensorInfo& a, const TensorInfo& b) {
  if (a.shape != b.shape) return INFINITY;
  const std::vector<float> x = floats(a), y = floats(b);
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double distance = std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i]));
    largest = std::max(largest, std::isfinite(distance) ? distance : INFINITY);
  }
  return largest;
}

double largest_entry(const TensorInfo& tensor) {
  double largest = 0;
  for (const float x : floats(tensor)) largest = std::max(largest, std::abs(static_cast<double>(x)));
  return largest;
}

std::vector<std::string> arguments_of(const std::filesystem::path& folder, const JsonConfig& about, const std::filesystem::path& out) {
  std::vector<std::string> arguments{
      "forward", "--model", (kModels / about.get<std::string>("model")).string(), "--batch", (folder / "batch.safetensors").string(), "--out", out.string()};
  if (about.has("adapter")) arguments.insert(arguments.end(), {"--adapter", (folder / about.get<std::string>("adapter")).string()});
  if (about.has("trainable")) arguments.insert(arguments.end(), {"--trainable", about.get<std::string>("trainable")});
  if (about.has("trainable_parameters")) arguments.push_back("--gradients");
  return arguments;
}

}  // namespace

TEST_CASE("forward: every conformance case", "[cli][forward][covering]") {
  const TemporaryFolder temporary;
  const bool on_cpu = environment("DELTATUNE_DEVICE", "").empty();
  for (const ConformanceCase& c : cases_for(on_cpu)) {
    INFO(c.name);
    const std::filesystem::path folder = kCases / c.name, out = temporary / (c.name + ".safetensors");
    const Outcome outcome = run_program(arguments_of(folder, JsonConfig::open(folder / "case.json"), out));
    INFO(outcome.err);
    CHECK(outcome.code == 0);
    if (outcome.code != 0) continue;
    CHECK((outcome.err.empty() || outcome.err.starts_with("note: ")));  // of tables that the adapter's file brings
    const SafeTensors expected = SafeTensors::open(folder / "expected.safetensors"), got = SafeTensors::open(out);
    const bool has_task_loss = expected.find("task_loss") != nullptr;  // of AdaLoRA, without its penalty: not in forward's output
    CHECK(got.tensors().size() + (has_task_loss ? 1 : 0) == expected.tensors().size());
    double scale = 0, worst = 0;
    for (const auto& [key, tensor] : expected.tensors()) {
      if (key == "task_loss") continue;
      INFO(key);
      CHECK(got.find(key) != nullptr);
      if (got.find(key) == nullptr) continue;
      CHECK(got.at(key).dtype == DType::F32);
      if (key.starts_with("grad.")) {
        scale = std::max(scale, largest_entry(tensor));
        worst = std::max(worst, difference(got.at(key), tensor));
      } else {
        CHECK(difference(got.at(key), tensor) <= 2e-5);
      }
    }
    CHECK(worst <= 2e-4 * scale);
  }
}

TEST_CASE("forward: the output layer of a language model alone, where it is not the table of its embeddings", "[cli][forward]") {
  const TemporaryFolder temporary;
  const auto run = [&](const std::string& model, const std::string& name) {
    return run_program({"forward", "--model", (kModels / model).string(), "--batch", (kCases / name / "batch.safetensors").string(), "--trainable", "head",
                        "--gradients", "--out", (temporary / "out.safetensors").string()});
  };
  check_failure(run("gpt2_lm", "gpt2_full"), {"head", "the table of the token embeddings", "got GPT-2", "LoRA with the target lm_head"});
  const Outcome outcome = run("llama", "llama_full");
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const SafeTensors got = SafeTensors::open(temporary / "out.safetensors"), whole = SafeTensors::open(kCases / "llama_full/expected.safetensors");
  CHECK(got.tensors().size() == 3);  // logits, loss and one gradient
  const TensorInfo& gradient = whole.at("grad.lm_head.weight");
  CHECK(difference(got.at("grad.lm_head.weight"), gradient) <= 2e-4 * largest_entry(gradient));
}

TEST_CASE("forward: padding anywhere behind the first token changes nothing but positions", "[cli][forward]") {
  const TemporaryFolder temporary;
  const auto run = [&](const std::string& name, const Shape& shape, const std::vector<std::int64_t>& ids, const std::vector<std::int64_t>& mask) {
    SafeTensorsWriter writer;
    writer.add("input_ids", shape, std::span<const std::int64_t>(ids));
    if (!mask.empty()) writer.add("attention_mask", shape, std::span<const std::int64_t>(mask));
    writer.write(temporary / "batch.safetensors");
    const Outcome outcome = run_program(
        {"forward", "--model", (kModels / "bert_gelu").string(), "--batch", (temporary / "batch.safetensors").string(), "--out", (temporary / name).string()});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return floats(SafeTensors::open(temporary / name).at("logits"));
  };
  const std::vector<float> alone = run("alone", {1, 3}, {5, 6, 7}, {});
  const std::vector<float> padded = run(
      "padded", {2, 45},
      [] {
        std::vector<std::int64_t> ids(90, 119);  // more columns than the model has positions
        std::copy_n(std::vector<std::int64_t>{5, 6, 7}.begin(), 3, ids.begin());
        std::copy_n(std::vector<std::int64_t>{5, 110, 6, 7}.begin(), 4, ids.begin() + 45);
        return ids;
      }(),
      [] {
        std::vector<std::int64_t> mask(90, 0);
        for (const std::size_t i : {0U, 1U, 2U, 45U, 47U, 48U}) mask[i] = 1;
        return mask;
      }());
  REQUIRE(padded.size() == 6);
  double same = 0, hole = 0;
  for (std::size_t c = 0; c < 3; ++c) {
    same = std::max(same, std::abs(static_cast<double>(alone[c] - padded[c])));
    hole = std::max(hole, std::abs(static_cast<double>(alone[c] - padded[c + 3])));
  }
  CHECK(same < 1e-6);
  CHECK(hole > 1e-3);  // the same tokens at other positions
}

TEST_CASE("forward: what the targets of an encoder-decoder must be", "[cli][forward][mistakes]") {
  const TemporaryFolder temporary;
  const auto forward = [&](const Shape& shape, const std::vector<std::int64_t>& labels) {
    SafeTensorsWriter writer;
    const std::vector<std::int64_t> ids{5, 6, 7, 8};
    writer.add("input_ids", {2, 2}, std::span<const std::int64_t>(ids));
    if (!labels.empty()) writer.add("labels", shape, std::span<const std::int64_t>(labels));
    writer.write(temporary / "batch.safetensors");
    return run_program(
        {"forward", "--model", (kModels / "bart").string(), "--batch", (temporary / "batch.safetensors").string(), "--out", (temporary / "out").string()});
  };
  check_failure(forward({}, {}), {"labels: is missing", "targets", "input_ids"});
  check_failure(forward({2}, {1, 2}), {"labels: wrong shape", "[2, tokens of a target]", "[2]"});
  check_failure(forward({2, 2}, {9, 2, -100, -100}), {"labels: row 1 has no target"});
  check_failure(forward({2, 2}, {9, 2, 48, 2}), {"labels: value outside the range at row 1, column 0", "0 to 47", "48"});
  check_failure(forward({2, 21}, std::vector<std::int64_t>(42, 9)), {"labels: row 0 is longer than the model's positions", "20", "21"});

  const Outcome good = forward({2, 3}, {9, -100, 2, 7, -100, -100});
  INFO(good.err);
  REQUIRE(good.code == 0);
  const SafeTensors out = SafeTensors::open(temporary / "out");
  CHECK(out.at("logits").shape == Shape{2, 3, 48});
  const std::vector<float> logits = floats(out.at("logits"));
  const auto is_zero = [&](std::size_t place) {
    return std::all_of(logits.begin() + static_cast<std::ptrdiff_t>(place * 48), logits.begin() + static_cast<std::ptrdiff_t>((place + 1) * 48),
                       [](float x) { return x == 0; });
  };
  for (const std::size_t place : {0U, 1U, 2U, 3U}) CHECK_FALSE(is_zero(place));
  for (const std::size_t place : {4U, 5U}) CHECK(is_zero(place));  // behind the second target
}

TEST_CASE("forward: rows without a label don't count", "[cli][forward]") {
  const TemporaryFolder temporary;
  const auto loss = [&](const std::vector<std::int64_t>& ids, const std::vector<std::int64_t>& labels) {
    const Index rows = static_cast<Index>(labels.size());
    SafeTensorsWriter writer;
    writer.add("input_ids", {rows, 3}, std::span<const std::int64_t>(ids));
    writer.add("labels", {rows}, std::span<const std::int64_t>(labels));
    writer.write(temporary / "batch.safetensors");
    REQUIRE(run_program({"forward", "--model", (kModels / "bert_gelu").string(), "--batch", (temporary / "batch.safetensors").string(), "--out",
                         (temporary / "out").string()})
                .code == 0);
    return static_cast<double>(floats(SafeTensors::open(temporary / "out").at("loss"))[0]);
  };
  CHECK(loss({5, 6, 7, 8, 9, 10}, {2, -100}) == Approx(loss({5, 6, 7}, {2})).margin(1e-6));
}

TEST_CASE("forward: merged and attached give the same logits", "[cli][merge]") {
  const TemporaryFolder temporary;
  for (const char* name : {"lora_all_linear_rslora", "lora_bias_all", "lora_old_names", "lora_bare_checkpoint", "lora_feature_extraction",
                           "lora_resized_word_embeddings", "gpt2_save_wte", "gpt2_save_tied", "gpt2_lora_lm_head", "gpt2_lora_wte_lm_head",
                           "gpt2_lora_lm_head_save_wte", "gpt2_dora_lm_head", "gpt2_resized_lora_wte"}) {
    INFO(name);
    const std::filesystem::path folder = kCases / name;
    const std::string model = (kModels / JsonConfig::open(folder / "case.json").get<std::string>("model")).string();
    const std::string merged = (temporary / name).string(), out = (temporary / "out").string();
    const Outcome outcome = run_program({"merge", "--model", model, "--adapter", (folder / "adapter").string(), "--out", merged});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    REQUIRE(run_program({"forward", "--model", merged, "--batch", (folder / "batch.safetensors").string(), "--out", out}).code == 0);
    const SafeTensors expected = SafeTensors::open(folder / "expected.safetensors"), got = SafeTensors::open(out);
    for (const char* key : {"logits", "last_hidden_state"})
      if (expected.find(key) != nullptr) CHECK(difference(got.at(key), expected.at(key)) <= 1e-5 * std::max(1.0, largest_entry(expected.at(key))));
  }
}
