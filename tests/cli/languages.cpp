// --source-language and --target-language: mBART and mBART-50 learn, write and choose targets in a language.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "cli/encoder_decoder_model.hpp"
#include "cli/language_model.hpp"
#include "cli/program.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

namespace {

Arguments joined_arguments(Arguments first, const Arguments& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

}  // namespace

TEST_CASE("mBART learns targets of a language, and writes and chooses them as in training", "[cli][languages]") {
  const std::string kind = GENERATE("mbart", "mbart50");
  CAPTURE(kind);
  const TemporaryFolder folder;
  const auto path = [&](const std::string& name) { return (folder / name).string(); };
  make_mbart(folder / "model", kind);
  const std::string data = folder.file("pairs.csv", "source,target\ngood day,so\nbad day,no\nno day,so so\n").string();
  const Arguments languages{"--source-language", "en_XX", "--target-language", "ro_RO"};
  const auto evaluate = [&](const std::string& model, const Arguments& more) {
    return last_json(checked(joined_arguments({"evaluate", "--model", path(model), "--data", data, "--json"}, more)));
  };

  // What the tokenizer's files say of a text is en_XX.
  const Json plain = evaluate("model", {});
  CHECK(evaluate("model", {"--source-language", "en_XX", "--target-language", "en_XX"}) == plain);
  CHECK(evaluate("model", {"--source-language", "ro_RO"}).at("eval_loss") != plain.at("eval_loss"));
  CHECK(evaluate("model", {"--target-language", "ro_RO"}).at("eval_loss") != plain.at("eval_loss"));
  CHECK(evaluate("model", languages).at("tokens") == plain.at("tokens"));

  checked(joined_arguments({"train", "--model", path("model"), "--data", data, "--out", path("full"), "--method", "full", "--learning-rate", "1e-2", "--steps",
                            "150", "--eval-fraction", "0", "--batch-size", "3", "--warmup-ratio", "0"},
                           languages));
  const Json record = Json::parse(content_of(folder / "full/run.json"));
  CHECK(record.at("source_language") == "en_XX");
  CHECK(record.at("target_language") == "ro_RO");
  CHECK(content_of(folder / "full/README.md").find("targets in `ro_RO` of at most") != std::string::npos);

  const Outcome outcome = checked({"evaluate", "--model", path("full"), "--data", data, "--generate", "--json"});
  CHECK(outcome.err.find("note: --source-language en_XX, as in training") != std::string::npos);
  CHECK(outcome.err.find("note: --target-language ro_RO, as in training") != std::string::npos);
  const Json trained = last_json(outcome);
  CHECK(trained.at("eval_loss").get<double>() < 0.2 * plain.at("eval_loss").get<double>());
  CHECK(trained.at("exact_match") == 1.0);
  CHECK(trained == evaluate("full", joined_arguments(languages, {"--generate"})));
  CHECK(evaluate("full", {"--target-language", "en_XX"}).at("eval_loss").get<double>() > trained.at("eval_loss").get<double>());
  CHECK(evaluate("full", {"--generate", "--num-beams", "2"}).at("exact_match") == 1.0);
  CHECK(evaluate("full", {"--choices", "so,no,so so"}).at("eval_accuracy") == 1.0);

  // mBART's decoder starts with the code, which is not written; mBART-50's writes it.
  const Outcome written = checked({"generate", "--model", path("full"), "--prompt", "bad day"});
  CHECK(written.out == (kind == "mbart" ? "no</s>\n" : "ro_RO no</s>\n"));
  CHECK(checked({"generate", "--model", path("full"), "--prompt", "bad day", "--skip-special-tokens"}).out == "no\n");
  const std::string english = checked({"generate", "--model", path("full"), "--prompt", "bad day", "--target-language", "en_XX"}).out;
  CHECK(english.starts_with("en_XX") == (kind == "mbart50"));  // though it has learned nothing else than ro_RO
  CHECK(checked({"predict", "--model", path("full"), "--data", data}).out.find("no day,so so,so so\n") != std::string::npos);

  // What is trained further has the languages, too.
  const Outcome further = checked({"train", "--model", path("full"), "--data", data, "--out", path("lora"), "--steps", "1", "--eval-fraction", "0"});
  CHECK(further.err.find("note: --target-language ro_RO, as in training of " + path("full")) != std::string::npos);
  CHECK(Json::parse(content_of(folder / "lora/run.json")).at("target_language") == "ro_RO");
}

TEST_CASE("languages that a model does not have", "[cli][languages][mistakes]") {
  const TemporaryFolder folder;
  const auto path = [&](const std::string& name) { return (folder / name).string(); };
  make_mbart(folder / "mbart", "mbart");
  make_encoder_decoder(folder / "t5");
  make_text_model(folder / "bert");
  make_language_model(folder / "gpt2");
  const std::string data = folder.file("pairs.csv", "source,target\ngood day,so\n").string(), labelled = folder.file("labelled.csv", toy_table(6)).string();
  const auto fails = [&](const std::string& command, const std::string& model, const std::string& rows, const Arguments& more, const Arguments& words) {
    Arguments arguments{command, "--model", path(model), command == "generate" ? "--prompt" : "--data", rows};
    if (command == "train") arguments.insert(arguments.end(), {"--out", path("out")});
    check_failure(run_program(joined_arguments(arguments, more)), words);
    CHECK_FALSE(std::filesystem::exists(folder / "out"));
  };
  for (const std::string command : {"train", "evaluate", "predict", "generate"}) {
    const std::string rows = command == "generate" ? "good" : data;
    fails(command, "mbart", rows, {"--source-language", "ro"}, {"--source-language", "one of its 25 language codes", "ro_RO", "got \"ro\""});
    fails(command, "t5", rows, {"--source-language", "en_XX"}, {"--source-language", "puts the code of a language", "MBartTokenizerFast"});
  }
  for (const std::string command : {"train", "evaluate", "generate"})
    fails(command, "mbart", command == "generate" ? "good" : data, {"--target-language", "de_XX"}, {"--target-language", "de_DE", "got \"de_XX\""});
  for (const std::string command : {"train", "evaluate", "predict"}) fails(command, "bert", labelled, {"--target-language", "en_XX"}, {"--target-language"});
  fails("generate", "gpt2", "he", {"--source-language", "en_XX"}, {"--source-language", "encoder-decoders"});
  fails("generate", "mbart", "good", {}, {"no token that its decoder starts with", "decoder_start_token_id"});
}
