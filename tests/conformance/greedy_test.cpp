// What transformers' generate() goes on with, greedily: 50 prompts per decoder at once, through the key-value cache and without it, alone and with LoRA.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/io/parse_json.hpp"
#include "deltatune/model/generate.hpp"
#include "support/conformance_cases.hpp"
#include "support/device.hpp"
#include "support/instances.hpp"

namespace {

using namespace deltatune;
using X = test::DeviceTensor;

// The likeliest token behind a text, from a pass over all of it.
std::int32_t next_token(test::DeviceContext& ctx, Transformer<X>& model, const std::vector<std::int32_t>& text) {
  Workspace<test::Device> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch};
  PackedBatch batch;
  batch.add(text);
  DeviceBatch<X> device(ctx);
  device.upload(batch, false, model.layout());
  typename Transformer<X>::Activations kept;
  const View<float> logits = pass.keep(batch.rows(), model.architecture().vocab_size);
  model.forward(pass, device, logits, kept);
  const std::vector<float> last = test::on_host<X>(ctx, logits.row_range(logits.rows - 1, 1));
  return static_cast<std::int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
}

}  // namespace

TEST_CASE("greedy tokens are those of transformers", "[conformance][generate]") {
  const std::filesystem::path file = std::filesystem::path(DELTATUNE_TEST_DIR) / "conformance/greedy.json";
  for (const nlohmann::json& entry : parse_json(MappedFile(file).text(), file.string())) {
    const std::string name = entry["model"];
    INFO(name << (entry["adapter"].is_null() ? "" : ", " + entry["adapter"].get<std::string>()));
    test::DeviceContext ctx(1);
    Transformer<X> model = Transformer<X>::load(ctx, test::kModels / name, Head::language_model());
    if (!entry["adapter"].is_null()) load_adapter(ctx, model, test::kCases / entry["adapter"].get<std::string>() / "adapter");
    PackedBatch prompts;
    std::vector<std::vector<std::int32_t>> expected;
    for (const nlohmann::json& text : entry["texts"]) {
      prompts.add(text["prompt"].get<std::vector<std::int32_t>>());
      expected.push_back(text["tokens"]);
    }
    REQUIRE(expected.size() == 50);
    std::vector<std::vector<std::int32_t>> got;
    for (Continuation& text : generate(ctx, model, prompts, {.max_new_tokens = 14})) got.push_back(std::move(text.tokens));
    CHECK(got == expected);
    for (std::size_t i = 0; i < expected.size(); i += 10) {  // without a cache
      std::vector<std::int32_t> text = entry["texts"][i]["prompt"];
      std::vector<std::int32_t> tokens;
      while (tokens.size() < expected[i].size()) {
        tokens.push_back(next_token(ctx, model, text));
        text.push_back(tokens.back());
      }
      CHECK(tokens == expected[i]);
    }
  }
}

TEST_CASE("a text does not grow past the length from which all angles change", "[conformance][generate]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = Transformer<X>::load(ctx, test::kModels / "phi3_longrope", Head::language_model());  // 10 tokens
  const auto with = [&](const std::vector<std::size_t>& lengths, Index new_tokens, Index prefill_rows) {
    PackedBatch prompts;
    for (const std::size_t length : lengths) prompts.add(std::vector<std::int32_t>(length, 7));
    return generate(ctx, model, prompts, {.max_new_tokens = new_tokens, .stops_at_end = false, .prefill_rows = prefill_rows});
  };
  CHECK(with({4, 7}, 4, 64).size() == 2);
  CHECK_THROWS_WITH(with({4}, 8, 64), Catch::Contains("turns all keys by other angles") && Catch::Contains("4 to 11"));
  CHECK_THROWS_AS(with({4, 12}, 1, 64), Error);
  std::vector<std::int32_t> text(13, 7);
  const std::vector<std::int32_t> tokens = with({13, 12}, 5, 4).front().tokens;  // read at once, whatever the pieces
  for (const std::int32_t token : tokens) {
    CHECK(token == next_token(ctx, model, text));
    text.push_back(token);
  }
}
