// Encoder-decoders as classifiers: a new head on a model that writes, and classifiers as they come.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "cli/encoder_decoder_model.hpp"
#include "cli/program.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Catch::Contains;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

namespace {

struct LabelPlace {
  explicit LabelPlace(const std::vector<std::string>& labels = {}) {
    make_encoder_decoder(folder / "t5");
    make_bart(folder / "bart", labels);
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }
  Outcome train(const std::string& model, const std::string& out, const Arguments& more) const {
    Arguments arguments{"train",       "--model", path(model),    "--data", data,         "--out",    path(out),
                        "--eval-data", data,      "--batch-size", "6",      "--schedule", "constant", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return checked(arguments);
  }
  Json evaluate(const std::string& model, const Arguments& more = {}) const {
    Arguments arguments{"evaluate", "--model", path(model), "--data", data, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return last_json(checked(arguments));
  }
  Json json(const std::string& file) const { return Json::parse(content_of(folder / file)); }

  TemporaryFolder folder;
  std::string data = folder.file("labelled.csv", toy_table(6)).string();
};

}  // namespace

TEST_CASE("an encoder-decoder that writes gets a head of its own from --task classify", "[cli][seq2seq][covering]") {
  const LabelPlace place;
  const std::string model = GENERATE("t5", "bart");
  INFO(model);
  const Outcome outcome =
      place.train(model, "lora", {"--task", "classify", "--method", "lora", "--rank", "4", "--learning-rate", "2e-2", "--steps", "40", "--seed", "3"});
  CHECK_THAT(outcome.out, Contains("classification_head.dense.weight is not in the model's file: drawn at random") &&
                              Contains("training lora on 6 texts, 3 classes") && Contains("6 held-out texts"));
  const Json summary = last_json(outcome), after = place.evaluate(model, {"--adapter", place.path("lora")});
  CHECK(summary.at("eval_accuracy") == 1.0);
  CHECK(after.at("eval_accuracy") == 1.0);
  CHECK(after.at("eval_loss").get<double>() == Approx(summary.at("eval_loss").get<double>()).epsilon(1e-4));
  CHECK(place.json("lora/labels.json") == Json{"fine", "neither", "poor"});
  CHECK(place.json("lora/run.json").at("task") == "classify");
  const Json config = place.json("lora/adapter_config.json");
  CHECK(config.at("task_type") == "SEQ_CLS");
  CHECK(config.at("modules_to_save") == Json{"classifier", "score", "classification_head"});
  CHECK_THAT(content_of(place.folder / "lora/README.md"), Contains("text-classification") && Contains("AutoModelForSequenceClassification"));

  const Outcome predicted = checked({"predict", "--model", place.path(model), "--adapter", place.path("lora"), "--data", place.data});
  CHECK_THAT(predicted.out, Contains("text,input_label,label,prob_fine,prob_neither,prob_poor\nbad day,poor,poor,"));

  // A classifier of its own, whose default task that is.
  checked({"merge", "--model", place.path(model), "--adapter", place.path("lora"), "--out", place.path("merged")});
  CHECK(place.json("merged/config.json").at("architectures") == Json{model == "t5" ? "T5ForSequenceClassification" : "BartForSequenceClassification"});
  CHECK(place.evaluate("merged").at("eval_loss").get<double>() == Approx(after.at("eval_loss").get<double>()).epsilon(1e-4));
  const Outcome further = place.train("merged", "head", {"--method", "head", "--cache-features", "--steps", "3"});
  CHECK_THAT(further.out, Contains("training head on 6 texts, 3 classes") && !Contains("drawn at random"));
  CHECK(last_json(further).at("eval_accuracy") == 1.0);

  // The model itself still writes targets where nobody says otherwise.
  place.train(model, "pairs", {"--steps", "2"});
  CHECK(place.json("pairs/run.json").at("task") == "seq2seq");
}

TEST_CASE("a classifier with a decoder as it comes: names, outputs, whole models", "[cli][seq2seq]") {
  const LabelPlace place({"poor", "fine", "neither"});
  const Json before = place.evaluate("bart");
  CHECK(before.at("examples") == 6);
  place.train("bart", "full", {"--method", "full", "--learning-rate", "1e-2", "--steps", "25"});
  CHECK(place.json("full/run.json").at("labels") == Json{"poor", "fine", "neither"});
  const Json after = place.evaluate("full");
  CHECK(after.at("eval_accuracy") == 1.0);
  CHECK(after.at("eval_loss").get<double>() < before.at("eval_loss").get<double>());

  // A new head for other classes, and for numbers.
  const Outcome fresh = place.train("bart", "other", {"--new-head", "--method", "bitfit", "--steps", "2", "--seed", "1"});
  CHECK_THAT(fresh.out, Contains("classification_head.out_proj.weight is drawn at random") && !Contains("dense.weight"));
  const std::string scores = place.folder.file("scores.csv", "text,label\ngood day,1.5\nbad night,0.25\nso so,0.5\n").string();
  checked({"train", "--model", place.path("bart"), "--data", scores, "--task", "regression", "--new-head", "--eval-fraction", "0", "--steps", "2", "--out",
           place.path("numbers")});
  CHECK(last_json(checked({"evaluate", "--model", place.path("bart"), "--adapter", place.path("numbers"), "--data", scores, "--json"})).contains("pearson"));

  const Outcome seen = checked({"inspect", "--model", place.path("bart")});
  CHECK_THAT(seen.out, Contains("BART with a classifier"));
}

TEST_CASE("a classifier with a decoder: what it refuses", "[cli][seq2seq][mistakes]") {
  const LabelPlace place({"poor", "fine", "neither"});
  const std::string model = place.path("bart");
  const auto fails = [&](const Arguments& arguments, const std::vector<std::string>& words) { check_failure(run_program(arguments), words); };
  for (const std::string command : {"evaluate", "predict"}) {
    fails({command, "--model", model, "--data", place.data, "--choices", "poor,fine"}, {"--choices", "encoder-decoders that write targets"});
    fails({command, "--model", model, "--data", place.data, "--source-column", "text"}, {"--source-column", "encoder-decoders that write targets"});
    fails({command, "--model", model, "--data", place.data, "--max-length", "41"}, {"--max-length", "at most 40", "got 41"});
  }
  fails({"generate", "--model", model, "--prompt", "good"}, {"language model"});
  fails({"train", "--model", model, "--data", place.data, "--task", "lm", "--out", place.path("out")}, {"--task lm", "BART, an encoder-decoder"});
  fails({"train", "--model", model, "--data", place.data, "--task-prefix", "x", "--out", place.path("out")}, {"--task-prefix", "source and target texts"});

  const auto forward = [&](const std::vector<std::int64_t>& ids, const std::vector<std::int64_t>& mask, const std::vector<std::string>& words) {
    SafeTensorsWriter writer;
    writer.add("input_ids", {1, static_cast<Index>(ids.size())}, std::span<const std::int64_t>(ids));
    writer.add("attention_mask", {1, static_cast<Index>(ids.size())}, std::span<const std::int64_t>(mask));
    writer.write(place.folder / "batch.safetensors");
    const Arguments arguments{"forward", "--model", model, "--batch", place.path("batch.safetensors"), "--out", place.path("out.safetensors")};
    if (words.empty()) checked(arguments);
    if (!words.empty()) fails(arguments, words);
  };
  forward({0, 9, 2, 1}, {1, 1, 1, 0}, {});
  forward({0, 9, 7, 1}, {1, 1, 1, 0}, {"sequence 0", "no end-of-text token", "token 2"});
  forward({0, 9, 7, 2}, {1, 0, 1, 1}, {"sequence 0", "gap"});
}
