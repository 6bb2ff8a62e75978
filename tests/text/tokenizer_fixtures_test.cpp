// Small tokenizers of every kind (tests/tokenizers/fixtures) beside what the Hugging Face library makes of awkward texts and of tweets.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/io/table.hpp"
#include "deltatune/tokenizers.hpp"
#include "support/temporary_folder.hpp"
#include "text/tokenizer_files.hpp"

using namespace deltatune;
namespace files = tokenizer_files;

namespace {

const std::filesystem::path kTokenizers = std::filesystem::path(DELTATUNE_TEST_DIR) / "tokenizers";
const std::filesystem::path kFixtures = kTokenizers / "fixtures";
constexpr std::size_t kShippedTweets = 200, kHashesOfText = 5, kTweetsOfHash = 256;

std::vector<std::string> nasty_texts() {
  std::vector<std::string> texts;
  for (const nlohmann::json& line : files::read_lines(kTokenizers / "nasty.jsonl")) texts.push_back(line.get<std::string>());
  return texts;
}

std::vector<std::string> read_texts(const std::filesystem::path& path, std::size_t most) {
  const Table table = read_table(path);
  const auto column = static_cast<std::size_t>(table.column("text"));
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < table.rows.size() && i < most; ++i) texts.push_back(table.rows[i][column]);
  return texts;
}

std::vector<std::string> nasty_texts_and_tweets() {
  std::vector<std::string> texts = nasty_texts();
  const std::vector<std::string> tweets = read_texts(std::filesystem::path(DELTATUNE_TEST_DIR).parent_path() / "examples/data/tweets_eval.csv", kShippedTweets);
  REQUIRE(tweets.size() == kShippedTweets);
  texts.insert(texts.end(), tweets.begin(), tweets.end());
  return texts;
}

std::uint32_t hash_of(const std::vector<TextSpan>& offsets, std::uint32_t hash = files::fnv1a("")) {
  for (const TextSpan& span : offsets) {
    const std::uint32_t ends[] = {span.begin, span.end};
    hash = files::fnv1a({reinterpret_cast<const char*>(ends), sizeof ends}, hash);
  }
  return hash;
}

std::uint32_t hash_of(const std::vector<std::int32_t>& ids, std::uint32_t hash) {
  return files::fnv1a({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(std::int32_t)}, hash);
}

std::vector<std::uint32_t> hashes_of_text(const Tokenizer& tokenizer, const std::string& text) {
  const Encoding encoding = tokenizer.encode_with_offsets(text);
  CHECK(encoding.ids == tokenizer.encode(text));
  std::string tokens;
  for (const std::string& token : encoding.tokens) tokens += token + '\xff';
  return {files::fnv1a(encoding.ids), hash_of(encoding.offsets), files::fnv1a(tokens), files::fnv1a(tokenizer.decode(encoding.ids)),
          files::fnv1a(tokenizer.decode(encoding.ids, true))};
}

std::uint32_t hash_of_pair(const Tokenizer& tokenizer, const std::string& first, const std::string& second, const EncodeOptions& options) {
  try {
    const Encoding encoding = tokenizer.encode_with_offsets(first, second, options);
    return hash_of(encoding.offsets, hash_of(encoding.token_types, files::fnv1a(encoding.ids)));
  } catch (const Error&) {  // the text that may be cut is too short
    return 0;
  }
}

// As make_fixtures.py has them.
std::vector<EncodeOptions> cuts() {
  return {{},
          {.max_length = 9},
          {.max_length = 12, .cut_side = Side::kLeft},
          {.max_length = 24, .truncation = Truncation::kOnlyFirst},
          {.max_length = 24, .truncation = Truncation::kOnlySecond, .cut_side = Side::kLeft}};
}

std::string kind() {
  return GENERATE(as<std::string>{}, "albert", "bert-cased", "clip", "deepseek", "falcon", "gemma", "llama", "llama-metaspace", "llama3", "modernbert", "qwen2",
                  "roberta", "t5", "words", "xlm-roberta");
}

}  // namespace

TEST_CASE("tokenizers of every kind: ids, offsets, tokens and decoded text are those of the Hugging Face library", "[text][tokenizers]") {
  const std::string name = kind();
  CAPTURE(name);
  const Tokenizer tokenizer = open_tokenizer(kFixtures / name);
  const std::vector<std::uint32_t> golden = files::read_hashes(kFixtures / name / "texts.fnv32");
  const std::vector<std::string> texts = nasty_texts_and_tweets();
  REQUIRE(golden.size() == kHashesOfText * texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i, texts[i]);
    const auto first = golden.begin() + static_cast<std::ptrdiff_t>(kHashesOfText * i);
    // ids, offsets, tokens, decoded, decoded without special tokens; tests/tokenizers/check_with_tokenizers.py shows what differs
    CHECK(hashes_of_text(tokenizer, texts[i]) == std::vector<std::uint32_t>(first, first + kHashesOfText));
  }
}

TEST_CASE("tokenizers of every kind: pairs, whole and cut", "[text][tokenizers]") {
  const std::string name = kind();
  CAPTURE(name);
  const Tokenizer tokenizer = open_tokenizer(kFixtures / name);
  const std::vector<std::uint32_t> golden = files::read_hashes(kFixtures / name / "pairs.fnv32");
  const std::vector<std::string> texts = nasty_texts();
  std::size_t next = 0;
  for (std::size_t i = 0; i + 7 < texts.size(); i += 3) {
    for (const EncodeOptions& options : cuts()) {
      CAPTURE(texts[i], texts[i + 7], options.max_length);
      REQUIRE(next < golden.size());
      CHECK(hash_of_pair(tokenizer, texts[i], texts[i + 7], options) == golden[next++]);
    }
  }
  CHECK(next == golden.size());
}

TEST_CASE("tokenizers of every kind: a batch by several threads has the ids of single texts", "[text][tokenizers]") {
  const std::string name = kind();
  CAPTURE(name);
  const Tokenizer tokenizer = open_tokenizer(kFixtures / name);
  const std::vector<std::string> texts = nasty_texts();
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  for (const unsigned threads : {1U, 3U}) {
    const EncodedBatch batch = tokenizer.encode_batch(views, {}, threads);
    REQUIRE(batch.size() == texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      CAPTURE(threads, texts[i]);
      CHECK(std::vector<std::int32_t>(batch[i].begin(), batch[i].end()) == tokenizer.encode(texts[i]));
    }
  }
}

TEST_CASE("tokenizers of sentencepiece's files alone have the ids that transformers' converters give them", "[text][tokenizers]") {
  const std::string name = GENERATE(as<std::string>{}, "albert", "gemma", "llama", "t5", "xlm-roberta");
  CAPTURE(name);
  const std::filesystem::path folder = kFixtures / (name + "-model");
  const Tokenizer tokenizer = open_tokenizer(folder);
  const std::vector<std::uint32_t> golden = files::read_hashes((name == "xlm-roberta" ? folder : kFixtures / name) / "texts.fnv32");
  const std::vector<std::string> texts = nasty_texts_and_tweets();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i, texts[i]);
    CHECK(files::fnv1a(tokenizer.encode(texts[i])) == golden.at(kHashesOfText * i));
  }
}

// Of so many hashes one: code with sanitizers in it is fifty times slower.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr std::size_t kEvery = 16;
#else
constexpr std::size_t kEvery = 1;
#endif
#else
constexpr std::size_t kEvery = 1;
#endif

TEST_CASE("what a normalizer puts in front stands where its part of the text begins", "[text][tokenizers]") {
  const test::TemporaryFolder folder;
  folder.file(
      "tokenizer.json",
      R"({"added_tokens": [{"id": 1, "content": "<url>", "normalized": false}], "normalizer": {"type": "Replace", "pattern": {"Regex": "x*"}, "content": "-"},
    "pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}})");
  const Encoding encoding = open_tokenizer(folder.path()).encode_with_offsets("<url>b");  // <url> - b -
  CHECK(encoding.ids == std::vector<std::int32_t>{1, 0, 0, 0});
  CHECK(encoding.offsets == std::vector<TextSpan>{{0, 5}, {5, 5}, {5, 6}, {5, 6}});  // as tokenizers 0.22.2 has them
}

TEST_CASE("tokenizers of every kind: 38,158 tweets", "[text][tokenizers]") {
  const auto tweets = files::from_environment("DELTATUNE_TWEETS");
  if (!tweets) {
    WARN("SKIPPED: set DELTATUNE_TWEETS to the tweets' csv file");
    return;
  }
  const std::string name = kind();
  CAPTURE(name);
  const Tokenizer tokenizer = open_tokenizer(kFixtures / name);
  const std::vector<std::uint32_t> golden = files::read_hashes(kFixtures / name / "tweets.fnv32");
  const std::vector<std::string> texts = read_texts(*tweets, std::string::npos);
  REQUIRE(golden.size() == 2 * ((texts.size() + kTweetsOfHash - 1) / kTweetsOfHash));
  for (std::size_t begin = 0; begin < texts.size(); begin += kEvery * kTweetsOfHash) {
    std::uint32_t ids = files::fnv1a(""), offsets = files::fnv1a("");
    for (std::size_t i = begin; i < std::min(begin + kTweetsOfHash, texts.size()); ++i) {
      const Encoding encoding = tokenizer.encode_with_offsets(texts[i]);
      ids = hash_of(encoding.ids, ids);
      offsets = hash_of(encoding.offsets, offsets);
    }
    CAPTURE(begin);
    CHECK(ids == golden[2 * (begin / kTweetsOfHash)]);
    CHECK(offsets == golden[2 * (begin / kTweetsOfHash) + 1]);
  }
}
