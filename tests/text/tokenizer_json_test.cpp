#include "deltatune/text/tokenizer_json.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>

#include "text/tokenizer_files.hpp"

using namespace deltatune;
using Catch::Contains;
using nlohmann::json;

namespace {

using Ids = std::vector<std::int32_t>;

// A folder of its own for each test, removed at its end.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("deltatune_tokenizer_json_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ / name, std::ios::binary) << text; }

 private:
  std::filesystem::path path_;
};

json special(const char* id, int type) { return {{"SpecialToken", {{"id", id}, {"type_id", type}}}}; }
json sequence(const char* id, int type) { return {{"Sequence", {{"id", id}, {"type_id", type}}}}; }
json known_token(const char* id, int number) { return {{"id", id}, {"ids", {number}}, {"tokens", {id}}}; }

json tiny() {
  return {{"version", "1.0"},
          {"truncation", {{"max_length", 3}}},
          {"padding", {{"strategy", {{"Fixed", 8}}}}},
          {"added_tokens",
           {{{"id", 2}, {"content", "[CLS]"}, {"special", true}, {"normalized", false}},
            {{"id", 3}, {"content", "[SEP]"}, {"special", true}, {"normalized", false}}}},
          {"normalizer", {{"type", "BertNormalizer"}, {"clean_text", true}, {"handle_chinese_chars", true}, {"strip_accents", nullptr}, {"lowercase", true}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)}},
            {"pair", {special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0), sequence("B", 1), special("[SEP]", 1)}},
            {"special_tokens", {{"[CLS]", known_token("[CLS]", 2)}, {"[SEP]", known_token("[SEP]", 3)}}}}},
          {"model",
           {{"type", "WordPiece"},
            {"unk_token", "[UNK]"},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 100},
            {"vocab", {{"[PAD]", 0}, {"[UNK]", 1}, {"[CLS]", 2}, {"[SEP]", 3}, {"a", 4}, {"##b", 5}, {"A", 6}, {"\u00e9", 7}, {"e", 8}, {"@@b", 9}}}}}};
}

Tokenizer load(const json& tokenizer) {
  const Folder folder;
  folder.write("tokenizer.json", tokenizer.dump());
  return Tokenizer::open(folder.path());
}

std::string error_of(const json& tokenizer) {
  try {
    load(tokenizer);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("tokenizer.json: the frame, with truncation and padding left to the caller", "[text][tokenizer_json]") {
  const Tokenizer tokenizer = load(tiny());
  CHECK(tokenizer.encode("Ab a [SEP] zz", 100) == Ids{2, 4, 5, 4, 3, 1, 3});
  const EncodedPair pair = tokenizer.encode_pair("a", "ab", 100);
  CHECK(pair.ids == Ids{2, 4, 3, 4, 5, 3});
  CHECK(pair.token_types == Ids{0, 0, 0, 1, 1, 1});
}

TEST_CASE("tokenizer.json: every normaliser field is honoured", "[text][tokenizer_json]") {
  json file = tiny();
  json& normalizer = file["normalizer"];
  const std::string text = "A \u00c9";
  CHECK(load(file).encode(text, 100) == Ids{2, 4, 8, 3});
  normalizer["lowercase"] = false;
  CHECK(load(file).encode(text + " \u00e9", 100) == Ids{2, 6, 1, 7, 3});
  normalizer["strip_accents"] = true;
  CHECK(load(file).encode("A \u00e9", 100) == Ids{2, 6, 8, 3});
  normalizer["lowercase"] = true;
  normalizer["strip_accents"] = false;
  CHECK(load(file).encode(text, 100) == Ids{2, 4, 7, 3});
  CHECK(load(file).encode("a\x01", 100) == Ids{2, 4, 3});
  normalizer["clean_text"] = false;
  CHECK(load(file).encode("a\x01", 100) == Ids{2, 1, 3});
  CHECK(load(file).encode("a\u4e2d", 100) == Ids{2, 4, 1, 3});
  normalizer["handle_chinese_chars"] = false;
  CHECK(load(file).encode("a\u4e2d", 100) == Ids{2, 1, 3});
  file["normalizer"] = nullptr;
  CHECK(load(file).encode("A\u4e2d A \u00e9", 100) == Ids{2, 1, 6, 7, 3});
}

TEST_CASE("tokenizer.json: every model field is honoured", "[text][tokenizer_json]") {
  json file = tiny();
  file["model"]["continuing_subword_prefix"] = "@@";
  CHECK(load(file).encode("ab", 100) == Ids{2, 4, 9, 3});
  file["model"]["unk_token"] = "[PAD]";
  CHECK(load(file).encode("zz", 100) == Ids{2, 0, 3});
  file["model"]["max_input_chars_per_word"] = 1;
  CHECK(load(file).encode("a ab", 100) == Ids{2, 4, 0, 3});
  file["model"].erase("type");  // as in older files
  CHECK(load(file).encode("a", 100) == Ids{2, 4, 3});
}

TEST_CASE("tokenizer.json: post-processors", "[text][tokenizer_json]") {
  json file = tiny();
  file["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}};
  CHECK(load(file).encode("a", 100) == Ids{2, 4, 3});
  CHECK(load(file).encode_pair("a", "a", 100).token_types == Ids{0, 0, 0, 1, 1});
  file["post_processor"] = nullptr;
  CHECK(load(file).encode("a", 100) == Ids{4});
  CHECK(load(file).encode_pair("a", "a", 100).token_types == Ids{0, 1});
  file["post_processor"] = tiny()["post_processor"];
  file["post_processor"]["special_tokens"]["[CLS]"]["ids"] = {2, 2};
  CHECK(load(file).encode("a", 4) == Ids{2, 2, 4, 3});
}

TEST_CASE("tokenizer.json: what cannot be done is an error that names the field", "[text][tokenizer_json]") {
  json file = tiny();
  const auto refused = [&](const std::string& part) {
    INFO(part);
    CHECK_THAT(error_of(file), Contains("tokenizer.json: " + part));
  };
  SECTION("unknown stages") {
    file["normalizer"]["type"] = "Spellcheck";
    refused("normalizer: type: is not known; expected BertNormalizer, NFC,");
    file = tiny();
    file["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Sequence"}, {"normalizers", {{{"type", "Upper"}}}}}}}};
    refused("normalizer: normalizers[1]: normalizers[0]: type: is not known;");
    file = tiny();
    file["pre_tokenizer"]["type"] = "Letters";
    refused("pre_tokenizer: type: is not known; expected BertPreTokenizer, Whitespace,");
    file = tiny();
    file["model"]["type"] = "Trigram";
    refused("model: type: is not known; expected WordPiece, BPE, Unigram or WordLevel, got Trigram");
    file = tiny();
    file["model"].erase("unk_token");  // which the Python library does not guess either
    refused("model: unk_token: is missing");
    file = tiny();
    file["post_processor"]["type"] = "Padding";
    refused("post_processor: type: is not known;");
    file = tiny();
    file["decoder"] = {{"type", "CTC"}};
    refused("decoder: type: is not known; expected ByteLevel,");
  }
  SECTION("missing parts") {
    file.erase("model");
    refused("model: is missing");
    file = tiny();
    file["model"].erase("vocab");
    refused("model: vocab: is missing");
    file = tiny();
    file["post_processor"]["special_tokens"].erase("[SEP]");
    refused("post_processor: special_tokens: [SEP]: is missing");
    file = tiny();
    file["added_tokens"][1].erase("content");
    refused("added_tokens[1]: content: is missing");
  }
  SECTION("wrong types and values") {
    file["model"]["vocab"] = json::array({"a", "b"});
    refused("model: vocab[0]: wrong type; expected a token and its score, got string");
    file = tiny();
    file["model"]["vocab"]["a"] = "four";
    refused("model: vocab.a: wrong type; expected an integer");
    file = tiny();
    file["model"]["vocab"]["a"] = -4;
    refused("model: vocab.a: not a token id; expected 0 to 2147483647, got -4");
    file = tiny();
    file["model"]["max_input_chars_per_word"] = -1;
    refused("model: max_input_chars_per_word: is negative; got -1");
    file = tiny();
    file["normalizer"]["lowercase"] = "yes";
    refused("normalizer: lowercase: wrong type; expected true or false");
    file = tiny();
    file["added_tokens"] = 3;
    refused("added_tokens: wrong type; expected a list of objects");
    file = tiny();
    file["added_tokens"][0] = "[CLS]";
    refused("added_tokens[0]: wrong JSON");
    file = tiny();
    file["added_tokens"][0]["id"] = 2147483648;
    refused("added_tokens[0]: id: not a token id");
    file = tiny();
    file["post_processor"] = {{"type", "BertProcessing"}, {"sep", "[SEP]"}, {"cls", {"[CLS]", 2}}};
    refused("post_processor: sep: wrong type; expected [token, id]");
  }
  SECTION("templates") {
    file["post_processor"]["single"][1]["Sequence"]["id"] = "B";
    refused("post_processor: single[1]: Sequence: id: no such sequence; expected A, got B");
    file = tiny();
    file["post_processor"]["single"].erase(1);
    refused("post_processor: single: not a template; expected A");
    file = tiny();
    file["post_processor"]["pair"].erase(3);
    refused("post_processor: pair: not a template; expected both A and B");
    file = tiny();
    file["post_processor"].erase("pair");
    CHECK_FALSE(load(file).has_pairs());
    CHECK_THROWS_WITH(load(file).encode_pair("a", "b"), "tokenizer: has no pairs of texts (join the two into one text)");
  }
}

TEST_CASE("tokenizer.json: not JSON", "[text][tokenizer_json]") {
  const Folder folder;
  folder.write("tokenizer.json", "{\"model\": ");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("tokenizer.json: not valid JSON"));
}

TEST_CASE("vocab.txt: settings of tokenizer_config.json", "[text][tokenizer_json]") {
  const Folder folder;
  folder.write("vocab.txt", "[PAD]\r\n[UNK]\r\n<s>\r\n</s>\r\na\r\n##b\r\nA\r\n\u00e9");
  folder.write("tokenizer_config.json", R"({"do_lower_case": false, "cls_token": "<s>", "sep_token": {"content": "</s>", "lstrip": false}})");
  CHECK(Tokenizer::open(folder.path()).encode("A ab \u00e9 [MASK]", 100) == Ids{2, 6, 4, 5, 7, 1, 1, 1, 3});
  CHECK(Tokenizer::open(folder.path()).encode("a</s>a[PAD]", 100) == Ids{2, 4, 3, 4, 0, 3});
  folder.write("tokenizer_config.json", R"({"strip_accents": false, "cls_token": "<s>", "sep_token": "</s>"})");
  CHECK(Tokenizer::open(folder.path()).encode("A \u00c9", 100) == Ids{2, 4, 7, 3});
  folder.write("tokenizer_config.json", R"({"tokenize_chinese_chars": false, "cls_token": "<s>", "sep_token": "</s>"})");
  CHECK(Tokenizer::open(folder.path()).encode("a\u4e2d", 100) == Ids{2, 1, 3});
}

TEST_CASE("vocab.txt: added tokens of tokenizer_config.json", "[text][tokenizer_json]") {
  const Folder folder;
  folder.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n");
  folder.write("tokenizer_config.json",
               R"({"added_tokens_decoder": {"4": {"content": "[MASK]", "lstrip": true, "special": true}, "6": {"content": "<URL>"}}})");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  CHECK(tokenizer.encode("a<url> [MASK]", 100) == Ids{2, 5, 6, 4, 3});
  CHECK(tokenizer.vocab_size() == 7);
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {"4x": {"content": "[MASK]"}}})");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("tokenizer_config.json: added_tokens_decoder.4x: not a token id"));
}

TEST_CASE("vocab.txt: mistakes", "[text][tokenizer_json]") {
  const Folder folder;
  folder.write("vocab.txt", "[UNK]\n[CLS]\na\n");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("vocab.txt: has no token [SEP]"));
  folder.write("vocab.txt", "[CLS]\n[SEP]\na\n");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("vocab.txt: the unknown token [UNK] is not in the vocabulary"));
  folder.write("vocab.txt", "[CLS]\n[SEP]\n\xFF\n");
  CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("vocab.txt: line 3: not UTF-8"));
  folder.write("vocab.txt", "");
  CHECK_THROWS_AS(Tokenizer::open(folder.path()), Error);
}
