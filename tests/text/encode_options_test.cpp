#include <catch2/catch.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/text/tokenizer.hpp"
#include "text/tokenizer_files.hpp"

using namespace deltatune;
using Catch::Contains;
using nlohmann::json;
namespace files = tokenizer_files;

namespace {

using Ids = std::vector<std::int32_t>;

// Words a to i are 1 to 9, around them 10 and 11.
json letters() {
  json vocabulary{{"?", 0}, {"[CLS]", 10}, {"[SEP]", 11}};
  for (int i = 0; i < 9; ++i) vocabulary[std::string(1, static_cast<char>('a' + i))] = i + 1;
  return {{"added_tokens", {{{"id", 10}, {"content", "[CLS]"}, {"special", true}}, {{"id", 11}, {"content", "[SEP]"}, {"special", true}}}},
          {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
          {"post_processor", {{"type", "BertProcessing"}, {"sep", {"[SEP]", 11}}, {"cls", {"[CLS]", 10}}}},
          {"model", {{"type", "WordLevel"}, {"unk_token", "?"}, {"vocab", vocabulary}}}};
}

}  // namespace

// As tokenizers 0.22 cuts: Tokenizer.enable_truncation(max_length, strategy, direction).
TEST_CASE("truncation: three strategies, two sides", "[text][encode_options]") {
  const Tokenizer tokenizer = files::parsed(letters());
  const std::string_view six = "a b c d e f", three = "g h i";
  CHECK(tokenizer.encode(six, EncodeOptions{.max_length = 5}) == Ids{10, 1, 2, 3, 11});
  CHECK(tokenizer.encode(six, EncodeOptions{.max_length = 5, .cut_side = Side::kLeft}) == Ids{10, 4, 5, 6, 11});
  CHECK(tokenizer.encode(six, EncodeOptions{.max_length = 5, .special_tokens = false}) == Ids{1, 2, 3, 4, 5});
  CHECK(tokenizer.encode(six, EncodeOptions{.max_length = 2}) == Ids{10, 11});
  CHECK(tokenizer.encode(six, EncodeOptions{.max_length = 3, .truncation = Truncation::kOnlyFirst}) == Ids{10, 1, 11});
  const auto pair = [&](Index length, Truncation truncation, Side side = Side::kRight) {
    return tokenizer.encode_pair(six, three, EncodeOptions{.max_length = length, .truncation = truncation, .cut_side = side}).ids;
  };
  CHECK(pair(10, Truncation::kLongestFirst) == Ids{10, 1, 2, 3, 4, 11, 7, 8, 9, 11});
  CHECK(pair(8, Truncation::kLongestFirst) == Ids{10, 1, 2, 3, 11, 7, 8, 11});
  CHECK(pair(8, Truncation::kLongestFirst, Side::kLeft) == Ids{10, 4, 5, 6, 11, 8, 9, 11});
  CHECK(pair(9, Truncation::kOnlyFirst) == Ids{10, 1, 2, 3, 11, 7, 8, 9, 11});
  CHECK(pair(10, Truncation::kOnlySecond, Side::kLeft) == Ids{10, 1, 2, 3, 4, 5, 6, 11, 9, 11});
  CHECK_THROWS_WITH(pair(9, Truncation::kOnlySecond),
                    "truncation: the second text is too short to make up for the other one's length; expected more than 3 tokens in it, got 3");
  CHECK_THROWS_WITH(tokenizer.encode(six, EncodeOptions{.max_length = 3, .truncation = Truncation::kOnlySecond}),
                    "truncation: only_second needs a second text");
  CHECK_THROWS_WITH(pair(2, Truncation::kLongestFirst), "max_length: too short for the special tokens; expected at least 3, got 2");
}

TEST_CASE("offsets count the characters of each text", "[text][encode_options]") {
  const Encoding encoding = files::parsed(letters()).encode_with_offsets("\u00e9 a[SEP]b", "c");
  CHECK(encoding.ids == Ids{10, 0, 1, 11, 2, 11, 3, 11});
  CHECK(encoding.token_types == Ids{0, 0, 0, 0, 0, 0, 1, 1});
  CHECK(encoding.tokens == std::vector<std::string>{"[CLS]", "?", "a", "[SEP]", "b", "[SEP]", "c", "[SEP]"});
  CHECK(encoding.offsets == std::vector<TextSpan>{{0, 0}, {0, 1}, {2, 3}, {3, 8}, {8, 9}, {0, 0}, {0, 1}, {0, 0}});
}

TEST_CASE("a batch is its texts one by one, for any number of threads", "[text][encode_options]") {
  const Tokenizer tokenizer = files::parsed(letters());
  std::vector<std::string> texts;
  for (int i = 0; i < 1000; ++i) {
    std::string text;
    for (int j = 0; j < i % 23; ++j) text += std::string(1, static_cast<char>('a' + (i * 7 + j) % 9)) + (j % 5 == 4 ? "[SEP]" : " ");
    texts.push_back(text);
  }
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  for (std::size_t i = 0; i + 1 < views.size(); ++i) pairs.emplace_back(views[i], views[i + 1]);
  for (const unsigned threads : {1U, 2U, 7U}) {
    const EncodedBatch batch = tokenizer.encode_batch(views, {.max_length = 12}, threads);
    REQUIRE(batch.size() == views.size());
    CHECK(batch.token_types.empty());
    for (std::size_t i = 0; i < views.size(); ++i) REQUIRE(Ids(batch[i].begin(), batch[i].end()) == tokenizer.encode(views[i], 12));
    const EncodedBatch both = tokenizer.encode_batch(pairs, {.max_length = 12}, threads);
    REQUIRE(both.size() == pairs.size());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const EncodedPair pair = tokenizer.encode_pair(pairs[i].first, pairs[i].second, 12);
      REQUIRE(Ids(both[i].begin(), both[i].end()) == pair.ids);
      REQUIRE(Ids(both.token_types.begin() + static_cast<std::ptrdiff_t>(both.begins[i]),
                  both.token_types.begin() + static_cast<std::ptrdiff_t>(both.begins[i + 1])) == pair.token_types);
    }
    CHECK_THROWS_WITH(tokenizer.encode_batch(views, {.max_length = 1}, threads), Contains("max_length: too short"));
    CHECK(tokenizer.encode_batch(std::vector<std::string_view>(), {}, threads).size() == 0);
  }
}

TEST_CASE("a word that comes again has the ids of the first time", "[text][encode_options]") {
  json file = {{"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}},
               {"model",
                {{"type", "BPE"},
                 {"unk_token", "?"},
                 {"fuse_unk", true},
                 {"vocab", {{"?", 0}, {"\u2581", 1}, {"a", 2}, {"b", 3}, {"ab", 4}, {"\u2581ab", 5}}},
                 {"merges", {"a b", "\u2581 ab"}}}}};
  const auto check = [&](const Ids& expected) {
    const Tokenizer tokenizer = files::parsed(file);
    for (int i = 0; i < 3; ++i) CHECK(tokenizer.encode("ab ab  abx xab ab") == expected);
    CHECK(tokenizer.encode_with_offsets("ab ab  abx xab ab").ids == expected);
  };
  check({4, 5, 1, 5, 0, 1, 0, 4, 5});
  // A merge that goes into the next word's mark: words are no longer alone.
  file["model"]["vocab"]["ab\u2581"] = 6;
  file["model"]["merges"] = {"a b", "ab \u2581", "\u2581 ab"};
  check({6, 6, 5, 0, 1, 0, 6, 4});
  // Without an unknown token characters vanish, and the marks around them merge.
  file["model"] = {{"type", "BPE"}, {"vocab", {{"\u2581", 1}, {"a", 2}, {"\u2581\u2581", 3}}}, {"merges", {"\u2581 \u2581"}}};
  CHECK(files::parsed(file).encode("a x a") == Ids{2, 3, 2});
}
