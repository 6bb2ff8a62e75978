#include "deltatune/text/language_code.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "deltatune/ops/cross_entropy.hpp"
#include "deltatune/seam/architecture.hpp"
#include "deltatune/tokenizers.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using namespace deltatune;
using Catch::Contains;

TEST_CASE("language codes: those that a tokenizer has", "[text]") {
  const Tokenizer tokenizer = Tokenizer::parse(R"({"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "the": 1, "EN_xx": 2}, "unk_token": "<unk>"},
      "added_tokens": [{"id": 4, "content": "en_XX", "special": true}, {"id": 5, "content": "ro_RO", "special": true},
                       {"id": 6, "content": "ast_ES", "special": true}]})",
                                               "tokenizer.json");
  CHECK(language_id(tokenizer, "en_XX") == 4);
  CHECK(language_id(tokenizer, "ast_ES") == 6);
  for (const std::string unknown : {"de_DE", "the", "EN_xx", ""}) {
    const std::string text = test::error_text([&] { language_id(tokenizer, unknown); });
    CHECK_THAT(text, Contains("expected one of ") && Contains("en_XX") && Contains("ro_RO") && Contains("ast_ES") && Contains("got \"" + unknown + "\""));
  }
  for (const std::string code : {"en_XX", "ast_ES"}) CHECK(is_language_code(code));
  for (const std::string other : {"e_XX", "en_xx", "en_XXX", "eng_Latn", "en", "_XX", "▁en_XX"}) CHECK_FALSE(is_language_code(other));
  const Tokenizer without = Tokenizer::parse(R"({"model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}})", "tokenizer.json");
  CHECK_THAT(test::error_text([&] { language_id(without, "en_XX"); }), Contains("a tokenizer with language codes"));
}

namespace {

using Ids = std::vector<std::int32_t>;

const std::filesystem::path kLanguageFixtures = std::filesystem::path(DELTATUNE_TEST_DIR) / "tokenizers/fixtures";

nlohmann::json languages_of(const std::string& kind) { return nlohmann::json::parse(test::content_of(kLanguageFixtures / kind / "languages.json")); }

}  // namespace

TEST_CASE("language codes: sources and targets of mBART and mBART-50 are those of transformers", "[text]") {
  const std::string kind = GENERATE("mbart", "mbart50");
  CAPTURE(kind);
  const Tokenizer tokenizer = open_tokenizer(kLanguageFixtures / kind);
  const nlohmann::json golden = languages_of(kind);
  CHECK(language_place(tokenizer) == (kind == "mbart" ? LanguagePlace::behind : LanguagePlace::before));
  std::vector<std::string> codes = golden.at("codes"), known = language_codes(tokenizer);
  std::sort(codes.begin(), codes.end());
  std::sort(known.begin(), known.end());
  CHECK(known == codes);
  Architecture mbart;
  mbart.starts_with_last = true;
  REQUIRE(golden.at("cases").size() == 40);
  for (const nlohmann::json& one : golden.at("cases")) {
    CAPTURE(one.dump());
    const Index max_length = one.at("max_length").is_null() ? 0 : one.at("max_length").get<Index>();
    const std::string target_language = one.at("target_language");
    const Tokenizer source = in_language(tokenizer, one.at("source_language").get<std::string>()), target = in_language(source, target_language);
    CHECK(source.encode(one.at("source").get<std::string>(), max_length) == one.at("source_ids").get<Ids>());
    const Ids target_ids = target.encode(one.at("target").get<std::string>(), max_length);
    CHECK(target_ids == one.at("target_ids").get<Ids>());
    const Ids read = mbart.decoder_input(target_ids, ops::kIgnoredLabel);
    CHECK(read == one.at("decoder_ids").get<Ids>());
    // What a generation has to begin with to write the target.
    const LanguageStart start = start_in_language(tokenizer, target_language);
    CHECK(start.decoder_start_token_id == (kind == "mbart" ? read.front() : -1));
    CHECK(start.forced_bos_token_id == (kind == "mbart" ? -1 : target_ids.front()));
  }
}

TEST_CASE("language codes: many texts at once, pairs and offsets with a language", "[text]") {
  const Tokenizer tokenizer = open_tokenizer(kLanguageFixtures / "mbart50"), romanian = in_language(tokenizer, "ro_RO");
  const std::int32_t code = language_id(tokenizer, "ro_RO"), end = *tokenizer.eos_id();
  const std::vector<std::string_view> texts{"the car", "a day"};
  const EncodedBatch batch = romanian.encode_batch(texts, {}, 2);
  for (std::size_t i = 0; i < texts.size(); ++i) CHECK(std::vector(batch[i].begin(), batch[i].end()) == romanian.encode(texts[i]));
  const auto without = [&](std::string_view text) { return tokenizer.encode(text, EncodeOptions{.special_tokens = false}); };
  std::vector<std::int32_t> both{code};
  for (const std::string_view text : texts)
    for (const std::int32_t id : without(text)) both.push_back(id);
  both.push_back(end);
  CHECK(romanian.encode_pair(texts[0], texts[1]).ids == both);
  const Encoding encoding = romanian.encode_with_offsets("the car");
  CHECK(encoding.ids == romanian.encode("the car"));
  CHECK(encoding.tokens.front() == "ro_RO");
  CHECK(encoding.tokens.back() == "</s>");
  CHECK(tokenizer.encode("the car").front() == language_id(tokenizer, "en_XX"));  // stays as it is
  CHECK_THAT(test::error_text([&] { tokenizer.with_tokens_around({100'000}, {}); }), Contains("100000"));
}

TEST_CASE("language codes: what a tokenizer does not have", "[text]") {
  const Tokenizer tokenizer = open_tokenizer(kLanguageFixtures / "mbart50"), t5 = open_tokenizer(kLanguageFixtures / "t5");
  CHECK_THAT(test::error_text([&] { in_language(tokenizer, "ro_XX", "--target-language"); }), Contains("--target-language: is not one of the tokenizer's") &&
                                                                                                  Contains("one of its 52 language codes, such as ") &&
                                                                                                  Contains("ro_RO") && Contains("got \"ro_XX\""));
  CHECK_THAT(test::error_text([&] { start_in_language(tokenizer, "en"); }), Contains("en_XX"));
  CHECK(language_place(t5) == LanguagePlace::none);
  CHECK(language_codes(t5).empty());
  CHECK_THAT(test::error_text([&] { in_language(t5, "en_XX", "--source-language"); }),
             Contains("--source-language: is for a tokenizer that puts the code of a language") && Contains("MBart50TokenizerFast"));
}
