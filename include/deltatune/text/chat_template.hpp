// The chat template of a model folder: conversations to the text that the model was trained on. As apply_chat_template() of transformers 4.57.
//
//   const ChatTemplate chat = ChatTemplate::open("model");
//   const Conversation conversation = parse_conversation(R"([{"role": "user", "content": "Hello"}])", "line 1");
//   const std::string prompt = chat.render(conversation, {.add_generation_prompt = true});
//
// The text holds the model's special tokens: encode it without adding further ones.
#pragma once

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/text/conversation.hpp"
#include "deltatune/text/jinja.hpp"

namespace deltatune {

struct ChatOptions {
  bool add_generation_prompt = false;       // the text ends where the assistant's next turn begins
  std::optional<jinja::DateTime> now = {};  // what templates that print the date print; without it they are refused
  jinja::Limits limits = {};
};

class ChatTemplate {
 public:
  // The template of chat_template.jinja (others in additional_chat_templates/), else of tokenizer_config.json, else of chat_template.json, with the special
  // tokens of tokenizer_config.json and special_tokens_map.json. Of several templates conversations with tools get "tool_use", others "default", unless `name`
  // chooses one. Throws Error for a folder without template and for templates that do not parse.
  static DELTATUNE_FUNCTION ChatTemplate open(const std::filesystem::path& folder, const std::string& name = "") {
    if (std::optional<ChatTemplate> found = find(folder, name)) return *std::move(found);
    throw Error(folder.string(), "the folder has no chat template",
                {.expected = "chat_template.jinja, or chat_template in tokenizer_config.json", .remedy = "give the folder of a model for conversations"});
  }
  // The same; nothing for a folder without template.
  static DELTATUNE_FUNCTION std::optional<ChatTemplate> find(const std::filesystem::path& folder, const std::string& name = "") {
    std::vector<std::pair<std::string, jinja::Template>> templates = read_templates(folder);
    if (templates.empty()) return std::nullopt;
    if (!name.empty()) {
      std::erase_if(templates, [&name](const auto& each) { return each.first != name; });
      if (templates.empty()) throw Error(folder.string(), "the folder has no chat template \"" + name + "\"");
    }
    ChatTemplate result(templates.front().second, read_special_tokens(folder));
    for (const auto& [key, each] : templates) {
      if (key == "default") result.template_ = each;
      if (key == "tool_use") result.with_tools_ = each;
    }
    return result;
  }
  // The template in a file of its own, with the special tokens of a model folder. Throws Error for one that does not parse.
  static DELTATUNE_FUNCTION ChatTemplate open_file(const std::filesystem::path& file, const std::filesystem::path& folder) {
    return ChatTemplate(jinja::Template(MappedFile(file).text(), file.string()), read_special_tokens(folder));
  }

  // A template by itself; `tokens`: bos_token, eos_token and other variables that it sees.
  explicit ChatTemplate(jinja::Template chat_template, jinja::Dict tokens = {}) : template_(std::move(chat_template)), tokens_(std::move(tokens)) {}

  // Throws Error for a malformed conversation, and for one that the template refuses; its place is such as "messages[2]".
  DELTATUNE_FUNCTION std::string render(const Conversation& conversation, const ChatOptions& options = {}) const {
    check_conversation(conversation);
    return rendering(conversation, prepared(conversation.messages), options).text;
  }

  const jinja::Template& template_for(const Conversation& conversation) const {
    return with_tools_ && !conversation.tools.is_none() && !conversation.tools.is_undefined() ? *with_tools_ : template_;
  }
  const jinja::Dict& tokens() const { return tokens_; }

  // render() without the check; `messages` stands for those of the conversation.
  DELTATUNE_FUNCTION jinja::Rendering rendering(const Conversation& conversation, const jinja::Value& messages, const ChatOptions& options) const {
    jinja::Dict variables = tokens_;
    for (const auto& [key, value] : conversation.variables.entries()) variables.set(key, value);
    variables.set("messages", messages);
    variables.set("tools", conversation.tools.is_undefined() ? jinja::Value(nullptr) : conversation.tools);
    variables.set("documents", conversation.documents.is_undefined() ? jinja::Value(nullptr) : conversation.documents);
    variables.set("add_generation_prompt", options.add_generation_prompt);
    try {
      return template_for(conversation).render(variables, {.limits = options.limits, .now = options.now, .traced = messages});
    } catch (const jinja::RenderError& error) {
      const std::string place = error.traced_item() ? "messages[" + std::to_string(*error.traced_item()) + "]" : "messages";
      ErrorDetail detail = error.failure().detail;
      const jinja::Value* const content =
          error.traced_item() ? messages.as_sequence()->items[*error.traced_item()].as_dict()->find(std::string_view("content")) : nullptr;
      if (detail.remedy.empty() && content != nullptr && !content->is_text() && !content->is_none())
        detail.remedy = "its content is a list of parts: is the template made for them?";
      throw Error(place, error.failure().what + " (" + error.where() + ")", detail);
    }
  }

  // The messages, in which a content that is a list refuses to be printed: a template that does so is made for strings.
  static DELTATUNE_FUNCTION jinja::Value prepared(const jinja::Value& messages) {
    std::vector<jinja::Value> items = messages.as_sequence()->items;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const jinja::Value* const content = items[i].as_dict()->find(std::string_view("content"));
      if (content == nullptr || !content->is(jinja::SequenceKind::kList)) continue;
      auto parts = std::make_shared<jinja::Sequence>(*content->as_sequence());
      parts->why_no_text = "content is a list of parts, which this template would print as it stands";
      jinja::Dict message = *items[i].as_dict();
      message.set("content", std::shared_ptr<const jinja::Sequence>(std::move(parts)));
      items[i] = jinja::Value(std::move(message));
    }
    return jinja::Value::list(std::move(items));
  }

 private:
  static DELTATUNE_FUNCTION std::vector<std::pair<std::string, jinja::Template>> read_templates(const std::filesystem::path& folder) {
    std::vector<std::pair<std::string, jinja::Template>> templates;
    if (const auto file = folder / "chat_template.jinja"; std::filesystem::exists(file)) {
      templates.emplace_back("default", jinja::Template(MappedFile(file).text(), file.string()));
    }
    if (const auto others = folder / "additional_chat_templates"; std::filesystem::is_directory(others)) {
      std::vector<std::filesystem::path> files;
      for (const auto& entry : std::filesystem::directory_iterator(others))
        if (entry.path().extension() == ".jinja") files.push_back(entry.path());
      std::sort(files.begin(), files.end());
      for (const auto& file : files) templates.emplace_back(file.stem().string(), jinja::Template(MappedFile(file).text(), file.string()));
    }
    for (const char* const name : {"tokenizer_config.json", "chat_template.json"}) {
      if (!templates.empty() || !std::filesystem::exists(folder / name)) continue;
      const JsonConfig config = JsonConfig::open(folder / name);
      if (config.has("chat_template")) add_templates(config.raw().at("chat_template"), config.name() + ": chat_template", templates);
    }
    return templates;
  }

  // A string, a list of {name, template}, or an object of templates.
  static DELTATUNE_FUNCTION void add_templates(const nlohmann::json& value, const std::string& where,
                                               std::vector<std::pair<std::string, jinja::Template>>& templates_io) {
    if (value.is_string()) {
      templates_io.emplace_back("default", jinja::Template(value.get_ref<const std::string&>(), where));
      return;
    }
    if (!value.is_structured()) throw Error(where, "wrong type", {.expected = "a template, or a list of {name, template}", .got = describe(value)});
    for (const auto& [key, entry] : value.items()) {
      const bool is_named = value.is_array() && entry.is_object() && entry.contains("name") && entry.contains("template");
      if (value.is_array() && !is_named)
        throw Error(where + "[" + key + "]", "wrong type", {.expected = "an object with name and template", .got = describe(entry)});
      const auto name = is_named ? detail::json_value<std::string>(entry.at("name"), where + "[" + key + "]: name") : key;
      const auto source = detail::json_value<std::string>(is_named ? entry.at("template") : entry, where + ": " + name);
      templates_io.emplace_back(name, jinja::Template(source, where + ": " + name));
    }
  }

  // As special_tokens_map of transformers: the tokens that are set.
  static DELTATUNE_FUNCTION jinja::Dict read_special_tokens(const std::filesystem::path& folder) {
    jinja::Dict tokens;
    for (const char* const name : {"tokenizer_config.json", "special_tokens_map.json"}) {
      if (!std::filesystem::exists(folder / name)) continue;
      const JsonConfig config = JsonConfig::open(folder / name);
      const auto add = [&](const std::string& key, const nlohmann::json& value, const std::string& where) {
        if (tokens.find(std::string_view(key)) == nullptr) tokens.set(key, token_text(value, where));
      };
      for (const char* const key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
        if (config.has(key)) add(key, config.raw().at(key), config.name() + ": " + key);
      if (config.has("extra_special_tokens") && config.raw().at("extra_special_tokens").is_object()) {
        for (const auto& [key, value] : config.raw().at("extra_special_tokens").items()) add(key, value, config.name() + ": extra_special_tokens: " + key);
      }
    }
    return tokens;
  }

  // "</s>" or {"content": "</s>", ...}
  static DELTATUNE_FUNCTION std::string token_text(const nlohmann::json& value, const std::string& where) {
    const bool is_object = value.is_object() && value.contains("content");
    return detail::json_value<std::string>(is_object ? value.at("content") : value, where);
  }

  jinja::Template template_;
  std::optional<jinja::Template> with_tools_;
  jinja::Dict tokens_;
};

}  // namespace deltatune
