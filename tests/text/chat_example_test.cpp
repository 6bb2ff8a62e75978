#include "deltatune/text/chat_example.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/io/mapped_file.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "deltatune/text/chat_record.hpp"
#include "text/tokenizer_files.hpp"

namespace deltatune {
namespace {

using Catch::Contains;

static_assert(kGivenToken == ops::kIgnoredLabel);

ChatTemplate file_template(const std::string& name, const std::string& bos, const std::string& eos) {
  jinja::Dict tokens;
  if (!bos.empty()) tokens.set("bos_token", bos);
  tokens.set("eos_token", eos);
  return ChatTemplate(jinja::Template(MappedFile(tokenizer_files::data / "chat" / (name + ".jinja")).text(), name), tokens);
}

Tokenizer fixture_tokenizer(const std::string& name) {
  return Tokenizer::open(std::filesystem::path(DELTATUNE_TEST_DIR) / "tokenizers/fixtures" / name / "tokenizer.json");
}

std::vector<std::pair<std::size_t, std::size_t>> learnt_runs(const ChatExample& example) {
  std::vector<std::pair<std::size_t, std::size_t>> runs;
  for (std::size_t i = 0; i < example.labels.size(); ++i) {
    if (example.labels[i] == kGivenToken) continue;
    if (runs.empty() || runs.back().second != i) runs.emplace_back(i, i);
    runs.back().second = i + 1;
  }
  return runs;
}

// The learnt tokens as texts, one per run.
std::vector<std::string> learnt_texts(const ChatExample& example, const Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  for (const auto& [begin, end] : learnt_runs(example)) texts.push_back(tokenizer.decode({example.labels.data() + begin, end - begin}));
  return texts;
}

ChatRecord record_of(const std::string& json) {
  const jinja::Value record = jinja::parse_value(json, "line 1");
  return chat_record(record, format_of(record));
}

// "question 0", "answer 0", "question 1", ...
Conversation long_talk(int rounds, bool with_system) {
  nlohmann::json messages = nlohmann::json::array();
  if (with_system) messages.push_back({{"role", "system"}, {"content", "Be brief."}});
  for (int i = 0; i < rounds; ++i) {
    messages.push_back({{"role", "user"}, {"content", "question " + std::to_string(i)}});
    messages.push_back({{"role", "assistant"}, {"content", "answer " + std::to_string(i)}});
  }
  return parse_conversation(messages.dump(), "talk");
}

}  // namespace

// tests/data/chat/labels.json: apply_chat_template(return_assistant_tokens_mask=True) of transformers 4.57.6.
TEST_CASE("the labels of conversations are those of transformers' assistant masks", "[text][chat]") {
  const std::string text(MappedFile(tokenizer_files::data / "chat/conversations.json").text());
  const jinja::Value conversations = jinja::parse_value(text, "conversations.json");
  const nlohmann::json golden = parse_json(MappedFile(tokenizer_files::data / "chat/labels.json").text(), "labels.json");
  REQUIRE(golden.size() > 50);
  for (const std::string name : {"qwen2", "llama"}) {
    const Tokenizer tokenizer = fixture_tokenizer(name);
    for (const nlohmann::json& row : golden) {
      if (row[1] != name) continue;
      CAPTURE(row.dump());
      const ChatTemplate chat = name == "llama" ? file_template(row[0], "<s>", "</s>") : file_template(row[0], "", "<|im_end|>");
      const jinja::Value& record = conversations.as_sequence()->items.at(row[2].get<std::size_t>());
      const ChatRecord read = chat_record(record, format_of(record));
      const ChatExample example = chat_example(chat, read.conversation, tokenizer, {.chat = {.now = jinja::DateTime{2024, 7, 26, 13, 5, 9}}});
      CHECK(example.ids.size() == row[3]);
      CHECK(tokenizer_files::fnv1a(example.ids) == row[4]);
      CHECK(learnt_runs(example) == row[5].get<std::vector<std::pair<std::size_t, std::size_t>>>());
      for (std::size_t i = 0; i < example.ids.size(); ++i) CHECK((example.labels[i] == kGivenToken || example.labels[i] == example.ids[i]));
    }
  }
}

TEST_CASE("a conversation has one token to begin with, and the token that ends a turn is learnt", "[text][chat]") {
  const Tokenizer tokenizer = fixture_tokenizer("llama");
  const std::int32_t bos = tokenizer.id_of("<s>").value();
  REQUIRE(tokenizer.encode("x").front() == bos);
  const ChatExample example = chat_example(file_template("turns", "<s>", "</s>"), long_talk(1, false), tokenizer);
  CHECK(std::count(example.ids.begin(), example.ids.end(), bos) == 1);
  CHECK(example.ids.front() == bos);
  const Tokenizer qwen = fixture_tokenizer("qwen2");
  const ChatExample chatml = chat_example(file_template("chatml", "", "<|im_end|>"), long_talk(2, false), qwen);
  CHECK(learnt_texts(chatml, qwen) == std::vector<std::string>{"answer 0<|im_end|>", "answer 1<|im_end|>"});
  REQUIRE(chatml.spans.size() == 2);
  CHECK(chatml.spans[1].message == 3U);
}

TEST_CASE("a token that holds the edge of a span is learnt, and all tokens of its last character are", "[text][chat]") {
  const Tokenizer tokenizer =
      tokenizer_files::parsed({{"model",
                                {{"type", "BPE"},
                                 {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"d", 3}, {"bc", 4}, {"da", 5}, {"<0xC3>", 6}, {"<0xA9>", 7}, {"<unk>", 8}}},
                                 {"merges", {"b c", "d a"}},
                                 {"byte_fallback", true},
                                 {"unk_token", "<unk>"}}}});
  const auto labels = [&](const std::string& source, const std::string& answer) {
    const ChatTemplate chat(jinja::Template("{% for m in messages %}" + source + "{% endfor %}", "t"));
    return chat_example(chat, record_of(R"({"messages": [{"role": "assistant", "content": ")" + answer + "\"}]}").conversation, tokenizer).labels;
  };
  constexpr std::int32_t no = kGivenToken;
  CHECK(labels("ab{% generation %}{{ m.content }}{% endgeneration %}a", "cd") == std::vector<std::int32_t>{no, 4, 5});
  CHECK(labels("a{% generation %}{{ m.content }}{% endgeneration %}b", "cc") == std::vector<std::int32_t>{no, 2, 2, no});
  CHECK(labels("\u00e9{% generation %}{{ m.content }}{% endgeneration %}\u00e9", "a\u00e9") == std::vector<std::int32_t>{no, no, 0, 6, 7, no, no});
}

TEST_CASE("conversations that are too long lose whole turns in front, or are left out", "[text][chat]") {
  const Tokenizer tokenizer = fixture_tokenizer("qwen2");
  for (const bool with_system : {false, true}) {
    const ChatTemplate chat = file_template(with_system ? "chatml" : "turns", "", "<|im_end|>");
    const Conversation talk = long_talk(9, with_system);
    const std::size_t whole = chat_example(chat, talk, tokenizer).ids.size();
    for (const std::size_t room : {whole, whole - 1, whole / 2, whole / 3}) {
      const Index max_length = static_cast<Index>(room);
      CAPTURE(with_system, whole, room);
      const ChatExample example = chat_example(chat, talk, tokenizer, {.max_length = max_length});
      REQUIRE(!example.is_too_long);
      CHECK(example.ids.size() <= room);
      CHECK(example.messages_cut % 2 == 0);
      // The same as of the conversation that is left, and one turn more does not fit.
      const Conversation rest = long_talk(9, with_system);
      const auto left = [&](std::size_t cut) {
        std::vector<jinja::Value> messages = rest.messages.as_sequence()->items;
        const auto first = messages.begin() + (with_system ? 1 : 0);
        messages.erase(first, first + static_cast<std::ptrdiff_t>(cut));
        Conversation shorter = rest;
        shorter.messages = jinja::Value::list(messages);
        return chat_example(chat, shorter, tokenizer);
      };
      CHECK(left(example.messages_cut).ids == example.ids);
      CHECK(left(example.messages_cut).labels == example.labels);
      if (room < whole) CHECK(left(example.messages_cut - 2).ids.size() > room);
      CHECK((tokenizer.decode(example.ids).find("Be brief.") != std::string::npos) == with_system);
      CHECK(chat_example(chat, talk, tokenizer, {.max_length = max_length, .too_long = LongConversation::kDrop}).is_too_long == (room < whole));
    }
    const ChatExample none = chat_example(chat, talk, tokenizer, {.max_length = 8});
    CHECK(none.is_too_long);
    CHECK(none.ids.empty());
  }
}

TEST_CASE("a cut conversation goes on with what is learnt of it", "[text][chat]") {
  const Tokenizer tokenizer = fixture_tokenizer("qwen2");
  const ChatTemplate chat = file_template("turns", "", "<|im_end|>");
  std::vector<bool> learnt(12, true);
  learnt[9] = false;  // the answer before the last
  const Conversation talk = long_talk(6, false);
  const Index room = static_cast<Index>(chat_example(chat, talk, tokenizer).ids.size() / 2);
  const ChatExample example = chat_example(chat, talk, tokenizer, {.learnt = learnt, .max_length = room});
  const std::vector<std::string> texts = learnt_texts(example, tokenizer);
  REQUIRE(texts.size() >= 1);
  CHECK_THAT(texts.back(), Contains("answer 5"));
  for (const std::string& text : texts) CHECK_THAT(text, !Contains("answer 4"));
  // A rest in which nothing is learnt is no rest.
  std::vector<bool> first_alone(12, false);
  first_alone[1] = true;
  CHECK(chat_example(chat, talk, tokenizer, {.learnt = first_alone, .max_length = room}).is_too_long);
  CHECK_THROWS_WITH(chat_example(chat, talk, tokenizer, {.learnt = {true}}), Contains("one per message"));
}

TEST_CASE("nothing is learnt of a conversation without assistant", "[text][chat]") {
  const Tokenizer tokenizer = fixture_tokenizer("qwen2");
  const ChatExample example =
      chat_example(file_template("chatml", "", "<|im_end|>"), record_of(R"({"messages": [{"role": "user", "content": "x"}]})").conversation, tokenizer);
  CHECK(!example.has_prediction());
  CHECK(!example.ids.empty());
}

TEST_CASE("records of every format become the same conversation", "[text][chat]") {
  const auto roles = [](const ChatRecord& record) {
    std::string text;
    for (const jinja::Value& message : record.conversation.messages.as_sequence()->items)
      text += message.as_dict()->find(std::string_view("role"))->text() + ":" + message.as_dict()->find(std::string_view("content"))->text() + " ";
    return text;
  };
  const std::string expected = "system:s user:q assistant:a ";
  const ChatRecord messages = record_of(
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "id": 3, "tools": null})");
  CHECK(roles(messages) == expected);
  CHECK(messages.learnt.empty());
  CHECK(messages.conversation.unread == std::vector<std::string>{"id"});
  CHECK(messages.conversation.tools.is_none());
  CHECK(roles(record_of(R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})")) ==
        expected);
  CHECK(roles(record_of(R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"})")) == expected);
  CHECK(roles(record_of(R"({"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})")) == "user:q assistant:a ");
  CHECK(roles(record_of(R"({"instruction": "q", "input": "", "output": "a"})")) == "user:q assistant:a ");
  CHECK(roles(record_of(R"({"instruction": "q", "input": "i", "output": "a"})")) == "user:q\n\ni assistant:a ");

  const ChatRecord turns = record_of(
      R"({"prompt": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]})");
  CHECK(roles(turns) == "user:p assistant:x user:q assistant:a ");
  CHECK(turns.learnt == std::vector<bool>{false, false, false, true});
  const ChatRecord weighted = record_of(
      R"({"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x", "weight": 0}, {"role": "assistant", "content": "a", "weight": 1}]})");
  CHECK(weighted.learnt == std::vector<bool>{true, false, true});

  const ChatRecord tools = record_of(R"({"messages": [{"role": "user", "content": "q"}], "tools": "[{\"name\": \"sum\"}]"})");
  CHECK(tools.conversation.tools.as_sequence()->items.size() == 1);
  CHECK(record_of(R"({"messages": [{"role": "user", "content": "q"}], "tools": "[]"})").conversation.tools.is_none());
  CHECK(format_of(jinja::parse_value(R"({"prompt": "p", "completion": "c"})", "")) == RecordFormat::kOther);
  CHECK(format_of(jinja::parse_value(R"({"text": "p", "messages": null})", "")) == RecordFormat::kOther);
  CHECK(instruction_prompt("Add.", "1 2") ==
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes "
        "the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n");
}

TEST_CASE("what is wrong with a record is said with its field", "[text][chat]") {
  for (const auto& [json, said] : std::vector<std::pair<std::string, std::string>>{
           {R"({"messages": "x"})", "messages: wrong type; expected a list of messages, got str"},
           {R"({"messages": []})", "messages: has no messages"},
           {R"({"messages": [{"role": "user", "content": "x"}, {"content": "y"}]})", "messages[1]: has no role"},
           {R"({"messages": [{"role": "user", "content": "x", "weight": 2}]})", "messages[0]: weight: is neither 0 nor 1"},
           {R"({"conversations": [{"from": "gpt"}]})", "conversations[0]: has no value"},
           {R"({"conversations": [{"from": "narrator", "value": "x"}]})", "conversations[0]: from: is no speaker of this format; expected human, gpt"},
           {R"({"conversations": [3]})", "conversations[0]: wrong type"},
           {R"({"prompt": [{"role": "user", "content": "x"}], "completion": "y"})", "completion: wrong type; expected a list of messages, got str"},
           {R"({"prompt": [{"role": "user", "content": "x"}]})", "completion: is missing"},
           {R"({"prompt": [{"role": "user"}], "completion": [{"role": "assistant", "content": "y"}]})", "prompt[0]: has no content"},
           {R"({"instruction": 3, "output": "y"})", "instruction: wrong type; expected a string, got int"},
           {R"({"messages": [{"role": "user", "content": "x"}], "tools": "{"})", "tools"},
           {R"({"messages": [{"role": "user", "content": "x"}], "tools": [3]})", "tools[0]: wrong type"},
           {R"({"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": 3})", "chat_template_kwargs: wrong type"}})
    CHECK_THROWS_WITH(record_of(json), Contains(said));
}

}  // namespace deltatune
