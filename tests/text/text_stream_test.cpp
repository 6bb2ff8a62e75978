// Text as tokens come: the pieces are what decode() makes of the whole, for tokenizers of every kind, and none ends in the middle of a character.
#include "deltatune/text/text_stream.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "deltatune/core/random.hpp"
#include "deltatune/tokenizers.hpp"
#include "text/tokenizer_files.hpp"

using namespace deltatune;
namespace files = tokenizer_files;

namespace {

using StreamIds = std::vector<std::int32_t>;

const std::filesystem::path kStreamed = std::filesystem::path(DELTATUNE_TEST_DIR) / "tokenizers/fixtures";

std::vector<std::string> streamed_texts() {
  std::vector<std::string> texts;
  for (const nlohmann::json& line : files::read_lines(files::data / "nasty_unicode.jsonl")) texts.push_back(line.at("text"));
  return texts;
}

// How the text of all tokens so far, and what is held back, compare with decode().
void check_stream(const Tokenizer& tokenizer, const StreamIds& ids, bool skips) {
  TextStream stream(tokenizer, skips);
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    std::string piece = stream.push(ids[i]);
    std::string repaired = piece;
    REQUIRE(replace_invalid_utf8(repaired) == 0);
    text += piece;
    const std::string whole = tokenizer.decode(std::span(ids).first(i + 1), skips);
    REQUIRE(text + stream.held() == whole);
  }
  text += stream.finish();
  REQUIRE(text == tokenizer.decode(ids, skips));
  REQUIRE(stream.held().empty());
}

std::string streamed_kind() {
  return GENERATE(as<std::string>(), "albert", "bert-cased", "deepseek", "falcon", "gemma", "llama", "llama-metaspace", "llama-model", "llama3", "qwen2",
                  "roberta", "t5", "words", "xlm-roberta");
}

}  // namespace

TEST_CASE("text of a stream of tokens is that of all of them", "[text][stream]") {
  const std::string name = streamed_kind();
  CAPTURE(name);
  const Tokenizer tokenizer = open_tokenizer(kStreamed / name);
  const std::vector<std::string> texts = streamed_texts();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i, texts[i]);
    StreamIds ids = tokenizer.encode(texts[i]);
    if (ids.size() > 300) ids.resize(300);
    check_stream(tokenizer, ids, false);
    check_stream(tokenizer, ids, true);
  }
}

TEST_CASE("text of a stream of drawn tokens, most of them nonsense", "[text][stream]") {
  const std::string name = streamed_kind();
  CAPTURE(name);
  const Tokenizer tokenizer = open_tokenizer(kStreamed / name);
  for (std::uint64_t draw = 0; draw < 40; ++draw) {
    CAPTURE(draw);
    StreamIds ids;
    const std::uint32_t words = static_cast<std::uint32_t>(draw % 2 == 0 ? tokenizer.vocab_size() : std::min<Index>(tokenizer.vocab_size(), 300));
    for (std::uint64_t i = 0; ids.size() < 60; ++i) {
      const std::int32_t id = static_cast<std::int32_t>(random_bits(derive(draw), i) % words);
      try {
        tokenizer.token_of(id);
        ids.push_back(id);
      } catch (const Error&) {  // a gap in the vocabulary
      }
    }
    check_stream(tokenizer, ids, false);
    check_stream(tokenizer, ids, true);
  }
}

TEST_CASE("a stream gives text as soon as it is certain", "[text][stream]") {
  const Tokenizer tokenizer = Tokenizer::open(files::data / "gpt2_bpe");
  TextStream stream(tokenizer);
  const StreamIds ids = tokenizer.encode("a \U0001F9FF\u00fc!");
  std::vector<std::string> pieces;
  for (const std::int32_t id : ids)
    if (std::string piece = stream.push(id); !piece.empty()) pieces.push_back(piece);
  CHECK(pieces.front() == "a");
  CHECK(pieces.back() == "!");
  CHECK(pieces.size() >= 4);
  CHECK(stream.held().empty());
}

TEST_CASE("stop strings end a text in the token that completes them", "[text][stream]") {
  const Tokenizer byte_level = Tokenizer::open(files::data / "gpt2_bpe"), llama = open_tokenizer(kStreamed / "llama");
  // The number of the token, counted from 1, that stops; 0: none.
  const auto stop_of = [](const Tokenizer& tokenizer, const std::string& prompt, const std::string& text, const std::vector<std::string>& strings) {
    StopStrings stops(tokenizer, strings, tokenizer.encode(prompt));
    std::size_t number = 0;
    for (const std::int32_t id : tokenizer.encode(text)) {
      ++number;
      if (stops.push(id)) return number;
    }
    return std::size_t{0};
  };
  const auto stop = [&](const std::string& prompt, const std::string& text, const std::vector<std::string>& strings) {
    return stop_of(byte_level, prompt, text, strings);
  };
  const auto length = [&](const std::string& text) { return byte_level.encode(text).size(); };
  const std::string never = "something long that never comes";
  CHECK(stop("x", "one. two. three", {"."}) == length("one."));
  CHECK(stop("x", "one. two. three", {"?", "two."}) == length("one. two."));
  CHECK(stop("x", "one. two. three", {never, "wo."}) == length("one. two."));
  CHECK(stop("x", "one. two. three", {"four"}) == 0);
  CHECK(stop("x", "one. two. three", {}) == 0);
  CHECK(stop("x.", "one", {".", never}) == 0);  // all of it in the prompt
  CHECK(stop("x.", "!one", {".!"}) == 1);       // half of it
  CHECK(stop("x", " the end", {"h"}) == 1);     // in the middle of a token
  CHECK(stop("x", "\u00fc\u00e9", {"\u00e9"}) == length("\u00fc\u00e9"));
  CHECK(stop_of(llama, "x", "a\nb", {"\n"}) == llama.encode("a\n").size());  // a token <0x0A>, whose text is held back
  CHECK_THROWS_AS(StopStrings(byte_level, {""}), Error);
}
