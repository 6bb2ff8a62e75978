// A conversation as JSON: messages with role and content, and the tools that they may call.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/text/jinja/parse_value.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune {

struct Conversation {
  jinja::Value messages = jinja::Value::list({});  // a list of dicts
  jinja::Value tools = nullptr;                    // a list of dicts, or None
  jinja::Value documents = nullptr;                // likewise
  jinja::Dict variables = {};                      // what else the template sees, such as enable_thinking
  std::vector<std::string> unread = {};            // keys of the JSON that mean nothing here

  std::size_t size() const { return messages.as_sequence()->items.size(); }
};

namespace detail {

// Throws Error for a part of a content that is a list.
DELTATUNE_FUNCTION void check_content_part(const jinja::Value& part, const std::string& where) {
  const jinja::Dict* const fields = part.as_dict();
  if (fields == nullptr) throw Error(where, "wrong type", {.expected = "an object such as {\"type\": \"text\", \"text\": ...}", .got = part.type_name()});
  const jinja::Value* const type = fields->find(std::string_view("type"));
  if (type == nullptr || !type->is_text()) throw Error(where, "has no type", {.expected = "\"type\": \"text\""});
  const jinja::Value* const text = fields->find(std::string_view("text"));
  if (type->text() == "text" && (text == nullptr || !text->is_text())) throw Error(where, "has no text", {.expected = "\"text\": a string"});
}

// Throws Error for a message that no template can be asked to write; `where` is "messages[2]".
DELTATUNE_FUNCTION void check_message(const jinja::Value& message, const std::string& where) {
  const jinja::Dict* const fields = message.as_dict();
  if (fields == nullptr) throw Error(where, "wrong type", {.expected = "an object with role and content", .got = message.type_name()});
  const auto field = [fields](std::string_view key) {
    const jinja::Value* const value = fields->find(key);
    return value == nullptr || value->is_none() ? nullptr : value;
  };
  const jinja::Value* const role = field("role");
  if (role == nullptr) throw Error(where, "has no role", {.expected = "\"role\": such as user or assistant"});
  if (!role->is_text()) throw Error(where + ": role", "wrong type", {.expected = "a string", .got = role->type_name()});
  const jinja::Value* const calls = field("tool_calls");
  if (calls != nullptr && !calls->is(jinja::SequenceKind::kList))
    throw Error(where + ": tool_calls", "wrong type", {.expected = "a list", .got = calls->type_name()});
  const jinja::Value* const content = field("content");
  if (content == nullptr) {
    if (calls != nullptr && !calls->as_sequence()->items.empty()) return;
    throw Error(where, "has no content", {.expected = "\"content\": a string, or tool_calls"});
  }
  if (content->is_text()) return;
  if (!content->is(jinja::SequenceKind::kList))
    throw Error(where + ": content", "wrong type", {.expected = "a string or a list of parts", .got = content->type_name()});
  const std::vector<jinja::Value>& parts = content->as_sequence()->items;
  for (std::size_t i = 0; i < parts.size(); ++i) check_content_part(parts[i], where + ": content[" + std::to_string(i) + "]");
}

DELTATUNE_FUNCTION void check_list_of_dicts(const jinja::Value& value, const std::string& where) {
  if (value.is_none() || value.is_undefined()) return;
  if (!value.is(jinja::SequenceKind::kList)) throw Error(where, "wrong type", {.expected = "a list of objects", .got = value.type_name()});
  const std::vector<jinja::Value>& items = value.as_sequence()->items;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (items[i].as_dict() == nullptr) throw Error(where + "[" + std::to_string(i) + "]", "wrong type", {.expected = "an object", .got = items[i].type_name()});
}

}  // namespace detail

// Throws Error, whose place is such as "messages[2]: content", for a conversation that no template can be asked to write.
DELTATUNE_FUNCTION void check_conversation(const Conversation& conversation) {
  if (!conversation.messages.is(jinja::SequenceKind::kList))
    throw Error("messages", "wrong type", {.expected = "a list", .got = conversation.messages.type_name()});
  const std::vector<jinja::Value>& messages = conversation.messages.as_sequence()->items;
  if (messages.empty()) throw Error("messages", "the conversation has no messages");
  for (std::size_t i = 0; i < messages.size(); ++i) detail::check_message(messages[i], "messages[" + std::to_string(i) + "]");
  detail::check_list_of_dicts(conversation.tools, "tools");
  detail::check_list_of_dicts(conversation.documents, "documents");
}

// JSON text: a list of messages, or an object with messages, and perhaps tools, documents and chat_template_kwargs. `name` stands for the text in messages
// about its JSON; what is said about the conversation itself begins with "messages[2]: content" and the like, for the caller to put a place in front.
DELTATUNE_FUNCTION Conversation parse_conversation(std::string_view text, const std::string& name) {
  jinja::Value root = jinja::parse_value(text, name);
  Conversation conversation;
  if (root.is(jinja::SequenceKind::kList)) {
    conversation.messages = std::move(root);
  } else if (const jinja::Dict* const fields = root.as_dict()) {
    if (fields->find(std::string_view("messages")) == nullptr)
      throw Error("messages", "the conversation has no messages", {.expected = "a list or an object with \"messages\""});
    for (const auto& [key, value] : fields->entries()) {
      if (key.text() == "messages") {
        conversation.messages = value;
      } else if (key.text() == "tools") {
        conversation.tools = value;
      } else if (key.text() == "documents") {
        conversation.documents = value;
      } else if (key.text() == "chat_template_kwargs" && !value.is_none()) {
        if (value.as_dict() == nullptr) throw Error("chat_template_kwargs", "wrong type", {.expected = "an object", .got = value.type_name()});
        conversation.variables = *value.as_dict();
      } else {
        conversation.unread.push_back(key.text());
      }
    }
  } else {
    throw Error(name, "wrong JSON", {.expected = "a list of messages or an object with \"messages\"", .got = root.type_name()});
  }
  check_conversation(conversation);
  return conversation;
}

}  // namespace deltatune
