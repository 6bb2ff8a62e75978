// --task seq2seq: an encoder-decoder is trained on sources and targets, evaluated, and chooses among targets.
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/encoder_decoder_model.hpp"
#include "cli/program.hpp"
#include "deltatune/tokenizers.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

namespace {

const std::vector<std::pair<std::string, std::string>> kPairs{
    {"good day", "positive"}, {"bad day", "negative"}, {"no day", "so it is"}, {"the car is good", "positive"}, {"the car is bad", "negative"}};

std::string table(const std::string& source = "source", const std::string& target = "target", const std::string& prefix = "") {
  std::string text = source + "," + target + "\n";
  for (const auto& [from, to] : kPairs) text += prefix + from + "," + to + "\n";
  return text;
}

struct PairPlace {
  PairPlace() { make_encoder_decoder(folder / "model"); }

  std::string path(const std::string& name) const { return (folder / name).string(); }
  std::string file(const std::string& name, const std::string& text) const { return folder.file(name, text).string(); }

  Outcome train_outcome(const std::string& data, const std::string& out, const Arguments& more = {}) const {
    Arguments arguments{"train", "--model",        path("model"), "--data",     data,       "--out",     path(out), "--batch-size",
                        "5",     "--warmup-ratio", "0",           "--schedule", "constant", "--threads", "1",       "--json"};
    if (environment("DELTATUNE_DEVICE", "").starts_with("cuda")) arguments.erase(arguments.end() - 3, arguments.end() - 1);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return checked(arguments);
  }
  Json train(const std::string& data, const std::string& out, const Arguments& more = {}) const { return last_json(train_outcome(data, out, more)); }
  Json evaluate(const std::string& data, const Arguments& more = {}) const {
    Arguments arguments{"evaluate", "--model", path("model"), "--data", data, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return last_json(checked(arguments));
  }
  Json record(const std::string& out) const { return Json::parse(content_of(folder / out / "run.json")); }

  TemporaryFolder folder;
};

}  // namespace

TEST_CASE("an encoder-decoder learns targets, and the result is evaluated as in training", "[cli][seq2seq][covering]") {
  const PairPlace place;
  const std::string data = place.file("pairs.csv", table());
  const Json before = place.evaluate(data);
  const Outcome outcome = place.train_outcome(
      data, "lora", {"--method", "lora", "--targets", "all-linear", "--rank", "8", "--learning-rate", "2e-2", "--steps", "80", "--eval-data", data});
  CHECK(outcome.out.find("training lora on 5 pairs, 80 steps of 5") != std::string::npos);
  CHECK(outcome.out.find("on 5 held-out pairs") != std::string::npos);
  const Json summary = last_json(outcome), after = place.evaluate(data, {"--adapter", place.path("lora")});
  CHECK(after.at("eval_loss").get<double>() < 0.3 * before.at("eval_loss").get<double>());
  CHECK(after.at("eval_loss").get<double>() == Approx(summary.at("eval_loss").get<double>()).epsilon(1e-4));
  CHECK(after.at("perplexity").get<double>() == Approx(std::exp(after.at("eval_loss").get<double>())));
  CHECK(summary.at("eval_perplexity").get<double>() == Approx(std::exp(summary.at("eval_loss").get<double>())));
  CHECK(summary.at("eval_accuracy").is_null());
  CHECK_FALSE(std::filesystem::exists(place.folder / "lora/labels.json"));

  // All that the tokenizer makes of a target is predicted.
  const Tokenizer tokenizer = open_tokenizer(place.folder / "model");
  std::size_t tokens = 0;
  for (const auto& [source, target] : kPairs) tokens += tokenizer.encode(target).size();
  CHECK(after.at("examples") == 5);
  CHECK(after.at("tokens").get<double>() == static_cast<double>(tokens));

  const Json record = place.record("lora");
  CHECK(record.at("task") == "seq2seq");
  CHECK(record.at("source_column") == "source");
  CHECK(record.at("target_column") == "target");
  CHECK(record.at("task_prefix") == "");
  CHECK(record.at("max_length") == 512);
  CHECK(record.at("max_target_length") == 128);
  const std::string card = content_of(place.folder / "lora/README.md");
  for (const std::string words : {"pipeline_tag: text2text-generation", "AutoModelForSeq2SeqLM", "to write targets from source texts",
                                  "targets of at most 128 tokens", "perplexity", "deltatune generate"}) {
    INFO(words);
    CHECK(card.find(words) != std::string::npos);
  }
  const std::string metrics = content_of(place.folder / "lora/metrics.jsonl");
  CHECK(metrics.find("eval_perplexity") != std::string::npos);

  // The likeliest of a few targets.
  const Json choices = place.evaluate(data, {"--adapter", place.path("lora"), "--choices", "negative,positive,so it is"});
  CHECK(choices.at("eval_accuracy") == 1.0);
  CHECK(choices.at("macro_f1") == 1.0);
  CHECK(choices.at("examples") == 5);
  CHECK(choices.at("confusion") == Json({{2, 0, 0}, {0, 2, 0}, {0, 0, 1}}));
}

TEST_CASE("an encoder-decoder writes a target for each source", "[cli][seq2seq]") {
  const PairPlace place;
  const std::string data = place.file("pairs.csv", table());
  place.train(data, "full", {"--method", "full", "--learning-rate", "1e-2", "--steps", "150", "--eval-fraction", "0", "--task-prefix", "say: "});
  const std::string model = place.path("full");
  const auto evaluate = [&](const Arguments& more) {
    Arguments arguments{"evaluate", "--model", model, "--data", data, "--generate", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return last_json(checked(arguments));
  };
  const Json greedy = evaluate({});
  CHECK(greedy.at("exact_match") == 1.0);
  CHECK(greedy.at("rougeL") == 1.0);
  CHECK(greedy.at("chrf") == 100.0);
  CHECK(evaluate({"--num-beams", "3", "--length-penalty", "0.5"}).at("exact_match") == 1.0);
  CHECK(evaluate({"--max-new-tokens", "1"}).at("exact_match") < 0.5);

  checked({"predict", "--model", model, "--data", data, "--out", place.path("answers.jsonl")});
  const Outcome written = checked({"generate", "--model", model, "--prompt", kPairs[0].first, "--prompt", kPairs[2].first, "--skip-special-tokens"});
  std::istringstream answers(content_of(place.folder / "answers.jsonl")), generated(written.out);
  std::vector<std::string> predictions;
  for (std::string line; std::getline(answers, line);) predictions.push_back(Json::parse(line).at("prediction"));
  REQUIRE(predictions.size() == kPairs.size());
  for (std::size_t i = 0; i < kPairs.size(); ++i) CHECK(predictions[i] == kPairs[i].second);
  for (const std::size_t i : {0, 2}) {
    std::string line;
    REQUIRE(std::getline(generated, line));
    CHECK(Json::parse(line).at("text") == kPairs[i].second);
    CHECK(Json::parse(line).at("end") == "end_token");
  }
  // One text is written as it comes, without its source.
  CHECK(checked({"generate", "--model", model, "--prompt", kPairs[2].first, "--skip-special-tokens"}).out == kPairs[2].second + "\n");
  CHECK(checked({"generate", "--model", model, "--prompt", kPairs[2].first, "--skip-special-tokens", "--num-beams", "4"}).out == kPairs[2].second + "\n");
}

TEST_CASE("choices: their probabilities are those of the losses of each as the target", "[cli][seq2seq]") {
  const PairPlace place;
  const std::vector<std::string> choices{"negative", "positive", "so it is"};
  const std::string sources = place.file("sources.jsonl", "{\"source\": \"good day\", \"n\": 7}\n{\"source\": \"the car\", \"n\": 8}\n");
  const Arguments predict{"predict", "--model", place.path("model"), "--data", sources, "--choices", "negative,positive,so it is"};
  Arguments to_file = predict;
  to_file.insert(to_file.end(), {"--batch-size", "1", "--out", place.path("answers.jsonl")});
  checked(to_file);
  std::istringstream lines(content_of(place.folder / "answers.jsonl"));
  for (const std::string source : {"good day", "the car"}) {
    std::vector<double> likelihoods;
    for (const std::string& choice : choices) {
      const Json one = place.evaluate(place.file("one.csv", "source,target\n" + source + "," + choice + "\n"));
      likelihoods.push_back(std::exp(-one.at("eval_loss").get<double>() * one.at("tokens").get<double>()));
    }
    const double sum = likelihoods[0] + likelihoods[1] + likelihoods[2];
    std::string line;
    REQUIRE(std::getline(lines, line));
    const Json answer = Json::parse(line);
    std::size_t best = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      CHECK(answer.at("probabilities").at(choices[k]).get<double>() == Approx(likelihoods[k] / sum).epsilon(1e-3));
      if (likelihoods[k] > likelihoods[best]) best = k;
    }
    CHECK(answer.at("label") == choices[best]);
    CHECK(answer.at("n").is_number());
  }
  // As CSV, and together.
  const std::string screen = checked(predict).out;
  CHECK(screen.starts_with("source,n,label,prob_negative,prob_positive,prob_so it is\n"));

  const Json names = place.evaluate(place.file("few.csv", "source,label\ngood day,NEGATIVE\nbad,\nthe car,positive\n"), {"--choices", "negative,positive"});
  CHECK(names.at("examples") == 2);
}

TEST_CASE("prefix, columns and lengths of the training hold for evaluate and predict, through merge, too", "[cli][seq2seq]") {
  const PairPlace place;
  const std::string plain = place.file("plain.csv", table("article", "gist")), with = place.file("with.csv", table("article", "gist", "tell: "));
  const Arguments columns{"--source-column", "article", "--target-column", "gist"};
  const auto train = [&](const std::string& data, const std::string& out, Arguments more) {
    more.insert(more.end(), columns.begin(), columns.end());
    more.insert(more.end(), {"--eval-fraction", "0", "--steps", "6", "--learning-rate", "1e-2", "--max-length", "9", "--max-target-length", "7"});
    return place.train(data, out, more);
  };
  train(plain, "a", {"--task-prefix", "tell: "});
  train(with, "b", {});
  CHECK(place.record("a").at("training_data") == place.record("b").at("training_data"));
  CHECK(place.record("a").at("task_prefix") == "tell: ");

  const Outcome outcome = checked({"evaluate", "--model", place.path("model"), "--adapter", place.path("a"), "--data", plain, "--json"});
  CHECK(outcome.err.find("note: --task-prefix \"tell: \", as in training") != std::string::npos);
  CHECK(outcome.err.find("note: --max-length 9, as in training") != std::string::npos);
  const Json a = last_json(outcome);
  CHECK(a == place.evaluate(with, {"--adapter", place.path("b")}));
  CHECK(a == place.evaluate(with, {"--adapter", place.path("a"), "--task-prefix", ""}));
  CHECK(a != place.evaluate(plain, {"--adapter", place.path("b")}));

  checked({"merge", "--model", place.path("model"), "--adapter", place.path("a"), "--out", place.path("merged")});
  const Json merged = last_json(checked({"evaluate", "--model", place.path("merged"), "--data", plain, "--json"}));
  CHECK(merged.at("eval_loss").get<double>() == Approx(a.at("eval_loss").get<double>()).epsilon(1e-4));
  const Json record = place.record("merged");
  CHECK(record.at("task") == "seq2seq");
  CHECK(record.at("task_prefix") == "tell: ");
  CHECK(record.at("source_column") == "article");
  CHECK(record.at("target_column") == "gist");
  CHECK(record.at("max_target_length") == 7);

  // The adapter trained further has its prefix.
  const Outcome further = place.train_outcome(
      plain, "c", {"--init-adapter", place.path("a"), "--source-column", "article", "--target-column", "gist", "--steps", "2", "--eval-fraction", "0"});
  CHECK(further.err.find("note: --task-prefix \"tell: \", as in training of " + place.path("a")) != std::string::npos);
  CHECK(place.record("c").at("task_prefix") == "tell: ");

  // So has an adapter for the merged model, unless the user says.
  const auto on_merged = [&](const std::string& out, Arguments more) {
    more.insert(more.begin(), {"train", "--model", place.path("merged"), "--data", plain, "--out", place.path(out), "--steps", "1", "--eval-fraction", "0"});
    more.insert(more.end(), columns.begin(), columns.end());
    return checked(more).err;
  };
  CHECK(on_merged("d", {}).find("note: --task-prefix \"tell: \", as in training of " + place.path("merged")) != std::string::npos);
  CHECK(place.record("d").at("task_prefix") == "tell: ");
  CHECK(on_merged("e", {"--task-prefix", ""}).find("--task-prefix") == std::string::npos);
  CHECK(place.record("e").at("task_prefix") == "");
  CHECK(place.record("d").at("training_data") != place.record("e").at("training_data"));
}

TEST_CASE("an encoder-decoder: full fine-tuning, and a run that goes on from its checkpoint", "[cli][seq2seq]") {
  const PairPlace place;
  const std::string data = place.file("pairs.tsv", [] {
    std::string text = table("input", "output");
    for (char& c : text) c = c == ',' ? '\t' : c;
    return text;
  }());
  const Arguments same{"--method", "full", "--learning-rate", "3e-3", "--save-every", "3", "--eval-data", data, "--recompute"};
  const auto train = [&](const std::string& out, const Arguments& more) {
    Arguments arguments = same;
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place.train(data, out, arguments);
  };
  const Json whole = train("whole", {"--steps", "6"});
  train("parts", {"--steps", "3"});
  const Json parts = train("parts", {"--steps", "6", "--resume"});
  CHECK(parts.at("eval_loss") == whole.at("eval_loss"));
  CHECK(content_of(place.folder / "parts/model.safetensors") == content_of(place.folder / "whole/model.safetensors"));
  CHECK(place.record("whole").at("source_column") == "input");
  const Json evaluated = last_json(checked({"evaluate", "--model", place.path("whole"), "--data", data, "--json"}));
  CHECK(evaluated.at("eval_loss").get<double>() == Approx(whole.at("eval_loss").get<double>()).epsilon(1e-4));
  CHECK(evaluated.at("eval_loss").get<double>() < place.evaluate(data).at("eval_loss").get<double>());

  Arguments other{"train", "--model",  place.path("model"),   "--data", data, "--out", place.path("parts"), "--steps",
                  "9",     "--resume", "--max-target-length", "5"};
  other.insert(other.end(), same.begin(), same.end());
  const Outcome refused = run_program(other);
  CHECK(refused.code == 1);
  CHECK(refused.err.find("max_target_length") != std::string::npos);
}

TEST_CASE("prefixes in the encoder, the decoder and cross-attention, each where it is wanted", "[cli][seq2seq]") {
  const PairPlace place;
  const std::string data = place.file("pairs.csv", table());
  constexpr Index kRows = 3, kEach = kRows * 2 * 2 * 16;  // 2 layers with keys and values of width 16, on each side and between them
  const Arguments prefix{"--method", "prefix", "--virtual-tokens", std::to_string(kRows), "--steps", "2", "--eval-data", data};
  int number = 0;
  const auto train = [&](Arguments more) {
    more.insert(more.begin(), prefix.begin(), prefix.end());
    const std::string out = "prefix" + std::to_string(number++);
    const Json summary = place.train(data, out, more), after = place.evaluate(data, {"--adapter", place.path(out)});
    CHECK(after.at("eval_loss").get<double>() == Approx(summary.at("eval_loss").get<double>()).epsilon(1e-4));
    const Json config = Json::parse(content_of(place.folder / out / "adapter_config.json"));
    const auto is_on = [&](const char* key) { return config.at(key).get<bool>(); };
    return std::pair(summary.at("trainable_parameters").get<Index>(), std::array{is_on("encoder_prefix"), is_on("decoder_prefix"), is_on("cross_prefix")});
  };
  CHECK(train({}) == std::pair(3 * kEach, std::array{true, true, true}));
  CHECK(train({"--encoder-prefix", "no"}) == std::pair(2 * kEach, std::array{false, true, true}));
  CHECK(train({"--decoder-prefix", "no"}) == std::pair(2 * kEach, std::array{true, false, true}));
  CHECK(train({"--cross-prefix", "no", "--decoder-prefix", "no", "--encoder-prefix", "yes"}) == std::pair(kEach, std::array{true, false, false}));

  make_text_model(place.folder / "bert");
  const auto fails = [&](const std::string& model, const std::string& rows, Arguments more, const Arguments& words) {
    more.insert(more.begin(), {"train", "--model", place.path(model), "--data", rows, "--out", place.path("out")});
    check_failure(run_program(more), words);
    CHECK_FALSE(std::filesystem::exists(place.folder / "out"));
  };
  const std::string labelled = place.file("labelled.csv", toy_table(6));
  for (const std::string option : {"--encoder-prefix", "--decoder-prefix", "--cross-prefix"}) {
    fails("bert", labelled, {"--method", "prefix", option, "yes"}, {option, "encoder-decoders", "BERT has one stack"});
    fails("model", data, {"--method", "lora", option, "no"}, {option, "is not an option of --method lora"});
  }
  fails("model", data, {"--method", "prefix", "--encoder-prefix", "no", "--decoder-prefix", "no", "--cross-prefix", "no"},
        {"has a prefix neither in the encoder", "leave at least one of the three on"});
  CHECK(run_program({"train", "--help"}).out.find("--cross-prefix") != std::string::npos);
}

TEST_CASE("inspect: layers of the encoder and of the decoder, and positions where they are a limit", "[cli][seq2seq]") {
  const auto about = [](const std::string& model) {
    const Outcome outcome = checked({"inspect", "--model", (kModels / model).string(), "--json"});
    return std::pair(last_json(outcome).at("model"), outcome.out);
  };
  const auto [t5, t5_text] = about("t5");
  CHECK(t5.at("layers") == 5);
  CHECK(t5.at("encoder_layers") == 2);
  CHECK(t5.at("decoder_layers") == 3);
  CHECK(t5.at("positions").is_null());
  CHECK(t5_text.find("no limit (relative distances)") != std::string::npos);
  CHECK(t5_text.find("1048576") == std::string::npos);
  const Json bart = about("bart").first;  // whose sides differ in everything
  CHECK(bart.at("layers") == 3);
  CHECK(bart.at("encoder_layers") == 1);
  CHECK(bart.at("decoder_layers") == 2);
  CHECK(bart.at("encoder_heads") == 4);
  CHECK(bart.at("heads") == 2);
  CHECK(bart.at("encoder_feed_forward_width") == 12);
  CHECK(bart.at("feed_forward_width") == 20);
  CHECK(bart.at("positions") == 22);
  const Json mpnet = about("mpnet").first;  // distances and positions
  CHECK(mpnet.at("positions").is_number());
  CHECK_FALSE(mpnet.contains("encoder_layers"));
}

TEST_CASE("targets hold what the tokenizer puts around a text", "[cli][seq2seq]") {
  const PairPlace place;
  make_encoder_decoder(place.folder / "bart", "roberta", 1000);
  const std::string data = place.file("one.csv", "source,target\nthe car,good\n");
  const std::size_t tokens = open_tokenizer(place.folder / "bart").encode("good").size();
  REQUIRE(tokens >= 3);  // <s>, a word, </s>
  const Json result = last_json(checked({"evaluate", "--model", place.path("bart"), "--data", data, "--json"}));
  CHECK(result.at("tokens").get<double>() == static_cast<double>(tokens));
}

TEST_CASE("what is cut, empty or left out of sources and targets is said", "[cli][seq2seq]") {
  const PairPlace place;
  const auto notes_of = [&](const std::string& data, const Arguments& more, const std::vector<std::string>& expected) {
    Arguments arguments{"evaluate", "--model", place.path("model"), "--data", data};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = checked(arguments);
    for (const std::string& words : expected) {
      INFO(words << "\n" << outcome.err);
      CHECK(outcome.err.find(words) != std::string::npos);
    }
    return outcome.out;
  };
  const std::string rows = "source,target\nthe car is good,positive positive positive\n  ,negative\nthe car,\nno,no\n";
  const std::string out = notes_of(place.file("rows.csv", rows), {"--max-length", "3", "--max-target-length", "4"},
                                   {"1 of 4 rows has no target and is left out; the first is data row 3", "1 of 3 sources is empty; the first in data row 2",
                                    "1 of 3 sources is longer than --max-length 3 and was cut; the first in data row 1",
                                    "2 of 3 targets are longer than --max-target-length 4 and were cut; the first in data row 1"});
  CHECK(out.starts_with("3 pairs, "));
  notes_of(place.file("rows.jsonl", "{\"text\": \"the car\", \"label\": 1}\n{\"text\": \"a car\"}\n{\"label\": 0}\n"), {},
           {"1 of 3 rows has no target", "2 of 3 records have a number, true or false as \"label\"", "1 of 3 records has no key \"text\""});
}

TEST_CASE("what an encoder-decoder cannot do, and what is not said clearly", "[cli][seq2seq][mistakes]") {
  const PairPlace place;
  const auto fails = [&](const Arguments& arguments, const std::vector<std::string>& words) {
    const Outcome outcome = run_program(arguments);
    check_failure(outcome, words);
  };
  make_text_model(place.folder / "bert");
  const std::string model = place.path("model"), data = place.file("pairs.csv", table()), labelled = place.file("labelled.csv", toy_table(6));
  const auto train = [&](const std::string& from, const std::string& rows, Arguments more) {
    more.insert(more.begin(), {"train", "--model", from, "--data", rows, "--out", place.path("out")});
    return more;
  };
  for (const std::string task : {"lm", "chat"})
    fails(train(model, labelled, {"--task", task}), {"--task " + task, "T5, an encoder-decoder", "--task seq2seq", "--task classify"});
  fails(train(model, data, {"--method", "head"}), {"head", "the table of the token embeddings", "T5", "LoRA with the target lm_head"});
  fails(train(place.path("bert"), data, {"--task", "seq2seq"}), {"--task seq2seq", "needs an encoder-decoder", "got BERT"});
  fails(train(place.path("bert"), labelled, {"--task-prefix", "x"}), {"--task-prefix", "source and target texts"});
  fails(train(model, data, {"--text-column", "source"}), {"--text-column", "texts with labels", "--source-column"});
  fails(train(model, data, {"--labels", "a,b"}), {"--labels", "classes"});
  fails(train(model, data, {"--cache-features"}), {"--cache-features", "classifiers"});
  fails(train(model, data, {"--chat-template", "x"}), {"--chat-template", "conversations"});
  fails(train(model, data, {"--max-target-length", "1048577"}), {"--max-target-length"});

  const auto columns = [&](const std::string& header, const std::vector<std::string>& words) {
    fails(train(model, place.file("columns.csv", header + "\na,b,c\n"), {}), words);
  };
  columns("instruction,input,output", {"several columns for --source-column", "instruction, input"});
  columns("text,summary,label", {"several columns for --target-column", "summary, label"});
  columns("x,y,target", {"no column for --source-column", "got x, y, target"});
  columns("source,y,z", {"no column for --target-column", "name it with --target-column"});
  fails(train(model, data, {"--source-column", "target", "--target-column", "target"}), {"\"target\"", "cannot be two things"});
  fails(train(model, data, {"--source-column", "nothing"}), {"no column \"nothing\"", "source, target"});
  fails(train(model, place.file("empty.csv", "source,target\na,\n"), {}), {"empty.csv: column target", "no row has a target"});

  const auto evaluate = [&](const std::string& from, const std::string& rows, Arguments more) {
    more.insert(more.begin(), {"evaluate", "--model", from, "--data", rows});
    return more;
  };
  fails(evaluate(model, data, {"--label-column", "target"}), {"--label-column", "T5, an encoder-decoder", "--target-column"});
  fails(evaluate(place.path("bert"), labelled, {"--choices", "a,b"}), {"--choices", "encoder-decoders"});
  fails(evaluate(place.path("bert"), labelled, {"--max-new-tokens", "3"}), {"--max-new-tokens", "encoder-decoders"});
  fails(evaluate(model, data, {"--max-new-tokens", "3"}), {"--max-new-tokens", "--generate"});
  fails(evaluate(model, data, {"--choices", "negative,positive"}), {"so it is", "--choices"});
  fails(evaluate(model, data, {"--choices", "negative,positive,so it is,so  it is"}), {"--choices", "same tokens"});
  fails(evaluate(model, data, {"--choices", "negative,,positive"}), {"--choices", "empty name"});
  fails(evaluate(model, data, {"--choices", "negative", "--generate"}), {"--generate", "--choices"});
  fails({"predict", "--model", model, "--data", data, "--choices", "a,b", "--temperature", "1"}, {"--temperature", "--choices"});
  fails({"predict", "--model", place.path("bert"), "--data", labelled, "--source-column", "text"}, {"--source-column", "encoder-decoders"});
  fails({"generate", "--model", place.path("bert"), "--prompt", "good", "--task-prefix", "x"}, {"language model"});
  fails({"chat", "--model", model}, {model, "encoder-decoder", "generate"});
}
