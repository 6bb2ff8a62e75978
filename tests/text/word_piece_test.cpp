#include "deltatune/text/word_piece.hpp"

#include <catch2/catch.hpp>
#include <map>
#include <thread>

#include "deltatune/io/table.hpp"
#include "text/tokenizer_files.hpp"

using namespace deltatune;
namespace files = tokenizer_files;

namespace {

using Ids = std::vector<std::int32_t>;
constexpr Index kNoLimit = 1 << 30;

WordPieceSpec minilm() { return read_vocab_txt(files::data / "minilm" / "vocab.txt", files::data / "minilm" / "tokenizer_config.json"); }

// A vocabulary small enough to reason about.
WordPieceSpec tiny() {
  WordPieceSpec spec;
  spec.name = "tiny";
  for (const char* token : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "##a", "a", "\xC3\xA9", "##\xC3\xA9", "##b", "word"}) {
    spec.vocabulary.emplace(token, static_cast<std::int32_t>(spec.vocabulary.size()));
  }
  spec.normalizer.lowercase = false;
  return spec;
}

void check_nasty(const WordPiece& tokenizer) {
  const auto cases = files::read_lines(files::data / "nasty_unicode.jsonl");
  REQUIRE(cases.size() >= 150);
  for (const auto& line : cases) {
    INFO(line.at("text").dump(-1, ' ', true));
    CHECK(tokenizer.encode(line.at("text").get<std::string>(), kNoLimit) == line.at("ids").get<Ids>());
  }
}

}  // namespace

TEST_CASE("nasty Unicode gives the ids of the Hugging Face tokenizer", "[text][word_piece]") { check_nasty(WordPiece::load(files::data / "minilm")); }

TEST_CASE("nasty Unicode under every normaliser setting", "[text][word_piece]") {
  const auto cases = files::read_lines(files::data / "nasty_unicode.jsonl");
  std::map<std::string, WordPiece> tokenizers;
  for (const auto& [name, hash] : cases.at(0).at("hashes").items()) {
    WordPieceSpec spec = minilm();
    spec.normalizer = files::normalizer(name);
    tokenizers.emplace(name, spec);
  }
  CHECK(tokenizers.size() == 7);
  for (const auto& line : cases) {
    for (const auto& [name, tokenizer] : tokenizers) {
      INFO(name << ": " << line.at("text").dump(-1, ' ', true));
      CHECK(files::fnv1a(tokenizer.encode(line.at("text").get<std::string>(), kNoLimit)) == line.at("hashes").at(name).get<std::uint32_t>());
    }
  }
}

TEST_CASE("all tweets give the ids of the Hugging Face tokenizer", "[text][word_piece]") {
  const auto model = files::from_environment("DELTATUNE_MINILM"), tweets = files::from_environment("DELTATUNE_TWEETS");
  if (!model || !tweets) {
    WARN("SKIPPED: set DELTATUNE_MINILM to the all-MiniLM-L6-v2 folder and DELTATUNE_TWEETS to the tweets' csv file");
    return;
  }
  const WordPiece tokenizer = WordPiece::load(*model);
  REQUIRE(std::filesystem::exists(*model / "tokenizer.json"));
  check_nasty(tokenizer);

  const Table table = read_table(*tweets);
  const std::size_t text = static_cast<std::size_t>(table.column("text"));
  const auto hashes = files::read_hashes(files::data / "tweets_ids.fnv32");
  REQUIRE(table.rows.size() == hashes.size());
  std::size_t different = 0;
  for (std::size_t row = 0; row < hashes.size(); ++row) {
    if (files::fnv1a(tokenizer.encode(table.rows[row][text], kNoLimit)) == hashes[row]) continue;
    if (++different <= 3) UNSCOPED_INFO("row " << row << ": " << table.rows[row][text]);
  }
  CHECK(different == 0);
}

TEST_CASE("vocab.txt and tokenizer.json are the same tokenizer", "[text][word_piece]") {
  const auto model = files::from_environment("DELTATUNE_MINILM");
  if (!model) {
    WARN("SKIPPED: set DELTATUNE_MINILM to the all-MiniLM-L6-v2 folder");
    return;
  }
  const WordPiece json = WordPiece::load(*model), text = WordPiece::load(files::data / "minilm");
  REQUIRE(json.vocab_size() == text.vocab_size());
  for (std::int32_t id = 0; id < json.vocab_size(); ++id) REQUIRE(json.token_of(id) == text.token_of(id));
}

TEST_CASE("truncation and pairs as the Hugging Face tokenizer", "[text][word_piece]") {
  const WordPiece tokenizer(minilm());
  for (const auto& line : files::read_lines(files::data / "pairs.jsonl")) {
    INFO(line.dump());
    const std::string first = line.at("first");
    const Index max_length = line.at("max_length");
    if (line.contains("second")) {
      const EncodedPair pair = tokenizer.encode_pair(first, line.at("second").get<std::string>(), max_length);
      CHECK(pair.ids == line.at("ids").get<Ids>());
      CHECK(pair.token_types == line.at("types").get<Ids>());
    } else {
      CHECK(tokenizer.encode(first, max_length) == line.at("ids").get<Ids>());
    }
  }
  CHECK_THROWS_WITH(tokenizer.encode("a", 1), "max_length: too short for the special tokens; expected at least 2, got 1");
  CHECK_THROWS_WITH(tokenizer.encode_pair("a", "b", 2), "max_length: too short for the special tokens; expected at least 3, got 2");
  CHECK_THROWS_AS(tokenizer.encode("a", -1), Error);
}

TEST_CASE("added tokens are found as the Hugging Face tokenizer finds them", "[text][word_piece]") {
  const auto golden = nlohmann::json::parse(files::read(files::data / "added_tokens.json"));
  WordPieceSpec spec = minilm();
  spec.added_tokens.clear();
  for (const auto& entry : golden.at("added_tokens")) {
    spec.added_tokens.push_back(detail::read_added_token(JsonConfig::parse(entry.dump(), "added_tokens.json"), entry.at("id")));
  }
  const WordPiece tokenizer(spec);
  for (const auto& line : golden.at("cases")) {
    INFO(line.at("text").dump(-1, ' ', true));
    CHECK(tokenizer.encode(line.at("text").get<std::string>(), kNoLimit) == line.at("ids").get<Ids>());
  }
  CHECK(tokenizer.vocab_size() == 30522 + 10);
  CHECK(tokenizer.id_of("<url>") == 30522);
  CHECK(tokenizer.token_of(30522) == "<url>");
}

TEST_CASE("a word is cut into the longest pieces", "[text][word_piece]") {
  const WordPiece tokenizer(tiny());
  CHECK(tokenizer.encode("unaffable", kNoLimit) == Ids{4, 5, 6});
  CHECK(tokenizer.encode("una unb", kNoLimit) == Ids{4, 7, 4, 11});
  CHECK(tokenizer.encode("unx word", kNoLimit) == Ids{1, 12});  // one piece is missing: the whole word is unknown
  CHECK(tokenizer.encode("\xC3\xA9\xC3\xA9 ", kNoLimit) == Ids{9, 10});
  CHECK(tokenizer.encode("", kNoLimit).empty());  // no template, nothing around it
  CHECK(tokenizer.encode_pair("a", "word", kNoLimit).token_types == Ids{0, 1});
}

TEST_CASE("a word longer than the limit is unknown", "[text][word_piece]") {
  WordPieceSpec spec = tiny();
  spec.longest_word = 3;
  const WordPiece tokenizer(spec);
  CHECK(tokenizer.encode("aaa aaaa", kNoLimit) == Ids{8, 7, 7, 1});
  CHECK(tokenizer.encode("\xC3\xA9\xC3\xA9\xC3\xA9", kNoLimit) == Ids{9, 10, 10});  // counted in characters
}

TEST_CASE("bytes that are not UTF-8 count as U+FFFD", "[text][word_piece]") {
  const WordPiece tokenizer(minilm());
  CHECK(tokenizer.encode("caf\xC3", kNoLimit) == tokenizer.encode("caf", kNoLimit));
  CHECK(tokenizer.encode("\xED\xA0\x80 a\x80 b\xF4\x90\x80\x80", kNoLimit) == tokenizer.encode(" a b", kNoLimit));
}

TEST_CASE("tokens and ids", "[text][word_piece]") {
  const WordPiece tokenizer(minilm());
  CHECK(tokenizer.vocab_size() == 30522);
  CHECK(tokenizer.id_of("[SEP]") == 102);
  CHECK(tokenizer.id_of("##ing") == 2075);
  CHECK(tokenizer.id_of("no such token") == std::nullopt);
  CHECK(tokenizer.token_of(101) == "[CLS]");
  CHECK_THROWS_WITH(tokenizer.token_of(30522), "token id 30522: not in the vocabulary; expected 0 to 30521");
  CHECK_THROWS_AS(tokenizer.token_of(-1), Error);
}

TEST_CASE("a copied tokenizer stands alone, and threads may share one", "[text][word_piece]") {
  auto original = std::make_unique<WordPiece>(minilm());
  const WordPiece tokenizer = *original;
  original.reset();
  const Ids expected = tokenizer.encode("Sharing is caring, caf\xC3\xA9s!", kNoLimit);
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) result = tokenizer.encode("Sharing is caring, caf\xC3\xA9s!", kNoLimit);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) CHECK(result == expected);
}

TEST_CASE("specs that make no tokenizer", "[text][word_piece]") {
  WordPieceSpec spec = tiny();
  SECTION("two tokens with one id") {
    spec.vocabulary["twin"] = 12;
    CHECK_THROWS_WITH(WordPiece(spec), Catch::Contains("tiny: two tokens have one id") && Catch::Contains("12 for"));
  }
  SECTION("no unknown token") {
    spec.unknown_token = "<unk>";
    CHECK_THROWS_WITH(WordPiece(spec), "tiny: the unknown token <unk> is not in the vocabulary");
  }
  SECTION("an added token with another id") {
    spec.added_tokens.push_back({.content = "[SEP]", .id = 9});
    CHECK_THROWS_WITH(WordPiece(spec), "tiny: added_tokens: another id than in the vocabulary for \"[SEP]\"; expected 3, got 9");
  }
  SECTION("an added token with an id that is taken") {
    spec.added_tokens.push_back({.content = "<url>", .id = 4});
    CHECK_THROWS_WITH(WordPiece(spec), Catch::Contains("two tokens have one id"));
  }
  SECTION("a template with an unknown id") {
    spec.single.push_back({TemplateItem::Kind::kTokens, {99}, 0});
    CHECK_THROWS_WITH(WordPiece(spec), "tiny: post_processor: id not in the vocabulary; got 99");
  }
}

TEST_CASE("folders without a tokenizer", "[text][word_piece]") {
  CHECK_THROWS_WITH(WordPiece::load(files::data / "no_such_folder"), Catch::Contains("no such folder") && Catch::Contains("tokenizer.json or vocab.txt"));
  CHECK_THROWS_WITH(WordPiece::load(files::data), Catch::Contains("no tokenizer in this folder"));
}
