#include "deltatune/text/chat_template.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/io/mapped_file.hpp"
#include "deltatune/text/chat_spans.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune {
namespace {

using Catch::Contains;

const std::filesystem::path& chat_data() {
  static const std::filesystem::path folder = std::filesystem::path(DELTATUNE_TEST_DIR) / "data/chat";
  return folder;
}

std::uint32_t chat_hash(std::string_view text) {
  std::uint32_t value = 0x811C9DC5;
  for (const char byte : text) value = (value ^ static_cast<unsigned char>(byte)) * 0x01000193;
  return value;
}

std::vector<Conversation> golden_conversations() {
  const MappedFile file(chat_data() / "conversations.json");
  std::vector<Conversation> conversations;
  for (std::string_view rest = file.text(); !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with(',')) line.remove_suffix(1);
    if (line.size() > 1) conversations.push_back(parse_conversation(line, "conversations.json"));
  }
  return conversations;
}

ChatTemplate chat_of(const std::string& source) {
  jinja::Dict tokens;
  tokens.set("bos_token", "<s>");
  tokens.set("eos_token", "</s>");
  return ChatTemplate(jinja::Template(source, "t"), tokens);
}

std::string without(std::string text, const std::string& part) {
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part)) text.erase(at, part.size());
  return text;
}

ChatOptions with_time(bool add_generation_prompt = false) {
  return {.add_generation_prompt = add_generation_prompt, .now = jinja::DateTime{2024, 7, 26, 13, 5, 9}};
}

Conversation talk(const std::string& messages) { return parse_conversation(messages, "line 1"); }

// The spans as strings.
std::vector<std::string> learnt(const ChatText& text) {
  std::vector<std::string> spans;
  for (const AssistantSpan& span : text.spans) spans.push_back(text.text.substr(span.begin, span.end - span.begin));
  return spans;
}

}  // namespace

// tests/data/chat/renderings.json: transformers 4.57.6. Each template twice: with its generation blocks, and without them, where the spans are found.
TEST_CASE("chat templates as transformers renders them, and what the assistant says", "[text][chat]") {
  const std::vector<Conversation> conversations = golden_conversations();
  const nlohmann::json golden = parse_json(MappedFile(chat_data() / "renderings.json").text(), "renderings.json");
  int compared = 0, refused = 0;
  for (const nlohmann::json& row : golden) {
    const std::string name = row[0].get<std::string>();
    const Conversation& conversation = conversations.at(row[1].get<std::size_t>());
    const std::string marked(MappedFile(chat_data() / (name + ".jinja")).text());
    for (const std::string& source : {marked, without(without(marked, "{%- generation -%}"), "{%- endgeneration -%}")}) {
      INFO(name << ", conversation " << row[1] << (source == marked ? ", with" : ", without") << " generation blocks");
      const ChatTemplate chat = chat_of(source);
      CHECK(chat.template_for(conversation).has_generation_blocks() == (source == marked));
      if (row[3].is_null()) {
        CHECK_THROWS_AS(chat.render(conversation, with_time(true)), Error);
      } else {
        CHECK(chat_hash(chat.render(conversation, with_time(true))) == row[3].get<std::uint32_t>());
      }
      if (row[2].is_null()) {
        CHECK_THROWS_AS(chat.render(conversation, with_time()), Error);
        CHECK_THROWS_AS(render_with_spans(chat, conversation, with_time()), Error);
        ++refused;
        continue;
      }
      CHECK(chat_hash(chat.render(conversation, with_time())) == row[2].get<std::uint32_t>());
      const ChatText text = render_with_spans(chat, conversation, with_time());
      CHECK(chat_hash(text.text) == row[2].get<std::uint32_t>());
      nlohmann::json spans = nlohmann::json::array();
      for (const AssistantSpan& span : text.spans) spans.push_back({span.begin, span.end});
      CHECK(spans == row[4]);
      ++compared;
    }
  }
  CHECK(compared > 400);
  CHECK(refused > 40);
}

TEST_CASE("chat spans: message, end of turn and content", "[text][chat]") {
  const std::string body = "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}END{% endfor %}{{ '<assistant>' if add_generation_prompt }}";
  const auto spans = [](std::string source, const std::string& end, const std::string& messages) {
    return render_with_spans(chat_of(source.replace(source.find("END"), 3, end)), talk(messages));
  };
  const std::string two =
      R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b  "}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}])";
  const ChatText with_end = spans(body, "</e>\\n", two);  // outside of an expression: a backslash and an n
  CHECK(learnt(with_end) == std::vector<std::string>{"b  </e>\\n", "d</e>\\n"});
  CHECK((with_end.spans[0].message == std::size_t{1} && with_end.spans[1].message == std::size_t{3}));
  CHECK((with_end.spans[0].ends_turn && with_end.spans[0].holds_content));
  const ChatText line_ends = spans(body, "{{ '</e>\\n' }}", two);
  CHECK(learnt(line_ends) == std::vector<std::string>{"b  </e>", "d</e>"});
  const ChatText no_end = spans(body, "{{ '\\n\\n' }}", two);
  CHECK(learnt(no_end) == std::vector<std::string>{"b", "d"});
  CHECK_FALSE(no_end.spans[0].ends_turn);
  const ChatText dropped = render_with_spans(
      chat_of("{% for m in messages %}<{{ m.role }}>{% for c in m.content %}{{ c.text }}{% endfor %}.{% endfor %}{{ '<assistant>' if add_generation_prompt }}"),
      talk(two));
  CHECK_FALSE(dropped.spans[0].holds_content);
  CHECK_THROWS_WITH(render_with_spans(chat_of(body), talk(two), {.add_generation_prompt = true}), Contains("has no generation prompt"));
}

TEST_CASE("chat spans: templates in which turns cannot be told apart are refused", "[text][chat]") {
  const std::string two = R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])";
  const auto refuses = [](const std::string& source, const std::string& messages, const std::string& what) {
    INFO(source);
    CHECK_THROWS_WITH(render_with_spans(chat_of(source), talk(messages)), Contains("messages[1]: ") && Contains(what) && Contains("{% generation %}"));
  };
  refuses("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ 'bot: ' if add_generation_prompt }}", two,
          "begins this turn otherwise than its generation prompt; expected \"bot: \"");
  refuses("{% for m in messages %}{{ m.content }}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}", two, "writes this message in several places");
  refuses("{{ 'P' if add_generation_prompt }}{% for m in messages %}{{ m.content }}{% endfor %}", two, "generation prompt changes the text in front of it");
  refuses("{% for i in range(messages|length) %}{{ messages|length }}{{ messages[i].content }}{% endfor %}", two, "later messages change");
  const std::string tools = R"([{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"name": "f"}]}, {"role": "tool", "content": "seven"}])";
  refuses("{% for m in messages %}{% if m.role != 'tool' %}{{ m.role }}{{ messages[loop.index].content if m.tool_calls }}{% endif %}{% endfor %}", tools,
          "writes messages[2] into this turn, too");
  // A loop over numbers: by prefixes.
  const ChatText by_number = render_with_spans(chat_of("{% for i in range(messages|length) %}<{{ messages[i].role }}>{{ messages[i].content }}</e>\n{% endfor "
                                                       "%}{{ '<assistant>' if add_generation_prompt }}"),
                                               talk(two));
  CHECK(learnt(by_number) == std::vector<std::string>{"b</e>"});
}

TEST_CASE("chat templates: a malformed conversation is named by message and field", "[text][chat]") {
  const auto refuses = [](const std::string& messages, const std::string& what) {
    INFO(messages);
    CHECK_THROWS_WITH(talk(messages), Contains(what));
  };
  refuses("[]", "messages: the conversation has no messages");
  refuses("{}", "messages: the conversation has no messages");
  refuses("3", "line 1: wrong JSON; expected a list of messages");
  refuses(R"({"messages": "x"})", "messages: wrong type; expected a list, got str");
  refuses(R"(["x"])", "messages[0]: wrong type; expected an object with role and content, got str");
  refuses(R"([{"role": "user", "content": "x"}, {"content": "y"}])", "messages[1]: has no role");
  refuses(R"([{"role": 3, "content": "y"}])", "messages[0]: role: wrong type; expected a string, got int");
  refuses(R"([{"role": "user"}])", "messages[0]: has no content");
  refuses(R"([{"role": "user", "content": null}])", "messages[0]: has no content");
  refuses(R"([{"role": "assistant", "content": null, "tool_calls": []}])", "messages[0]: has no content");
  refuses(R"([{"role": "assistant", "tool_calls": 3}])", "messages[0]: tool_calls: wrong type");
  refuses(R"([{"role": "user", "content": 5}])", "messages[0]: content: wrong type; expected a string or a list of parts, got int");
  refuses(R"([{"role": "user", "content": ["x"]}])", "messages[0]: content[0]: wrong type");
  refuses(R"([{"role": "user", "content": [{"text": "x"}]}])", "messages[0]: content[0]: has no type");
  refuses(R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0]: content[0]: has no text");
  refuses(R"({"messages": [{"role": "user", "content": "x"}], "tools": "[]"})", "tools: wrong type; expected a list of objects, got str");
  refuses(R"({"messages": [{"role": "user", "content": "x"}], "tools": [1]})", "tools[0]: wrong type");
  refuses(R"({"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": 1})", "chat_template_kwargs: wrong type");
  CHECK(talk(R"({"messages": [{"role": "user", "content": "x"}], "id": 7})").unread == std::vector<std::string>{"id"});

  const ChatTemplate chat = chat_of(
      "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}{{ raise_exception('unknown role ' + m.role) }}{% endif %}{% endfor %}");
  CHECK_THROWS_WITH(chat.render(talk(R"([{"role": "user", "content": "x"}, {"role": "narrator", "content": "y"}])")),
                    Contains("messages[1]: the template refuses the conversation: unknown role narrator (t: line 1)"));
  CHECK_THROWS_WITH(chat.render(talk(R"([{"role": "user", "content": [{"type": "text", "text": "x"}]}])")),
                    Contains("messages[0]: content is a list of parts, which this template would print as it stands"));
  CHECK_THROWS_WITH(chat_of("{{ strftime_now('%Y') }}").render(talk(R"([{"role": "user", "content": "x"}])")),
                    Contains("messages: the template asks for the present time"));
}

TEST_CASE("chat templates of model folders", "[text][chat]") {
  const test::TemporaryFolder folder;
  const Conversation hello = talk(R"([{"role": "user", "content": "x"}])");
  const Conversation tools = talk(R"({"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "f"}]})");
  const auto write = [&folder](const char* name, const std::string& text) {
    std::filesystem::create_directories((folder.path() / name).parent_path());
    std::ofstream(folder.path() / name) << text;
  };
  CHECK_THROWS_WITH(ChatTemplate::open(folder.path()), Contains("the folder has no chat template"));

  write("chat_template.json", R"({"chat_template": "json"})");
  CHECK(ChatTemplate::open(folder.path()).render(hello) == "json");
  write("tokenizer_config.json",
        R"({"chat_template": "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ unk_token }}{{ image_token }}", "bos_token": "<b>",
    "eos_token": {"content": "<e>", "lstrip": false}, "pad_token": null, "extra_special_tokens": {"image_token": "<i>"}})");
  write("special_tokens_map.json", R"({"unk_token": {"content": "<u>"}, "bos_token": "other"})");
  CHECK(ChatTemplate::open(folder.path()).render(hello) == "<b><e>False<u><i>");
  CHECK(ChatTemplate::open(folder.path()).render(talk(R"({"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"bos_token": "<B>"}})")) ==
        "<B><e>False<u><i>");

  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}, {"name": "rag", "template": "r"}]})");
  CHECK(ChatTemplate::open(folder.path()).render(hello) == "d");
  CHECK(ChatTemplate::open(folder.path()).render(tools) == "t");
  CHECK(ChatTemplate::open(folder.path(), "rag").render(tools) == "r");
  CHECK_THROWS_WITH(ChatTemplate::open(folder.path(), "nope"), Contains("has no chat template \"nope\""));
  write("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  CHECK_THROWS_WITH(ChatTemplate::open(folder.path()), Contains("tokenizer_config.json: chat_template[0]: wrong type"));
  write("tokenizer_config.json", R"({"chat_template": "\n{% if %}"})");
  CHECK_THROWS_WITH(ChatTemplate::open(folder.path()), Contains("tokenizer_config.json: chat_template: line 2: wrong syntax"));
  write("tokenizer_config.json", R"({"chat_template": "x", "bos_token": 3})");
  CHECK_THROWS_WITH(ChatTemplate::open(folder.path()), Contains("tokenizer_config.json: bos_token: wrong type"));

  write("tokenizer_config.json", R"({"chat_template": "config"})");
  write("chat_template.jinja", "file\n");
  CHECK(ChatTemplate::open(folder.path()).render(hello) == "file");
  write("additional_chat_templates/tool_use.jinja", "file for tools");
  CHECK(ChatTemplate::open(folder.path()).render(tools) == "file for tools");
  CHECK(ChatTemplate::open(folder.path()).render(hello) == "file");
}

}  // namespace deltatune
