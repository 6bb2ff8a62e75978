// The fuzzers' corpus, with any compiler: files named valid_* are read, all others are refused with an Error.
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/regex.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/io/torch_file.hpp"
#include "deltatune/text/sentence_piece.hpp"
#include "deltatune/text/tokenizer.hpp"
#include "fuzz/chat_input.hpp"

namespace deltatune {
namespace {

template <class Open>
void check_corpus(const std::string& target, Open open) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(DELTATUNE_TEST_DIR) / "fuzz/corpus" / target)) {
    const std::string name = entry.path().filename().string();
    INFO(target << "/" << name);
    if (name.starts_with("valid_")) {
      CHECK_NOTHROW(open(entry.path()));
    } else {
      CHECK_THROWS_AS(open(entry.path()), Error);
    }
    ++count;
  }
  CHECK(count >= 12);
}

TEST_CASE("corpus of the safetensors fuzzer", "[fuzz]") { check_corpus("fuzz_safetensors", SafeTensors::open); }

TEST_CASE("corpus of the PyTorch file fuzzer", "[fuzz]") { check_corpus("fuzz_torch_file", TorchFile::open); }

TEST_CASE("corpus of the tokenizer fuzzer", "[fuzz]") {
  check_corpus("fuzz_tokenizer_json", [](const std::filesystem::path& path) { Tokenizer::open(path, search_regex); });
}

TEST_CASE("corpus of the SentencePiece fuzzer", "[fuzz]") { check_corpus("fuzz_sentence_piece", detail::read_sentence_piece); }

TEST_CASE("corpus of the chat template fuzzer", "[fuzz]") {
  check_corpus("fuzz_chat_template", [](const std::filesystem::path& path) { fuzz::render_chat(MappedFile(path).text()); });
}

TEST_CASE("corpus of the JSON fuzzer", "[fuzz]") { check_corpus("fuzz_json_config", JsonConfig::open); }

}  // namespace
}  // namespace deltatune
