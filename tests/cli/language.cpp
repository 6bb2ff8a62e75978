// A language model: trained on plain text and on prompts with completions, evaluated, asked to go on.
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>

#include "cli/language_model.hpp"
#include "cli/program.hpp"
#include "deltatune/io/safetensors.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;

namespace {

struct LanguagePlace {
  LanguagePlace() { make_language_model(folder / "model"); }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  Json train(const std::string& data, const std::string& out, const Arguments& more) const {
    Arguments arguments{"train", "--task",         "lm", "--model",    path("model"), "--data", data,      "--max-length", "16", "--batch-size",
                        "8",     "--warmup-ratio", "0",  "--schedule", "constant",    "--out",  path(out), "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return last_json(checked(arguments));
  }
  Json evaluate(const std::string& data, const Arguments& more = {}) const {
    Arguments arguments{"evaluate", "--model", path("model"), "--data", data, "--max-length", "16", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return last_json(checked(arguments));
  }
  std::string generate(const std::string& prompt, const Arguments& more = {}) const {
    Arguments arguments{"generate", "--model", path("model"), "--prompt", prompt};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return checked(arguments).out;
  }

  TemporaryFolder folder;
};

// The loss of forward, over the tokens whose label isn't -100.
double forward_loss(const LanguagePlace& place, const std::vector<std::int64_t>& ids, const std::vector<std::int64_t>& labels, const Arguments& more = {}) {
  SafeTensorsWriter writer;
  const Index length = static_cast<Index>(ids.size());
  writer.add("input_ids", {1, length}, std::span<const std::int64_t>(ids));
  writer.add("labels", {1, length}, std::span<const std::int64_t>(labels));
  writer.write(place.folder / "batch.safetensors");
  Arguments arguments{"forward", "--model", place.path("model"), "--batch", place.path("batch.safetensors"), "--out", place.path("forward.safetensors")};
  arguments.insert(arguments.end(), more.begin(), more.end());
  checked(arguments);
  std::vector<double> loss(1);
  read_floats(SafeTensors::open(place.folder / "forward.safetensors").at("loss"), std::span<double>(loss));
  return loss[0];
}

std::vector<std::int64_t> bytes_of(const std::string& text) {
  std::vector<std::int64_t> ids;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool merged = text.substr(i, 2) == "he";
    ids.push_back(merged ? 256 : static_cast<unsigned char>(text[i]));
    if (merged) ++i;
  }
  return ids;
}

}  // namespace

TEST_CASE("a language model learns a text by heart and goes on with it", "[cli][lm]") {
  const LanguagePlace place;
  std::string text;
  for (int i = 0; i < 40; ++i) text += "abcdefgh";
  const std::string data = place.folder.file("poem.txt", text).string();
  const Json before = place.evaluate(data);
  const Json summary = place.train(
      data, "full",
      {"--method", "lora+last_layers", "--targets", "all-linear", "--last-layers", "2", "--learning-rate", "1e-2", "--steps", "60", "--eval-data", data});
  const Json after = place.evaluate(data, {"--adapter", place.path("full")});
  CHECK(after.at("eval_loss").get<double>() < 0.5 * before.at("eval_loss").get<double>());
  CHECK(after.at("eval_loss").get<double>() == Approx(summary.at("eval_loss").get<double>()).epsilon(1e-4));
  CHECK(after.at("perplexity").get<double>() == Approx(std::exp(after.at("eval_loss").get<double>())));

  // 320 tokens in blocks of 16, whose first tokens have nothing in front
  CHECK(after.at("examples") == 20);
  CHECK(after.at("tokens").get<double>() == 20 * 15);

  const std::string lora = place.path("full");
  const Arguments likeliest{"--adapter", lora, "--max-new-tokens", "8"};
  CHECK(place.generate("abcdefghabc", likeliest) == "abcdefghabcdefghabc\n");
  CHECK(place.generate("abcdefghabc", {"--adapter", lora, "--max-new-tokens", "8", "--temperature", "1", "--top-k", "1"}) == "abcdefghabcdefghabc\n");

  const Arguments drawn{"--temperature", "1.5", "--top-p", "0.95", "--max-new-tokens", "12", "--seed", "3"};
  const std::string first = place.generate("abc", drawn);
  CHECK(place.generate("abc", drawn) == first);
  Arguments other = drawn;
  other.back() = "4";
  CHECK(place.generate("abc", other) != first);
}

TEST_CASE("prompts and completions: the loss is of the completion and the end alone", "[cli][lm]") {
  const LanguagePlace place;
  const std::string data = place.folder
                               .file("pairs.jsonl",
                                     "{\"prompt\": \"what?\", \"completion\": \" the\"}\n\n"
                                     "{\"prompt\": \"why?\", \"completion\": \" so\"}\n")
                               .string();
  const auto loss_of = [&](const std::string& prompt, const std::string& completion, const Arguments& more = {}) {
    std::vector<std::int64_t> ids = bytes_of(prompt), labels(ids.size(), -100), rest = bytes_of(completion);
    rest.push_back(257);
    ids.insert(ids.end(), rest.begin(), rest.end());
    labels.insert(labels.end(), rest.begin(), rest.end());
    return forward_loss(place, ids, labels, more);
  };
  const Json before = place.evaluate(data);
  CHECK(before.at("examples") == 2);
  CHECK(before.at("tokens").get<double>() == 4 + 4);  // " t he" and the end: 32, 't', "he", 257
  CHECK(before.at("eval_loss").get<double>() == Approx((4 * loss_of("what?", " the") + 4 * loss_of("why?", " so")) / 8).epsilon(1e-5));

  const Json summary =
      place.train(data, "lora", {"--method", "lora+last_layers", "--last-layers", "2", "--eval-data", data, "--learning-rate", "1e-2", "--steps", "80"});
  CHECK(summary.at("eval_loss").get<double>() < 0.3 * before.at("eval_loss").get<double>());
  const std::string lora = place.path("lora");
  CHECK(place.evaluate(data, {"--adapter", lora}).at("eval_loss").get<double>() ==
        Approx((4 * loss_of("what?", " the", {"--adapter", lora}) + 4 * loss_of("why?", " so", {"--adapter", lora})) / 8).epsilon(1e-4));
  CHECK_FALSE(std::filesystem::exists(place.folder / "lora/labels.json"));

  // It stops at the end-of-text token that it has learned.
  const std::string text = place.generate("what?", {"--adapter", lora, "--max-new-tokens", "20"});
  CHECK(text.starts_with("what? the"));
  CHECK(text.size() < 40);
}

TEST_CASE("many texts at once: JSON lines, files of prompts, stop strings", "[cli][lm]") {
  const LanguagePlace place;
  const auto lines_of = [](const std::string& text) {
    std::vector<Json> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(Json::parse(line));
    return lines;
  };
  const auto run = [&](const Arguments& more) {
    Arguments arguments{"generate", "--model", place.path("model"), "--max-new-tokens", "8", "--temperature", "1.2", "--seed", "5", "--ignore-end"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return checked(arguments).out;
  };
  // Each is what it is alone, with the seed that is its own.
  const std::vector<std::string> prompts{"abc", "the end of it", "x"};
  const std::vector<Json> together = lines_of(run({"--prompt", "abc", "--prompt", "the end of it", "--prompt", "x"}));
  REQUIRE(together.size() == 3);
  for (std::size_t b = 0; b < prompts.size(); ++b) {
    const Json& line = together[b];
    CHECK(line.at("prompt") == prompts[b]);
    CHECK(line.at("tokens") == 8);
    CHECK(line.at("end") == "length");
    Arguments alone{"--temperature", "1.2", "--max-new-tokens", "8", "--ignore-end", "--seed", std::to_string(5 + b)};
    CHECK(place.generate(prompts[b], alone) == prompts[b] + line.at("text").get<std::string>() + "\n");
  }

  const std::string text_file = place.folder.file("prompts.txt", "abc\nthe end of it\r\nx").string();
  const std::string json_file = place.folder.file("prompts.jsonl", "{\"prompt\": \"abc\"}\n{\"prompt\": \"the end of it\"}\n{\"prompt\": \"x\"}\n").string();
  CHECK(lines_of(run({"--prompts", text_file})) == together);
  CHECK(lines_of(run({"--prompts", json_file, "--batch-size", "2"})) == together);
  CHECK(lines_of(run({"--prompt", "abc", "--json"})) == std::vector<Json>{together[0]});
  CHECK(run({"--prompts", json_file, "--out", place.path("texts.jsonl")}).empty());
  CHECK(lines_of(content_of(place.folder / "texts.jsonl")) == together);

  // The string ends the text with its token, and all of the token stays.
  const std::string text = together[1].at("text");
  REQUIRE(text.size() >= 3);
  const std::string stop = text.substr(1, 1);
  const Json stopped = lines_of(run({"--prompts", text_file, "--stop", stop}))[1];
  CHECK(stopped.at("end") == "stop_string");
  CHECK(stopped.at("text").get<std::string>().find(stop) != std::string::npos);
  CHECK(stopped.at("tokens") < 8);

  const auto fails = [&](const Arguments& more, const std::vector<std::string>& words) {
    Arguments arguments{"generate", "--model", place.path("model")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_program(arguments);
    INFO(outcome.err);
    CHECK(outcome.code == 1);
    for (const std::string& word : words) CHECK(outcome.err.find(word) != std::string::npos);
  };
  fails({}, {"--prompt or --prompts"});
  fails({"--prompts", place.folder.file("gap.txt", "abc\n\nabc\n").string()}, {"gap.txt: line 2", "no tokens"});
  fails({"--prompts", place.folder.file("other.jsonl", "{\"text\": \"abc\"}\n").string()}, {"other.jsonl", "no column \"prompt\""});
  fails({"--prompts", json_file, "--out", place.path("texts.jsonl")}, {"texts.jsonl", "--overwrite"});
  fails({"--prompts", json_file, "--out", json_file, "--overwrite"}, {"prompts.jsonl", "--prompts"});
  fails({"--prompt", "abc", "--stop", ""}, {"stop strings"});
}

TEST_CASE("the model's own settings are taken where they are asked for", "[cli][lm]") {
  const LanguagePlace place;
  const std::string plain = place.generate("abc", {"--max-new-tokens", "6", "--ignore-end"});
  place.folder.file("model/generation_config.json",
                    R"({"do_sample": true, "temperature": 1.7, "top_k": 40, "max_new_tokens": 6, "num_beams": 1, "typical_p": 0.5,
    "eos_token_id": [257, 3]})");
  CHECK(place.generate("abc", {"--max-new-tokens", "6", "--ignore-end"}) == plain);
  const Outcome outcome = checked({"generate", "--model", place.path("model"), "--prompt", "abc", "--model-defaults", "--ignore-end", "--seed", "2"});
  CHECK(outcome.err.find("not followed: typical_p") != std::string::npos);
  CHECK(outcome.out == place.generate("abc", {"--temperature", "1.7", "--top-k", "40", "--max-new-tokens", "6", "--ignore-end", "--seed", "2"}));
  CHECK(outcome.out != plain);
  const Arguments greedy{"--model-defaults", "--temperature", "0", "--ignore-end"};
  CHECK(place.generate("abc", greedy) == plain);
}

TEST_CASE("every kind of delta on a language model", "[cli][lm][methods]") {
  const LanguagePlace place;
  const std::string data = place.folder.file("poem.txt", std::string(200, 'a') + std::string(200, 'b')).string();
  for (const auto& [method, options] : std::vector<std::pair<std::string, Arguments>>{{"ia3", {}},
                                                                                      {"houlsby", {"--reduction-factor", "4"}},
                                                                                      {"prefix", {"--virtual-tokens", "3"}},
                                                                                      {"prompt", {"--prompt-text", "aab", "--virtual-tokens", "3"}},
                                                                                      {"diff_pruning", {"--prune-at", "2", "--density", "0.1"}},
                                                                                      {"bitfit", {}},
                                                                                      {"unipelt", {"--learning-rate", "1e-3"}},
                                                                                      {"prompt+lora", {"--virtual-tokens", "3"}}}) {
    INFO(method);
    Arguments more{"--method", method, "--eval-data", data, "--steps", "3"};
    more.insert(more.end(), options.begin(), options.end());
    const Json summary = place.train(data, method, more);
    CHECK(place.evaluate(data, {"--adapter", place.path(method)}).at("eval_loss").get<double>() == Approx(summary.at("eval_loss").get<double>()).epsilon(1e-4));

    // With a cache of keys and values as without: the likeliest token after a text is that of forward's logits.
    const std::string text = place.generate("aaabbb", {"--adapter", place.path(method), "--max-new-tokens", "1", "--ignore-end"});
    CHECK(text.size() > 6);
  }
}

TEST_CASE("what a language model cannot do", "[cli][lm][mistakes]") {
  const LanguagePlace place;
  const auto fails = [&](const Arguments& arguments, const std::vector<std::string>& words) {
    const Outcome outcome = run_program(arguments);
    check_failure(outcome, words);
  };
  make_text_model(place.folder / "bert");
  const std::string model = place.path("model"), bert = place.path("bert"), text = place.folder.file("a.txt", "abcabcabc").string();
  fails({"generate", "--model", bert, "--prompt", "good"}, {bert, "language model"});
  fails({"generate", "--model", model, "--prompt", ""}, {"--prompt"});
  fails({"generate", "--model", model, "--prompt", "abc", "--max-new-tokens", "60"}, {"positions", "41", "63"});
  fails({"train", "--task", "lm", "--model", bert, "--data", text, "--out", place.path("out")}, {"--task lm", "GPT-2"});
  fails({"train", "--task", "lm", "--model", model, "--data", text, "--method", "head", "--max-length", "8", "--out", place.path("out")}, {"output layer"});
  fails({"train", "--task", "lm", "--model", model, "--data", place.folder.file("empty.txt", "").string(), "--out", place.path("out")},
        {"empty.txt", "no text"});
  fails({"train", "--task", "lm", "--model", model, "--data", place.folder.file("x.jsonl", "{\"prompt\": 3}\n").string(), "--out", place.path("out")},
        {"x.jsonl", "line 1", "prompt"});
  fails({"predict", "--model", model, "--data", place.folder.file("x.csv", "text\nabc\n").string()}, {model, "no classifier"});
}
