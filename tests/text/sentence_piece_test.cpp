#include "deltatune/text/sentence_piece.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "deltatune/text/tokenizer.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using namespace deltatune;
using Catch::Contains;
using test::error_text;

namespace {

using Ids = std::vector<std::int32_t>;

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7U) bytes.push_back(static_cast<char>(static_cast<unsigned char>(value | 0x80U)));
  bytes.push_back(static_cast<char>(static_cast<unsigned char>(value)));
  return bytes;
}

std::string field(std::uint64_t number, const std::string& bytes) { return varint(number << 3U | 2U) + varint(bytes.size()) + bytes; }
std::string field(std::uint64_t number, std::uint64_t value) { return varint(number << 3U) + varint(value); }

std::string piece(const std::string& text, float score, std::uint64_t type = 1) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &score, 4);
  return field(1, field(1, text) + varint(2U << 3U | 5U) + bytes + field(3, type));
}

// <unk> <s> </s> and three that can be taken, one of them two ways.
std::string model(std::uint64_t type) {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\u2581a", -1) + piece("\u2581", -3) + piece("a", -2) + piece("ab", -1.5F) +
         piece("b", -4) + field(2, field(3, type) + field(40, 0));
}

// The ids that AutoTokenizer of transformers 4.57 gives follow from the family's vocabulary and special tokens.
struct Family {
  std::string model_type, file;
  std::uint64_t type;
  Ids a_ab;  // of "a ab"
};

}  // namespace

TEST_CASE("a SentencePiece model alone is the tokenizer of its family", "[text][sentence_piece]") {
  const std::vector<Family> families{{"xlm-roberta", "sentencepiece.bpe.model", 1, {0, 4, 5, 7, 2}},
                                     {"camembert", "sentencepiece.bpe.model", 1, {5, 7, 8, 10, 6}},
                                     {"t5", "spiece.model", 1, {3, 4, 6, 2}},
                                     {"llama", "tokenizer.model", 2, {1, 3, 3, 7}},
                                     {"mistral", "tokenizer.model", 1, {1, 3, 4, 6}}};
  for (const Family& family : families) {
    INFO(family.model_type);
    const test::TemporaryFolder folder;
    folder.file(family.file, model(family.type));
    folder.file("config.json", "{\"model_type\": \"" + family.model_type + "\"}");
    const Tokenizer tokenizer = Tokenizer::open(folder.path());
    CHECK(tokenizer.encode("a ab") == family.a_ab);
    CHECK(tokenizer.decode(tokenizer.encode("a ab"), true) == "a ab");
  }
}

TEST_CASE("settings beside a SentencePiece model", "[text][sentence_piece]") {
  const test::TemporaryFolder folder;
  folder.file("tokenizer.model", model(2));
  folder.file("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": false, "add_eos_token": true, "legacy": false})");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  CHECK(tokenizer.encode("a") == Ids{3, 2});
  CHECK(tokenizer.encode("</s>a") == Ids{2, 5, 2});  // not first: no blank in front
  CHECK(tokenizer.encode_pair("a", "b").token_types == Ids{0, 0, 1, 1, 1});
  CHECK(tokenizer.bos_id() == 1);
  CHECK(tokenizer.eos_id() == 2);
}

TEST_CASE("SentencePiece models: mistakes", "[text][sentence_piece]") {
  const test::TemporaryFolder folder;
  const auto error = [&](const std::string& bytes, const std::string& family) {
    folder.file("spiece.model", bytes);
    folder.file("config.json", "{\"model_type\": \"" + family + "\"}");
    return error_text([&] { Tokenizer::open(folder.path()); });
  };
  CHECK_THAT(error(model(1), "bart"),
             Contains("spiece.model: does not say how a bart model cuts a text into tokens; expected tokenizer.json, or the folder of an XLM-"));
  CHECK_THAT(error(model(3), "t5"), Contains("spiece.model: trainer_spec: model_type: not supported; expected 1 (unigram) or 2 (BPE), got 3"));
  CHECK_THAT(error("", "t5"), Contains("spiece.model: is no SentencePiece model: it has no pieces"));
  CHECK_THAT(error(model(1) + '\x0F', "t5"), Contains("is no protocol buffer"));
  CHECK_THAT(error(piece("x", 0) + "\x0A\x7Fx", "t5"), Contains("is truncated or corrupt"));
  CHECK_THAT(error(piece("\xFF", 0), "t5"), Contains("spiece.model: piece 0: is not UTF-8"));
}
