#include <catch2/catch.hpp>
#include <map>
#include <thread>

#include "deltatune/io/table.hpp"
#include "deltatune/text/tokenizer.hpp"
#include "deltatune/text/tokenizer_json.hpp"
#include "text/tokenizer_files.hpp"

using namespace deltatune;
using nlohmann::json;
namespace files = tokenizer_files;

namespace {

using Ids = std::vector<std::int32_t>;
constexpr Index kNoLimit = 1 << 30;

Tokenizer minilm() { return Tokenizer::open(files::data / "minilm"); }

// The same vocabulary as a tokenizer.json, to be changed.
json minilm_json() {
  std::vector<std::string> tokens;
  std::ifstream file(files::data / "minilm" / "vocab.txt");
  for (std::string token; std::getline(file, token);) tokens.push_back(token);
  json all = files::word_piece_json(tokens);
  all["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"[SEP]", 102}}, {"cls", {"[CLS]", 101}}};
  return all;
}

// A vocabulary small enough to reason about.
json tiny_word_piece() {
  return files::word_piece_json({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "##a", "a", "\xC3\xA9", "##\xC3\xA9", "##b", "word"});
}

void check_nasty_ids(const Tokenizer& tokenizer) {
  const auto cases = files::read_lines(files::data / "nasty_unicode.jsonl");
  REQUIRE(cases.size() >= 150);
  for (const auto& line : cases) {
    INFO(line.at("text").dump(-1, ' ', true));
    CHECK(tokenizer.encode(line.at("text").get<std::string>(), kNoLimit) == line.at("ids").get<Ids>());
  }
}

}  // namespace

TEST_CASE("nasty Unicode gives the ids of the Hugging Face tokenizer", "[text][word_piece]") { check_nasty_ids(Tokenizer::open(files::data / "minilm")); }

TEST_CASE("nasty Unicode under every normaliser setting", "[text][word_piece]") {
  const auto cases = files::read_lines(files::data / "nasty_unicode.jsonl");
  std::map<std::string, Tokenizer> tokenizers;
  json file = minilm_json();
  for (const auto& [name, hash] : cases.at(0).at("hashes").items()) {
    file["normalizer"] = files::as_json(files::normalizer(name));
    tokenizers.emplace(name, files::parsed(file));
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
  const Tokenizer tokenizer = Tokenizer::open(*model);
  REQUIRE(std::filesystem::exists(*model / "tokenizer.json"));
  check_nasty_ids(tokenizer);

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
  const Tokenizer fast = Tokenizer::open(*model), text = Tokenizer::open(files::data / "minilm");
  REQUIRE(fast.vocab_size() == text.vocab_size());
  for (std::int32_t id = 0; id < fast.vocab_size(); ++id) REQUIRE(fast.token_of(id) == text.token_of(id));
}

TEST_CASE("truncation and pairs as the Hugging Face tokenizer", "[text][word_piece]") {
  const Tokenizer tokenizer = minilm();
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
  json file = minilm_json();
  file["normalizer"] = files::as_json({});
  file["added_tokens"] = golden.at("added_tokens");
  const Tokenizer tokenizer = files::parsed(file);
  for (const auto& line : golden.at("cases")) {
    INFO(line.at("text").dump(-1, ' ', true));
    CHECK(tokenizer.encode(line.at("text").get<std::string>(), kNoLimit) == line.at("ids").get<Ids>());
  }
  CHECK(tokenizer.vocab_size() == 30522 + 10);
  CHECK(tokenizer.id_of("<url>") == 30522);
  CHECK(tokenizer.token_of(30522) == "<url>");
}

TEST_CASE("a word is cut into the longest pieces", "[text][word_piece]") {
  const Tokenizer tokenizer = files::parsed(tiny_word_piece());
  CHECK(tokenizer.encode("unaffable", kNoLimit) == Ids{4, 5, 6});
  CHECK(tokenizer.encode("una unb", kNoLimit) == Ids{4, 7, 4, 11});
  CHECK(tokenizer.encode("unx word", kNoLimit) == Ids{1, 12});  // one piece is missing: the whole word is unknown
  CHECK(tokenizer.encode("\xC3\xA9\xC3\xA9 ", kNoLimit) == Ids{9, 10});
  CHECK(tokenizer.encode("", kNoLimit).empty());  // no template, nothing around it
  CHECK(tokenizer.encode_pair("a", "word", kNoLimit).token_types == Ids{0, 1});
}

TEST_CASE("a word longer than the limit is unknown", "[text][word_piece]") {
  json file = tiny_word_piece();
  file["model"]["max_input_chars_per_word"] = 3;
  const Tokenizer tokenizer = files::parsed(file);
  CHECK(tokenizer.encode("aaa aaaa", kNoLimit) == Ids{8, 7, 7, 1});
  CHECK(tokenizer.encode("\xC3\xA9\xC3\xA9\xC3\xA9", kNoLimit) == Ids{9, 10, 10});  // counted in characters
}

TEST_CASE("bytes that are not UTF-8 count as U+FFFD", "[text][word_piece]") {
  const Tokenizer tokenizer = minilm();
  CHECK(tokenizer.encode("caf\xC3", kNoLimit) == tokenizer.encode("caf", kNoLimit));
  CHECK(tokenizer.encode("\xED\xA0\x80 a\x80 b\xF4\x90\x80\x80", kNoLimit) == tokenizer.encode(" a b", kNoLimit));
}

TEST_CASE("tokens and ids", "[text][word_piece]") {
  const Tokenizer tokenizer = minilm();
  CHECK(tokenizer.vocab_size() == 30522);
  CHECK(tokenizer.id_of("[SEP]") == 102);
  CHECK(tokenizer.id_of("##ing") == 2075);
  CHECK(tokenizer.id_of("no such token") == std::nullopt);
  CHECK(tokenizer.token_of(101) == "[CLS]");
  CHECK_THROWS_WITH(tokenizer.token_of(30522), "token id 30522: not in the vocabulary; expected 0 to 30521");
  CHECK_THROWS_AS(tokenizer.token_of(-1), Error);
}

TEST_CASE("a copied tokenizer stands alone, and threads may share one", "[text][word_piece]") {
  auto original = std::make_unique<Tokenizer>(minilm());
  const Tokenizer tokenizer = *original;
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

TEST_CASE("vocabularies that make no tokenizer", "[text][word_piece]") {
  json file = tiny_word_piece();
  SECTION("two tokens with one id") {
    file["model"]["vocab"]["twin"] = 12;
    CHECK_THROWS_WITH(files::parsed(file), Catch::Contains("tokenizer.json: two tokens have one id") && Catch::Contains("12 for"));
  }
  SECTION("no unknown token") {
    file["model"]["unk_token"] = "<unk>";
    CHECK_THROWS_WITH(files::parsed(file), "tokenizer.json: model: unk_token: the unknown token <unk> is not in the vocabulary");
  }
  SECTION("an added token with another id") {
    file["added_tokens"].push_back({{"content", "[SEP]"}, {"id", 9}});
    CHECK_THROWS_WITH(files::parsed(file), "tokenizer.json: added_tokens: another id than in the vocabulary for \"[SEP]\"; expected 3, got 9");
  }
  SECTION("an added token with an id that is taken") {
    file["added_tokens"].push_back({{"content", "<url>"}, {"id", 4}});
    CHECK_THROWS_WITH(files::parsed(file), Catch::Contains("two tokens have one id"));
  }
  SECTION("a template with an unknown id") {
    file["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 99}}};
    CHECK_THROWS_WITH(files::parsed(file), "tokenizer.json: post_processor: id not in the vocabulary; got 99");
  }
}

TEST_CASE("folders without a tokenizer", "[text][word_piece]") {
  CHECK_THROWS_WITH(Tokenizer::open(files::data / "no_such_folder"),
                    Catch::Contains("no such file or folder") && Catch::Contains("tokenizer.json, or vocab.txt"));
  CHECK_THROWS_WITH(Tokenizer::open(files::data), Catch::Contains("no tokenizer in this folder"));
}
