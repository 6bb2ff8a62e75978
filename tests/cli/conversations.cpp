// Conversations: trained on, evaluated, and what is said about the data.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <span>

#include "cli/program.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/io/safetensors.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Json = nlohmann::json;
using Arguments = std::vector<std::string>;
using Catch::Contains;

namespace {

constexpr const char* kTemplate =
    "{% for m in messages %}{{ '<' + m.role[0] + '>' + m.content + '|' }}{% endfor %}{% if add_generation_prompt %}{{ '<a>' }}{% endif %}";

// The letters that the template and the conversations are written with, a token each: 48 are the model's.
const std::string kLetters = "<>|abcdefghijklmnopqrstuvwxyz ?.";

Json tokenizer_json() {
  Json vocabulary = Json::object();
  for (std::size_t i = 0; i < kLetters.size(); ++i) {
    std::string letter;
    append_utf8(kLetters[i] == ' ' ? U'\u0120' : static_cast<char32_t>(static_cast<unsigned char>(kLetters[i])), letter);
    vocabulary[letter] = i;
  }
  const auto bytes = Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  return {{"pre_tokenizer", bytes}, {"decoder", bytes}, {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array()}}}};
}

Json said(const char* role, const std::string& content) { return {{"role", role}, {"content", content}}; }
Json talk(const std::string& question, const std::string& answer) { return {{"messages", {said("user", question), said("assistant", answer)}}}; }

struct TrainingPlace {
  explicit TrainingPlace(const std::string& name = "llama", bool has_template = true) {
    std::filesystem::create_directories(folder / "model");
    for (const char* file : {"config.json", "model.safetensors"}) std::filesystem::copy_file(kModels / name / file, folder / "model" / file);
    folder.file("model/tokenizer.json", tokenizer_json().dump());
    if (has_template) folder.file("model/chat_template.jinja", kTemplate);
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }
  std::string lines(const std::string& name, const std::vector<Json>& records) const {
    std::string text;
    for (const Json& record : records) text += record.dump() + "\n";
    return folder.file(name, text).string();
  }

  Outcome train(const std::string& data, const std::string& out, const Arguments& more = {}) const {
    Arguments arguments{"train", "--model", path("model"), "--data", data, "--out", path(out), "--batch-size", "2", "--json"};
    if (std::find(more.begin(), more.end(), "--steps") == more.end()) arguments.insert(arguments.end(), {"--steps", "2"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }
  Outcome evaluate(const std::string& data, const Arguments& more = {}) const {
    Arguments arguments{"evaluate", "--model", path("model"), "--data", data, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }
  Json evaluation(const std::string& data, const Arguments& more = {}) const {
    const Outcome outcome = evaluate(data, more);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return Json::parse(last_line(outcome.out));
  }

  // The loss of forward on one text, whose tokens are learnt where `mask` has an x; summed over them.
  double forward_loss(const std::string& text, const std::string& mask) const {
    REQUIRE(text.size() == mask.size());
    std::vector<std::int64_t> ids, labels;
    for (std::size_t i = 0; i < text.size(); ++i) {
      ids.push_back(static_cast<std::int64_t>(kLetters.find(text[i])));
      labels.push_back(mask[i] == 'x' ? ids.back() : -100);
    }
    SafeTensorsWriter writer;
    const Index length = static_cast<Index>(ids.size());
    writer.add("input_ids", {1, length}, std::span<const std::int64_t>(ids));
    writer.add("labels", {1, length}, std::span<const std::int64_t>(labels));
    writer.write(folder / "batch.safetensors");
    const Outcome outcome = run_program({"forward", "--model", path("model"), "--batch", path("batch.safetensors"), "--out", path("forward.safetensors")});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    std::vector<double> loss(1);
    read_floats(SafeTensors::open(folder / "forward.safetensors").at("loss"), std::span<double>(loss));
    return loss[0] * static_cast<double>(std::count(mask.begin(), mask.end(), 'x'));
  }

  TemporaryFolder folder;
};

void check_said(const Outcome& outcome, int code, const std::vector<std::string>& words) {
  INFO(outcome.out << outcome.err);
  CHECK(outcome.code == code);
  for (const std::string& word : words) CHECK_THAT(outcome.err, Contains(word));
}

}  // namespace

TEST_CASE("conversations are learnt where the assistant speaks, whatever lies beside them in a batch", "[cli][chat][covering]") {
  const TrainingPlace place;
  const std::string data = place.lines(
      "talks.jsonl", {talk("why?", "so."),
                      {{"messages", {said("system", "be brief"), said("user", "a"), said("assistant", "b"), said("user", "cc"), said("assistant", "dd")}}}});
  const double first = place.forward_loss("<u>why?|<a>so.|", "-----------xxxx");
  const double second = place.forward_loss("<s>be brief|<u>a|<a>b|<u>cc|<a>dd|", "--------------------xx---------xxx");
  const Json both = place.evaluation(data);
  CHECK(both.at("examples") == 2);
  CHECK(both.at("tokens").get<double>() == 9);
  CHECK(both.at("eval_loss").get<double>() == Approx((first + second) / 9).epsilon(1e-5));
  CHECK(place.evaluation(data, {"--batch-size", "1"}).at("eval_loss").get<double>() == Approx(both.at("eval_loss").get<double>()).epsilon(1e-5));
}

TEST_CASE("training on conversations: found by their records, said in the record, gone on with", "[cli][chat]") {
  const TrainingPlace place(GENERATE(as<std::string>(), "llama", "qwen2"));
  const std::string data = place.lines("talks.jsonl", std::vector<Json>(6, talk("why?", "because.")));
  const Json before = place.evaluation(data);
  const Outcome trained = place.train(data, "lora", {"--steps", "40", "--learning-rate", "3e-2", "--warmup-ratio", "0", "--eval-data", data});
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  CHECK_THAT(trained.out, Contains("6 conversations") && Contains("held-out conversations"));
  const Json after = place.evaluation(data, {"--adapter", place.path("lora")});
  CHECK(after.at("eval_loss").get<double>() < 0.8 * before.at("eval_loss").get<double>());
  const Json record = Json::parse(content_of(place.folder / "lora/run.json"));
  CHECK(record.at("task") == "chat");
  CHECK(record.at("max_length") == 64);  // the model's positions; 1024 otherwise
  CHECK_FALSE(record.contains("chat_date"));
  CHECK(content_of(place.folder / "lora/chat_template.jinja") == kTemplate);
  CHECK(std::filesystem::exists(place.folder / "lora/tokenizer.json"));

  const Outcome further = place.train(data, "more", {"--init-adapter", place.path("lora"), "--eval-data", data, "--learning-rate", "1e-3"});
  INFO(further.err);
  REQUIRE(further.code == 0);
  CHECK(Json::parse(last_line(further.out)).at("eval_loss").get<double>() < 0.9 * before.at("eval_loss").get<double>());
}

TEST_CASE("a template of one's own goes with the adapter, and on with it", "[cli][chat]") {
  const TrainingPlace place;
  std::filesystem::create_directories(place.folder / "model/additional_chat_templates");
  place.folder.file("model/additional_chat_templates/tool_use.jinja", "tools");
  const std::string data = place.lines("talks.jsonl", {talk("why?", "so."), talk("who?", "me.")});
  const std::string own = "{% for m in messages %}{{ m.role[0] + '.' + m.content + '|' }}{% endfor %}{% if add_generation_prompt %}{{ 'a.' }}{% endif %}";
  const std::string file = place.folder.file("own.jinja", own).string();
  REQUIRE(place.train(data, "usual", {"--eval-fraction", "0"}).code == 0);
  CHECK(content_of(place.folder / "usual/additional_chat_templates/tool_use.jinja") == "tools");
  const Outcome outcome = place.train(data, "lora", {"--chat-template", file, "--eval-fraction", "0"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(content_of(place.folder / "lora/chat_template.jinja") == own);
  CHECK_FALSE(std::filesystem::exists(place.folder / "lora/additional_chat_templates"));
  // evaluate takes the adapter's, --init-adapter too, and a merged model has it.
  CHECK(place.evaluation(data, {"--adapter", place.path("lora")}).at("eval_loss") ==
        place.evaluation(data, {"--adapter", place.path("lora"), "--chat-template", file}).at("eval_loss"));
  CHECK(place.evaluation(data, {"--adapter", place.path("lora")}).at("eval_loss") !=
        place.evaluation(data, {"--adapter", place.path("lora"), "--chat-template", place.path("model/chat_template.jinja")}).at("eval_loss"));
  REQUIRE(place.train(data, "more", {"--init-adapter", place.path("lora"), "--eval-fraction", "0"}).code == 0);
  CHECK(content_of(place.folder / "more/chat_template.jinja") == own);
  CHECK_FALSE(std::filesystem::exists(place.folder / "more/additional_chat_templates"));
  REQUIRE(run_program({"merge", "--model", place.path("model"), "--adapter", place.path("more"), "--out", place.path("merged")}).code == 0);
  CHECK(content_of(place.folder / "merged/chat_template.jinja") == own);
  REQUIRE(run_program({"convert", "--model", place.path("model"), "--adapter", place.path("more"), "--rank", "8", "--out", place.path("converted")}).code == 0);
  CHECK(content_of(place.folder / "converted/chat_template.jinja") == own);
  for (const char* const made : {"merged/run.json", "converted/run.json"}) {
    CAPTURE(made);
    const Json record = Json::parse(content_of(place.folder / made));
    CHECK(record.at("task") == "chat");
    CHECK(record.at("max_length") == Json::parse(content_of(place.folder / "more/run.json")).at("max_length"));
  }
}

TEST_CASE("records of every format are the same conversation", "[cli][chat]") {
  const TrainingPlace place;
  const Json turns{{"prompt", {said("user", "why?")}}, {"completion", {said("assistant", "so.")}}};
  const Json share{{"conversations", {{{"from", "human"}, {"value", "why?"}}, {{"from", "gpt"}, {"value", "so."}}}}};
  const Json alpaca{{"instruction", "why?"}, {"input", ""}, {"output", "so."}};
  const double loss = place.evaluation(place.lines("messages.jsonl", {talk("why?", "so.")})).at("eval_loss");
  for (const Json& record : {turns, share, alpaca}) CHECK(place.evaluation(place.lines("other.jsonl", {record})).at("eval_loss").get<double>() == Approx(loss));
  CHECK(place.evaluation(place.folder.file("list.json", "\xEF\xBB\xBF" + Json::array({turns}).dump(2)).string()).at("eval_loss").get<double>() == Approx(loss));
  check_said(place.evaluate(place.lines("alpaca.jsonl", {alpaca})), 0, {"1 of 1 records is an instruction, which is learnt as a conversation of one turn"});

  // An answer in the prompt is given.
  const Json later{{"prompt", {said("user", "a"), said("assistant", "b"), said("user", "c")}}, {"completion", {said("assistant", "d")}}};
  CHECK(place.evaluation(place.lines("later.jsonl", {later})).at("tokens").get<double>() == 2);
}

TEST_CASE("instructions without a chat template are text behind Alpaca's prompt", "[cli][chat]") {
  const TrainingPlace place("llama", false);
  std::string config = content_of(place.folder / "model/config.json");
  const std::string few = "\"max_position_embeddings\": 64";
  REQUIRE(config.find(few) != std::string::npos);
  const std::string data = place.lines("alpaca.jsonl", {{{"instruction", "add."}, {"input", "a b"}, {"output", "abc"}}});
  check_said(place.train(data, "out", {"--eval-fraction", "0"}), 1, {"every prompt is longer than --max-length 64, which leaves no room for a completion"});
  place.folder.file("model/config.json", config.replace(config.find(few), few.size(), "\"max_position_embeddings\": 512"));
  const Arguments options{"--eval-fraction", "0", "--max-length", "512"};
  const Outcome trained = place.train(data, "out", options);
  check_said(trained, 0, {"1 of 1 texts is an instruction, which is learnt with Alpaca's prompt in front; the first in line 1"});
  CHECK(Json::parse(content_of(place.folder / "out/run.json")).at("task") == "lm");
  Arguments chat = options;
  chat.insert(chat.end(), {"--task", "chat"});
  check_said(place.train(data, "chat", chat), 1, {"has no chat template", "--chat-template FILE"});
  // As it was trained, although there is a template now.
  place.folder.file("model/chat_template.jinja", kTemplate);
  check_said(place.evaluate(data, {"--adapter", place.path("out")}), 0, {"learnt with Alpaca's prompt in front"});
  check_said(place.evaluate(data), 0, {"learnt as a conversation of one turn"});
  CHECK(place.evaluation(data, {"--adapter", place.path("out")}).at("tokens").get<double>() == 3);
}

TEST_CASE("what of conversations is left out or not learnt is said", "[cli][chat]") {
  const TrainingPlace place;
  Json messages = Json::array({said("system", "be brief")});
  for (int i = 0; i < 6; ++i) {
    messages.push_back(said("user", "question"));
    messages.push_back(said("assistant", "answer"));
  }
  const Json long_talk{{"messages", messages}}, silent{{"messages", {said("user", "hello")}}}, huge = talk(std::string(80, 'a'), "b");
  Json with_id = talk("why?", "so.");
  with_id["source"] = "x";
  const std::string data = place.lines("talks.jsonl", {long_talk, silent, huge, with_id, talk("who?", "me.")});
  const Outcome cut = place.train(data, "cut", {"--eval-fraction", "0"});
  check_said(
      cut, 0,
      {"talks.jsonl: 1 of 5 conversations is left out, since nothing of it is the assistant's to be learnt; the first in line 2",
       "1 of 5 conversations is left out, being longer than --max-length 64 even without all earlier turns; the first in line 3",
       "1 of 5 conversations is longer than --max-length 64 and lost 8 messages in front (--long drop leaves such conversations out); the first in line 1",
       "the field \"source\" is not read; the first in line 4"});
  CHECK_THAT(cut.out, Contains("3 conversations"));
  const Outcome dropped = place.train(data, "drop", {"--eval-fraction", "0", "--long", "drop"});
  check_said(dropped, 0, {"2 of 5 conversations are left out, being longer than --max-length 64; the first in line 1"});
  CHECK_THAT(dropped.out, Contains("2 conversations"));
  check_said(place.train(place.lines("huge.jsonl", {huge}), "none", {"--eval-fraction", "0"}), 1,
             {"all conversations that could be learnt are longer than --max-length 64"});
  check_said(place.train(place.lines("silent.jsonl", {silent}), "none", {"--eval-fraction", "0"}), 1,
             {"holds no conversation to learn from", "1 conversation without any"});

  const std::string endless =
      place.folder.file("endless.jinja", "{% for m in messages %}<{{ m.role[0] }}>{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}").string();
  check_said(place.evaluate(place.lines("one.jsonl", {talk("why?", "so.")}), {"--chat-template", endless}), 0, {"no token behind the text that ends the turn"});
}

TEST_CASE("templates that print the date print that of the run", "[cli][chat]") {
  const TrainingPlace place;
  const std::string template_file =
      place.folder
          .file("dated.jinja",
                "{{ strftime_now('%B').lower() }}{% for m in messages %}<{{ m.role[0] }}>{% generation %}{{ m.content }}|{% endgeneration %}{% endfor %}")
          .string();
  const std::string data = place.lines("talks.jsonl", {talk("why?", "so."), talk("who?", "me.")});
  const Arguments options{"--chat-template", template_file, "--eval-fraction", "0"};
  const Outcome today = place.train(data, "today", options);
  check_said(today, 0, {"the chat template prints the date, 20"});
  Arguments dated = options;
  dated.insert(dated.end(), {"--date", "2024-07-26"});
  const Outcome given = place.train(data, "given", dated);
  INFO(given.err);
  REQUIRE(given.code == 0);
  CHECK_THAT(given.err, !Contains("prints the date"));
  CHECK(Json::parse(content_of(place.folder / "given/run.json")).at("chat_date") == "2024-07-26");
  const Arguments adapter{"--adapter", place.path("given")};
  Arguments same = adapter, other = adapter;
  same.insert(same.end(), {"--date", "2024-07-01"});
  other.insert(other.end(), {"--date", "2024-05-01"});
  CHECK(place.evaluation(data, adapter).at("eval_loss") == place.evaluation(data, same).at("eval_loss"));
  CHECK(place.evaluation(data, adapter).at("eval_loss") != place.evaluation(data, other).at("eval_loss"));
  Arguments wrong = options;
  wrong.insert(wrong.end(), {"--date", "2024-02-30"});
  check_said(place.train(data, "wrong", wrong), 1, {"--date: is no date; expected such as 2026-11-28, got \"2024-02-30\""});
}

TEST_CASE("mistakes in conversations", "[cli][chat][mistakes]") {
  const TrainingPlace place, bare("llama", false);
  const std::string data = place.lines("talks.jsonl", {talk("why?", "so.")});
  const auto fails = [&](const TrainingPlace& where, const std::string& file, const Arguments& more, const std::vector<std::string>& words) {
    const Outcome outcome = where.train(file, "out", more);
    check_said(outcome, 1, words);
    CHECK(last_line(outcome.err).starts_with("error: "));
  };
  const auto broken = [&](const Json& second) { return place.lines("broken.jsonl", {talk("a", "b"), second}); };
  fails(place, broken({{"messages", {said("user", "a"), {{"content", "b"}}}}}), {},
        {"broken.jsonl: line 2: messages[1]: has no role; expected \"role\": such as user"});
  fails(place, broken({{"messages", "x"}}), {}, {"broken.jsonl: line 2: messages: wrong type; expected a list of messages, got str"});
  fails(place, broken({{"conversations", {{{"from", "narrator"}, {"value", "x"}}}}}), {}, {"line 2: conversations[0]: from: is no speaker", "\"narrator\""});
  fails(place, broken({{"question", "x"}}), {}, {"line 2: is no conversation; expected \"messages\"", "the fields question", "--task lm"});
  fails(place, broken({{"text", "x"}}), {"--task", "lm"}, {"line 1: has neither prompt", "the fields messages", "--task chat learns conversations"});
  fails(place, place.folder.file("half.jsonl", data.empty() ? "" : talk("a", "b").dump() + "\n{\"messages\": [\n").string(), {},
        {"half.jsonl: line 2", "JSON"});
  fails(place, place.folder.file("poem.txt", "x").string(), {"--task", "chat"}, {"poem.txt: is no file of conversations", "--task lm learns plain text"});
  fails(bare, data, {}, {"model: has no chat template", "expected chat_template.jinja", "give one with --chat-template FILE"});
  fails(place, data, {"--task", "lm", "--date", "2024-01-01"}, {"--date: is for conversations"});
  fails(place, data, {"--label-column", "x"}, {"--label-column: is for texts with labels"});
  fails(place, data, {"--chat-template", place.folder.file("bad.jinja", "{% for %}").string()}, {"bad.jinja: line 1"});
  fails(place, data, {"--chat-template", place.folder.file("refuses.jinja", "{{ raise_exception('no') }}").string()},
        {"talks.jsonl: line 1: ", "the template refuses the conversation: no"});
  make_text_model(place.folder / "bert");
  check_said(run_program({"train", "--model", place.path("bert"), "--data", data, "--out", place.path("out")}), 1, {"--task chat: needs a language model"});
}

TEST_CASE("a model card says what was trained on what, how well it does and how to load it", "[cli][chat][results]") {
  const TrainingPlace place;
  const std::string data = place.lines("talks.jsonl", std::vector<Json>(4, talk("why?", "so.")));
  REQUIRE(place.train(data, "lora", {"--eval-data", data}).code == 0);
  const std::string card = content_of(place.folder / "lora/README.md");
  const Json record = Json::parse(content_of(place.folder / "lora/run.json"));
  INFO(card);
  CHECK(card.starts_with("---\n"));
  CHECK_THAT(card, Contains("library_name: peft\npipeline_tag: text-generation\ntags:\n- \"lora\"\n- transformers\n- deltatune\n"));
  CHECK_THAT(card, !Contains("base_model:"));  // a path of this machine is no name of the hub
  CHECK_THAT(card, Contains("metrics:\n    - type: loss\n") && Contains("- type: perplexity\n") && Contains("on 4 examples of `talks.jsonl`: 2 steps of 2"));
  CHECK_THAT(card, Contains("PeftModel.from_pretrained(model, \"lora\")") && Contains("deltatune chat --model " + place.path("model") + " --adapter lora"));
  CHECK_THAT(card, Contains("value: " + Json(record.at("eval_loss")).dump().substr(0, 5)));

  const std::string text = place.folder.file("a.txt", "abc abc abc abc").string();
  REQUIRE(place.train(text, "full", {"--method", "full", "--eval-fraction", "0", "--max-length", "8"}).code == 0);
  CHECK_THAT(content_of(place.folder / "full/README.md"),
             Contains("library_name: transformers") && Contains("nothing was held out") && Contains("deltatune generate --model full"));
  REQUIRE(place.train(text, "pair", {"--method", "lora+prefix", "--eval-fraction", "0", "--max-length", "8"}).code == 0);
  CHECK_THAT(content_of(place.folder / "pair/README.md"), Contains("library_name: deltatune") && Contains("- \"lora\"\n- \"prefix\"\n"));

  make_text_model(place.folder / "bert");
  const std::string table = place.folder.file("t.csv", toy_table(24)).string();
  const Arguments classify{"train", "--model", place.path("bert"), "--data", table, "--steps", "2", "--max-length", "16"};
  const auto run_to = [&](const std::string& out, const Arguments& more) {
    Arguments arguments = classify;
    arguments.insert(arguments.end(), {"--out", place.path(out)});
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_program(arguments);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return outcome;
  };
  run_to("classes", {"--method", "pfeiffer"});
  CHECK_THAT(content_of(place.folder / "classes/README.md"),
             Contains("library_name: adapters\npipeline_tag: text-classification") && Contains("- type: accuracy"));

  // Another's README.md stays; one of an earlier run does not.
  place.folder.file("classes/README.md", "mine");
  CHECK_THAT(run_to("classes", {"--overwrite"}).err, Contains("README.md is no model card of this program and stays as it is"));
  CHECK(content_of(place.folder / "classes/README.md") == "mine");
  run_to("again", {"--method", "lora"});
  run_to("again", {"--method", "bitfit", "--overwrite"});
  CHECK_THAT(content_of(place.folder / "again/README.md"), Contains("- \"bitfit\"") && !Contains("- \"lora\""));
}
