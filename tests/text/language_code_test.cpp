#include "deltatune/text/language_code.hpp"

#include <catch2/catch.hpp>

#include "support/error_text.hpp"

using namespace deltatune;
using Catch::Contains;

TEST_CASE("language codes: those that a tokenizer has", "[text]") {
  const Tokenizer tokenizer = Tokenizer::parse(R"({"model": {"type": "WordLevel", "vocab": {"<unk>": 0, "the": 1, "EN_xx": 2}, "unk_token": "<unk>"},
      "added_tokens": [{"id": 4, "content": "en_XX", "special": true}, {"id": 5, "content": "ro_RO", "special": true},
                       {"id": 6, "content": "ast_ES", "special": true}]})",
                                               "tokenizer.json");
  CHECK(language_id(tokenizer, "en_XX") == 4);
  CHECK(language_id(tokenizer, "ast_ES") == 6);
  for (const std::string unknown : {"de_DE", "the", "EN_xx", ""})
    CHECK_THAT(test::error_text([&] { language_id(tokenizer, unknown); }), Contains("one of en_XX, ro_RO, ast_ES") && Contains("got \"" + unknown + "\""));
  const Tokenizer without = Tokenizer::parse(R"({"model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"}})", "tokenizer.json");
  CHECK_THAT(test::error_text([&] { language_id(without, "en_XX"); }), Contains("a tokenizer with language codes"));
}
