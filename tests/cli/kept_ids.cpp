// DATA.ids: the tokens of a large data set, kept beside it; used only where they are those of the data, the tokenizer and the settings.
#include "kept_ids.hpp"

#include <catch2/catch.hpp>
#include <fstream>

#include "cli/program.hpp"
#include "support/temporary_folder.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Catch::Contains;

namespace {

// More than four megabytes in few rows, which --max-length cuts short.
std::string large_table() {
  std::string words;
  while (words.size() < 80000) words += "good day , so night ";
  std::string table = "text\n";
  for (int row = 0; row < 60; ++row) table += "\"" + std::string(row % 2 == 0 ? "bad " : "so-so ") + words + "\"\n";
  return table;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("the tokens of a large data set are kept beside it, and never trusted", "[cli]") {
  const TemporaryFolder folder;
  make_text_model(folder / "model");
  const std::string data = folder.file("texts.csv", large_table()).string();
  const std::filesystem::path ids = data + ".ids";
  const auto predict = [&](std::vector<std::string> more = {}, const char* length = "8") {
    std::vector<std::string> arguments{"predict", "--model", (folder / "model").string(), "--data", data, "--max-length", length};
    arguments.insert(arguments.end(), more.begin(), more.end());
    Outcome outcome = run_program(arguments);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return outcome;
  };
  const Outcome without = predict({"--no-kept-ids"});
  CHECK_FALSE(std::filesystem::exists(ids));
  const Outcome first = predict();
  CHECK(first.out == without.out);
  CHECK_THAT(first.err, Contains("texts.csv.ids keeps the tokens of texts.csv for the next run (--no-kept-ids: no such file)"));
  REQUIRE(std::filesystem::exists(ids));
  const std::string kept = bytes_of(ids);
  const Outcome second = predict();
  CHECK(second.out == first.out);
  CHECK_THAT(second.err, !Contains(".ids"));
  SECTION("a damaged file is made anew") {
    std::string damaged = kept;
    damaged[damaged.size() / 2] ^= 1;
    std::ofstream(ids, std::ios::binary) << damaged;
    const Outcome again = predict();
    CHECK(again.out == first.out);
    CHECK_THAT(again.err, Contains("keeps the tokens"));
    CHECK(bytes_of(ids) == kept);
    std::filesystem::resize_file(ids, kept.size() - 100);
    CHECK(predict().out == first.out);
    CHECK(bytes_of(ids) == kept);
  }
  SECTION("another tokenizer") {
    std::ofstream(folder / "model/tokenizer_config.json") << R"({"do_lower_case": false})";
    CHECK_THAT(predict().err, Contains("keeps the tokens"));
    CHECK(bytes_of(ids) != kept);
  }
  SECTION("another length") { CHECK_THAT(predict({}, "9").err, Contains("keeps the tokens")); }
  SECTION("other texts") {
    std::ofstream(data, std::ios::app) << "bad\n";
    CHECK_THAT(predict().err, Contains("keeps the tokens"));
  }
  SECTION("somebody else's file stays") {
    std::ofstream(ids) << "my ids\n";
    const Outcome again = predict();
    CHECK(again.out == first.out);
    CHECK_THAT(again.err, Contains("texts.csv.ids is another file"));
    CHECK(bytes_of(ids) == "my ids\n");
  }
}

TEST_CASE("kept tokens that are none", "[cli]") {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "x.ids";
  EncodedBatch batch{.ids = {5, 6, 7}, .token_types = {}, .begins = {0, 2, 2, 3}};
  cli::write_kept_ids(file, 42, batch);
  const auto read = cli::read_kept_ids(file, 42);
  REQUIRE(read);
  CHECK(read->ids == batch.ids);
  CHECK(read->begins == batch.begins);
  CHECK(read->token_types.empty());
  CHECK_FALSE(cli::read_kept_ids(file, 43));
  CHECK_FALSE(cli::read_kept_ids(folder / "y.ids", 42));
  const std::string whole = bytes_of(file);
  for (std::size_t byte = 0; byte < whole.size(); ++byte) {
    std::string damaged = whole;
    damaged[byte] ^= 0x10;
    std::ofstream(file, std::ios::binary) << damaged;
    CHECK_FALSE(cli::read_kept_ids(file, 42));
    std::ofstream(file, std::ios::binary) << whole.substr(0, byte);
    CHECK_FALSE(cli::read_kept_ids(file, 42));
  }
  batch.begins = {0, 3, 2, 3};
  cli::write_kept_ids(file, 42, batch);
  CHECK_FALSE(cli::read_kept_ids(file, 42));
}
