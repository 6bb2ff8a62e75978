#include "deltatune/text/tokenizer.hpp"

#include <catch2/catch.hpp>

#include "support/temporary_folder.hpp"
#include "text/tokenizer_files.hpp"

using namespace deltatune;
using Catch::Contains;
namespace files = tokenizer_files;

TEST_CASE("a folder's tokenizer is opened, whichever it is", "[text][tokenizer]") {
  const test::TemporaryFolder folder;
  SECTION("vocab.txt") {
    const Tokenizer tokenizer = Tokenizer::open(files::data / "minilm");
    CHECK(tokenizer.vocab_size() == 30522);
    CHECK(tokenizer.encode("ok", 10) == std::vector{101, 7929, 102});
    CHECK(tokenizer.encode_pair("ok", "ok", 10).token_types == std::vector<std::int32_t>{0, 0, 0, 1, 1});
    CHECK(tokenizer.decode(tokenizer.encode("It's ok.")) == "[CLS] it ' s ok. [SEP]");
    CHECK(tokenizer.decode(tokenizer.encode("It's ok."), true) == "it ' s ok.");
    CHECK(tokenizer.pad_id() == 0);
    CHECK(tokenizer.eos_id() == std::nullopt);
  }
  SECTION("WordPiece in tokenizer.json") {
    folder.file("tokenizer.json",
                R"({"model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "ok": 1}, "unk_token": "[UNK]"}, "pre_tokenizer": {"type": "BertPreTokenizer"}})");
    CHECK(Tokenizer::open(folder.path()).encode("ok", 10) == std::vector{1});
  }
  SECTION("byte-level BPE") {
    for (const char* name : {"vocab.json", "merges.txt"}) std::filesystem::copy(files::data / "gpt2_bpe" / name, folder / name);
    for (const std::filesystem::path& path : {files::data / "gpt2_bpe", folder.path()}) {
      const Tokenizer tokenizer = Tokenizer::open(path);
      CHECK(tokenizer.vocab_size() == 1500);
      CHECK(tokenizer.encode("this and that", 2).size() == 2);
      CHECK(tokenizer.decode(tokenizer.encode("this and that", 100)) == "this and that");
      CHECK(tokenizer.encode_pair("a", "b", 10).ids.size() == 2);
      CHECK(tokenizer.eos_id() == 0);
    }
    folder.file("config.json", R"({"model_type": "bart"})");  // whose files are of the same kind
    CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("vocab.json: does not say how a bart model cuts a text") && Contains("tokenizer.json"));
  }
  SECTION("nothing") {
    CHECK_THROWS_WITH(Tokenizer::open(folder.path()), Contains("no tokenizer in this folder; expected tokenizer.json, or vocab.txt, or vocab.json"));
    CHECK_THROWS_WITH(Tokenizer::open(folder / "none"), Contains("no such file or folder"));
  }
}
