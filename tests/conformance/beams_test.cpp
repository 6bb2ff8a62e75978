// What transformers' generate() writes for 40 inputs: an encoder-decoder for source texts, a decoder behind prompts, greedily and by beam search.
#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deltatune/attach/adapter_folder.hpp"
#include "deltatune/io/parse_json.hpp"
#include "deltatune/model/generate.hpp"
#include "support/device.hpp"
#include "support/instances.hpp"

namespace {

using namespace deltatune;
using X = test::DeviceTensor;

// Of an entry of beams.json, whose options have transformers' names.
GenerationConfig settings_of(const nlohmann::json& setting) {
  const nlohmann::json& options = setting["options"];
  GenerationConfig config{.max_new_tokens = 9};
  config.end_ids = setting["ends"].get<std::vector<std::int32_t>>();
  config.num_beams = options.value("num_beams", Index{1});
  config.length_penalty = options.value("length_penalty", 1.0);
  config.repetition_penalty = options.value("repetition_penalty", 1.0);
  config.no_repeat_ngram_size = options.value("no_repeat_ngram_size", Index{0});
  config.min_new_tokens = options.value("min_new_tokens", Index{0});
  config.forced_bos_token_id = options.value("forced_bos_token_id", -1);
  config.forced_eos_token_id = options.value("forced_eos_token_id", -1);
  if (options.contains("early_stopping"))
    config.early_stopping = options["early_stopping"].is_string()   ? EarlyStopping::never
                            : options["early_stopping"].get<bool>() ? EarlyStopping::yes
                                                                    : EarlyStopping::no;
  return config;
}

}  // namespace

TEST_CASE("beams and greedy texts are those of transformers", "[conformance][generate]") {
  const std::filesystem::path root = std::filesystem::path(DELTATUNE_TEST_DIR) / "conformance", file = root / "beams.json";
  for (const nlohmann::json& entry : parse_json(MappedFile(file).text(), file.string())) {
    const std::string name = entry["model"];
    INFO(name << (entry["adapter"].is_null() ? "" : ", " + entry["adapter"].get<std::string>()));
    test::DeviceContext ctx(1);
    Transformer<X> model = Transformer<X>::load(ctx, root / "models" / name, Head::language_model());
    if (!entry["start"].is_null()) model.architecture().start_id = entry["start"];  // mBART's is a language code, which the tiny model does not name
    if (!entry["adapter"].is_null()) load_adapter(ctx, model, root / "cases" / entry["adapter"].get<std::string>() / "adapter");
    PackedBatch inputs;
    for (const nlohmann::json& tokens : entry["inputs"]) inputs.add(tokens.get<std::vector<std::int32_t>>());
    REQUIRE(inputs.count() == 40);
    for (const nlohmann::json& setting : entry["settings"]) {
      INFO(setting["options"].dump());
      GenerationConfig config = settings_of(setting);
      for (const auto& [at_once, rows] : std::vector<std::pair<Index, Index>>{{40, 2048}, {7, 9}}) {
        config.max_sequences = at_once;
        config.prefill_rows = rows;
        const std::vector<Continuation> texts = generate(ctx, model, inputs, config);
        REQUIRE(texts.size() == 40);
        for (std::size_t i = 0; i < texts.size(); ++i) {
          INFO("input " << i);
          const nlohmann::json& expected = setting["texts"][i];
          CHECK(texts[i].tokens == expected["tokens"].get<std::vector<std::int32_t>>());
          if (config.num_beams > 1) CHECK(texts[i].score == Approx(expected["score"].get<double>()).margin(3e-5));
        }
      }
    }
  }
}
