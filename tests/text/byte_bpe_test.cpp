#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <thread>

#include "deltatune/io/table.hpp"
#include "deltatune/text/byte_level.hpp"
#include "deltatune/text/split_expression.hpp"
#include "deltatune/text/tokenizer.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"
#include "text/tokenizer_files.hpp"

using namespace deltatune;
using Catch::Contains;
using nlohmann::json;
using test::error_text;
using test::TemporaryFolder;
namespace files = tokenizer_files;

namespace {

using Ids = std::vector<std::int32_t>;
const std::filesystem::path kFolder = files::data / "gpt2_bpe";

json shipped() { return json::parse(files::read(kFolder / "tokenizer.json")); }

Tokenizer open(const json& tokenizer) {
  const TemporaryFolder folder;
  return Tokenizer::open(folder.file("tokenizer.json", tokenizer.dump()));
}

void copy_vocab_and_merges(const TemporaryFolder& folder) {
  for (const char* name : {"vocab.json", "merges.txt"}) std::filesystem::copy(kFolder / name, folder / name);
}

// Named as the generator names them.
Tokenizer variant(const std::string& name) {
  json file = shipped();
  file["pre_tokenizer"]["add_prefix_space"] = name == "prefixed";
  file["pre_tokenizer"]["use_regex"] = name != "whole";
  json& merges = file["model"]["merges"];
  if (name == "reversed") std::reverse(merges.begin(), merges.end());
  return open(file);
}

// A tokenizer.json with these merges beside the bytes, whose ids are their values.
json tiny(const std::vector<std::pair<std::string, std::string>>& merges) {
  json vocabulary;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::string token;
    append_utf8(kByteCharacters[byte], token);
    vocabulary[token] = byte;
  }
  json list = json::array();
  for (const auto& [left, right] : merges) {
    list.push_back({left, right});
    if (!vocabulary.contains(left + right)) vocabulary[left + right] = vocabulary.size();
  }
  return {{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", list}}}};
}

std::vector<std::string> byte_level_words(std::string_view text) {
  std::vector<std::string> result;
  detail::for_each_word_of({detail::KnownExpression::kGpt2}, text,
                           [&](std::size_t begin, std::size_t end) { result.emplace_back(text.substr(begin, end - begin)); });
  return result;
}

void check_nasty_hashes(const Tokenizer& tokenizer) {
  for (const auto& line : files::read_lines(files::data / "nasty_unicode.jsonl")) {
    INFO(line.at("text").dump(-1, ' ', true));
    const std::string text = line.at("text");
    CHECK(files::fnv1a(tokenizer.encode(text)) == line.at("byte_bpe").at("words").get<std::uint32_t>());
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
}

}  // namespace

TEST_CASE("nasty Unicode gives the ids of the Hugging Face byte-level BPE, and the text back", "[text][byte_bpe]") {
  check_nasty_hashes(Tokenizer::open(kFolder));
}

TEST_CASE("vocab.json with merges.txt is the same tokenizer as tokenizer.json", "[text][byte_bpe]") {
  const TemporaryFolder folder;
  copy_vocab_and_merges(folder);
  check_nasty_hashes(Tokenizer::open(folder.path()));
}

TEST_CASE("nasty Unicode with a blank in front, not cut into words, and with the merges in another order", "[text][byte_bpe]") {
  const auto cases = files::read_lines(files::data / "nasty_unicode.jsonl");
  for (const auto& [name, unused] : cases.at(0).at("byte_bpe").items()) {
    const Tokenizer tokenizer = variant(name);
    for (const auto& line : cases) {
      INFO(name << ": " << line.at("text").dump(-1, ' ', true));
      CHECK(files::fnv1a(tokenizer.encode(line.at("text").get<std::string>())) == line.at("byte_bpe").at(name).get<std::uint32_t>());
    }
  }
  CHECK(cases.at(0).at("byte_bpe").size() == 4);
}

TEST_CASE("every code point: words, ids and back", "[text][byte_bpe]") {
  const Tokenizer tokenizer = Tokenizer::open(kFolder);
  const auto hashes = files::read_hashes(kFolder / "code_points.fnv32");
  REQUIRE(hashes.size() == 2 * (0x110000 - 0x800) / 256);
  std::size_t number = 0;
  for (char32_t block = 0; block < 0x110000; block += 256) {
    if (block >= 0xD800 && block < 0xE000) continue;
    std::string joined;
    Ids ids;
    for (char32_t c = block; c < block + 256; ++c) {
      std::string one;
      append_utf8(c, one);
      for (const std::string& word : byte_level_words("a" + one + "b1" + one + "2 " + one + "!" + one + "\n" + one)) {
        if (!joined.empty()) joined += ' ';
        for (const char byte : word) append_utf8(kByteCharacters[static_cast<unsigned char>(byte)], joined);
      }
      const Ids ids_of_one = tokenizer.encode(one);
      if (tokenizer.decode(ids_of_one) != one) FAIL("not the same again: " << std::hex << static_cast<unsigned>(c));
      ids.insert(ids.end(), ids_of_one.begin(), ids_of_one.end());
    }
    INFO("code points from " << std::hex << static_cast<unsigned>(block));
    CHECK(files::fnv1a(joined) == hashes[number]);
    CHECK(files::fnv1a(ids) == hashes[hashes.size() / 2 + number]);
    ++number;
  }
}

TEST_CASE("all tweets give the ids of the Hugging Face byte-level BPE, and the tweets back", "[text][byte_bpe]") {
  const auto tweets = files::from_environment("DELTATUNE_TWEETS");
  if (!tweets) {
    WARN("SKIPPED: set DELTATUNE_TWEETS to the tweets' csv file");
    return;
  }
  const Tokenizer tokenizer = Tokenizer::open(kFolder);
  const Table table = read_table(*tweets);
  const std::size_t text = static_cast<std::size_t>(table.column("text"));
  const auto hashes = files::read_hashes(kFolder / "tweets_ids.fnv32");
  REQUIRE(table.rows.size() == hashes.size());
  std::size_t different = 0;
  for (std::size_t row = 0; row < hashes.size(); ++row) {
    const Ids ids = tokenizer.encode(table.rows[row][text]);
    if (files::fnv1a(ids) == hashes[row] && tokenizer.decode(ids) == table.rows[row][text]) continue;
    if (++different <= 3) UNSCOPED_INFO("row " << row << ": " << table.rows[row][text]);
  }
  CHECK(different == 0);
}

TEST_CASE("tokens added to a byte-level BPE are found as the Hugging Face tokenizer finds them", "[text][byte_bpe]") {
  const auto golden = json::parse(files::read(kFolder / "added_tokens.json"));
  json file = shipped();
  file["added_tokens"] = golden.at("added_tokens");
  const Tokenizer tokenizer = open(file);
  for (const auto& line : golden.at("cases")) {
    INFO(line.at("text").dump(-1, ' ', true));
    CHECK(tokenizer.encode(line.at("text").get<std::string>()) == line.at("ids").get<Ids>());
  }
  CHECK(tokenizer.vocab_size() == 1510);
  CHECK(tokenizer.id_of("<url>") == 1500);
  CHECK(tokenizer.token_of(1500) == "<url>");
  for (const std::string text : {"a<url>b", "NY\u00c9", "x\U0001F600\u00fcber"}) CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("GPT-2's words", "[text][byte_bpe]") {
  using Words = std::vector<std::string>;
  CHECK(byte_level_words("") == Words{});
  CHECK(byte_level_words("Hello world") == Words{"Hello", " world"});
  CHECK(byte_level_words("I'll they've 'S we'red") == Words{"I", "'ll", " they", "'ve", " '", "S", " we", "'re", "d"});
  CHECK(byte_level_words("it''s '") == Words{"it", "''", "s", " '"});
  CHECK(byte_level_words("a  b \n c  ") == Words{"a", " ", " b", " \n", " c", "  "});
  CHECK(byte_level_words("\n\nx\ty") == Words{"\n", "\n", "x", "\t", "y"});
  CHECK(byte_level_words("no1 2go!? $5") == Words{"no", "1", " 2", "go", "!?", " $", "5"});
  CHECK(byte_level_words("\u00e9\u00a0\u00a0\u4e2d \u0301") == Words{"\u00e9", "\u00a0", "\u00a0", "\u4e2d", " \u0301"});
}

TEST_CASE("merges: the best first, then from the left", "[text][byte_bpe]") {
  const Tokenizer tokenizer = open(tiny({{"a", "a"}, {"b", "c"}, {"a", "b"}, {"aa", "a"}, {"ab", "c"}}));
  CHECK(tokenizer.encode("aaaaa") == Ids{256, 259});
  CHECK(tokenizer.encode("abc") == Ids{'a', 257});  // b c comes before a b
  CHECK(tokenizer.encode("abab") == Ids{258, 258});
  CHECK(tokenizer.encode("xaay") == Ids{'x', 256, 'y'});
  CHECK(tokenizer.encode("").empty());
}

TEST_CASE("a merge that is listed twice has the rank of the last one", "[text][byte_bpe]") {
  CHECK(open(tiny({{"a", "b"}, {"b", "c"}})).encode("abc") == Ids{256, 'c'});
  CHECK(open(tiny({{"a", "b"}, {"b", "c"}, {"a", "b"}})).encode("abc") == Ids{'a', 257});
}

TEST_CASE("a long word is merged in reasonable time", "[text][byte_bpe]") {
  const Tokenizer tokenizer = Tokenizer::open(kFolder);
  const std::string text(1 << 20, 'x');
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("the length is limited, special tokens included", "[text][byte_bpe]") {
  json file = shipped();
  CHECK(open(file).encode("abcdef", 2).size() == 2);
  CHECK(open(file).encode("abcdef", 1000) == open(file).encode("abcdef"));
  file["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {{{"SpecialToken", {{"id", "<|endoftext|>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                            {"pair", json::array()},
                            {"special_tokens", {{"<|endoftext|>", {{"id", "<|endoftext|>"}, {"ids", {0}}, {"tokens", {"<|endoftext|>"}}}}}}};
  const Tokenizer framed = open(file);
  Ids expected = open(shipped()).encode("a b c");
  expected.insert(expected.begin(), 0);
  CHECK(framed.encode("a b c") == expected);
  CHECK(framed.encode("a b c", 2) == Ids{expected[0], expected[1]});
  CHECK(framed.encode("") == Ids{0});
  file["post_processor"] = nullptr;
  CHECK(open(file).encode("") == Ids{});
  CHECK_THROWS_WITH(framed.encode("a", -1), "max_length: too short for the special tokens; expected at least 1, got -1");
}

TEST_CASE("bytes that are not UTF-8 count as U+FFFD for byte-level BPE, too", "[text][byte_bpe]") {
  const Tokenizer tokenizer = Tokenizer::open(kFolder);
  CHECK(tokenizer.encode("caf\xC3 a\x80") == tokenizer.encode("caf\uFFFD a\uFFFD"));
}

TEST_CASE("byte-level tokens, ids and bytes", "[text][byte_bpe]") {
  const Tokenizer tokenizer = Tokenizer::open(kFolder);
  CHECK(tokenizer.vocab_size() == 1500);
  CHECK(tokenizer.id_of("<|endoftext|>") == 0);
  CHECK(tokenizer.id_of("no such token") == std::nullopt);
  CHECK(tokenizer.eos_id() == 0);
  CHECK(tokenizer.pad_id() == std::nullopt);
  const std::optional<std::int32_t> t = tokenizer.id_of("\u0120t");
  REQUIRE(t);
  CHECK(tokenizer.token_of(*t) == "\u0120t");
  CHECK(tokenizer.decode(std::vector{*t, *t}) == " t t");
  const Ids e_acute = {*tokenizer.id_of("\u00c3"), *tokenizer.id_of("\u00a9")};
  CHECK(tokenizer.decode(std::span(e_acute).first(1)) == "\uFFFD");  // half a character
  CHECK(tokenizer.decode(e_acute) == "\u00e9");
  CHECK_THROWS_WITH(tokenizer.decode(std::vector{1500}), "token id 1500: not in the vocabulary; expected 0 to 1499");
  CHECK_THROWS_AS(tokenizer.token_of(-1), Error);
}

TEST_CASE("threads may share a byte-level BPE, and a copy stands alone", "[text][byte_bpe]") {
  auto original = std::make_unique<Tokenizer>(Tokenizer::open(kFolder));
  const Tokenizer tokenizer = *original;
  original.reset();
  const Ids expected = tokenizer.encode("Sharing is caring, caf\u00e9s!");
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) result = tokenizer.encode("Sharing is caring, caf\u00e9s!");
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) CHECK(result == expected);
}

TEST_CASE("byte-level tokenizer.json as older files have it", "[text][byte_bpe]") {
  json file = shipped();
  for (json& merge : file["model"]["merges"]) merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  file["model"].erase("type");
  file["model"].erase("byte_fallback");
  file["model"].erase("ignore_merges");
  file["model"]["continuing_subword_prefix"] = "";
  file["model"]["end_of_word_suffix"] = "";
  file["model"]["unk_token"] = "<|endoftext|>";
  file["pre_tokenizer"].erase("use_regex");
  check_nasty_hashes(open(file));
}

TEST_CASE("tokens that end and pad a text", "[text][byte_bpe]") {
  const TemporaryFolder folder;
  SECTION("tokenizer.json") { std::filesystem::copy(kFolder / "tokenizer.json", folder / "tokenizer.json"); }
  SECTION("vocab.json and merges.txt") { copy_vocab_and_merges(folder); }
  CHECK(Tokenizer::open(folder.path()).eos_id() == 0);
  folder.file("special_tokens_map.json", R"({"eos_token": "!", "pad_token": {"content": "\"", "lstrip": false}})");
  CHECK(Tokenizer::open(folder.path()).eos_id() == 1);
  CHECK(Tokenizer::open(folder.path()).pad_id() == 2);
  folder.file("tokenizer_config.json", R"({"eos_token": "#", "pad_token": null})");
  CHECK(Tokenizer::open(folder.path()).eos_id() == 3);
  CHECK(Tokenizer::open(folder.path()).pad_id() == 2);
  folder.file("tokenizer_config.json", R"({"pad_token": "<pad>"})");
  CHECK_THAT(error_text([&] { Tokenizer::open(folder.path()); }), Contains("tokenizer_config.json: pad_token: not a token of this tokenizer; got \"<pad>\""));
}

TEST_CASE("vocab.json and merges.txt with the settings beside them", "[text][byte_bpe]") {
  const TemporaryFolder folder;
  copy_vocab_and_merges(folder);
  const Ids a = Tokenizer::open(folder.path()).encode("a"), blank_a = Tokenizer::open(folder.path()).encode(" a");
  CHECK(Tokenizer::open(folder.path()).encode("a<|endoftext|>a") == Ids{a[0], 0, a[0]});

  folder.file("tokenizer_config.json", R"({"add_prefix_space": true, "add_bos_token": true})");
  CHECK(Tokenizer::open(folder.path()).encode("a") == Ids{0, blank_a[0]});
  folder.file("tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "!"})");
  CHECK(Tokenizer::open(folder.path()).encode("a") == Ids{1, a[0]});
  folder.file("tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "<s>"})");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("add_bos_token: the token to begin with is not in the vocabulary; got \"<s>\""));

  folder.file("tokenizer_config.json", R"({"pad_token": "<pad>", "added_tokens_decoder": {"1500": {"content": "<pad>", "lstrip": true, "special": true}}})");
  CHECK(Tokenizer::open(folder.path()).encode("a <pad>a") == Ids{a[0], 1500, a[0]});
  CHECK(Tokenizer::open(folder.path()).pad_id() == 1500);
  folder.file("tokenizer_config.json", R"({"eos_token": {"content": "<|endoftext|>", "rstrip": true}})");
  folder.file("added_tokens.json", R"({"<url>": 1500})");
  CHECK(Tokenizer::open(folder.path()).encode("a<url><|endoftext|>  a") == Ids{a[0], 1500, 0, a[0]});
}

TEST_CASE("a byte without a token is left out, and notes() says so", "[text][byte_bpe]") {
  json file = tiny({});
  CHECK(open(file).notes().empty());
  file["model"]["vocab"].erase("q");
  file["model"]["vocab"]["no q"] = int{'q'};
  const Tokenizer without = open(file);
  REQUIRE(without.notes().size() == 1);
  CHECK_THAT(without.notes()[0], Contains("tokenizer.json: model: no token for 1 of the 256 bytes"));
  CHECK(without.encode("aqb") == Ids{'a', 'b'});
  file["model"]["unk_token"] = "!";
  CHECK(open(file).notes().empty());
}

TEST_CASE("byte-level tokenizer.json: what cannot be done is an error that names the field", "[text][byte_bpe]") {
  const json original = shipped();
  const auto refused = [&](const char* pointer, const json& value, const std::string& message) {
    json file = original;
    file[json::json_pointer(pointer)] = value;
    INFO(pointer);
    CHECK_THAT(error_text([&] { open(file); }), Contains("tokenizer.json" + message));
  };
  refused("/model/type", "Unigram", ": model: vocab: wrong type; expected a list of tokens and their scores");
  refused("/model/dropout", 0.1, ": model: dropout: not supported; expected null or 0, got 0.1");
  refused("/model/vocab", nullptr, ": model: vocab: is missing; expected an object from token to id");
  refused("/post_processor/type", "RobertaProcessing", ": post_processor: cls: wrong type; expected [token, id], got null");
  refused("/model/vocab/x", -1, ": model: vocab.x: not a token id");
  refused("/model/vocab/x", 4, ": two tokens have one id; got 4 for");
  refused("/model/merges", nullptr, ": model: merges: wrong type; expected a list of merges, got null");
  refused("/model/merges/3", "a  b", ": model: merges[3]: not a merge; expected two tokens with one blank between them, got \"a  b\"");
  refused("/model/merges/3", "ab", ": model: merges[3]: not a merge");
  refused("/model/merges/3", {"a", "b", "c"}, ": model: merges[3]: not a merge; expected two tokens, got 3");
  refused("/model/merges/3", 7, ": model: merges[3]: wrong type");
  refused("/model/merges/3", {"q", "q~q"}, ": model: merges[3]: \"q~q\" is not in the vocabulary (needed by merge 4, \"q q~q\")");
  refused("/model/merges/3", {"q", "~"}, ": model: merges[3]: \"q~\" is not in the vocabulary");
  refused("/pre_tokenizer/add_prefix_space", nullptr, ": pre_tokenizer: add_prefix_space: is null");
  refused("/added_tokens/0/id", 7, ": added_tokens: another id than in the vocabulary for \"<|endoftext|>\"; expected 0, got 7");
}

TEST_CASE("vocab.json and merges.txt: mistakes", "[text][byte_bpe]") {
  const TemporaryFolder folder;
  std::filesystem::copy(kFolder / "vocab.json", folder / "vocab.json");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("merges.txt"));
  folder.file("merges.txt", "#version: 0.2\r\nx x\r\n\r\n");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("merges.txt: line 3: not a merge"));
  folder.file("merges.txt", "#version: 0.2\r\nx x\r\n");
  CHECK(Tokenizer::open(folder.path()).encode("xx").size() == 1);
  folder.file("added_tokens.json", R"({"<url>": 1500, "!": 1501})");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("added_tokens.json: another id than in the vocabulary for \"!\"; expected 1, got 1501"));
  folder.file("added_tokens.json", "{}");
  folder.file("tokenizer_config.json", R"({"added_tokens_decoder": {"1501": {"content": "!"}}})");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("added_tokens_decoder.1501: another id than in the vocabulary for \"!\""));
  folder.file("vocab.json", "[]");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("vocab.json: wrong JSON; expected an object"));
  folder.file("vocab.json", R"({"a": "b"})");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("vocab.json: a: wrong type"));
}

TEST_CASE("places without a byte-level tokenizer", "[text][byte_bpe]") {
  CHECK_THROWS_WITH(Tokenizer::open(files::data / "no_such_folder"),
                    Contains("no such file or folder") && Contains("tokenizer.json, or vocab.txt, or vocab.json and merges.txt"));
  CHECK_THROWS_WITH(Tokenizer::open(files::data), Contains("no tokenizer in this folder"));
}
