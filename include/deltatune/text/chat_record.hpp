// One record of chat data, in the formats that data sets come in, as a conversation:
//
//   {"messages": [{"role": "user", "content": ...}, ...], "tools": [...]}          OpenAI and TRL
//   {"conversations": [{"from": "human", "value": ...}, ...], "system": ...}        ShareGPT
//   {"prompt": [{"role": "user", ...}], "completion": [{"role": "assistant", ...}]}  TRL, of which the completion is learnt
//   {"instruction": ..., "input": ..., "output": ...}                               Alpaca, a chat of one turn
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/text/conversation.hpp"
#include "deltatune/text/jinja/parse_value.hpp"
#include "deltatune/text/jinja/value.hpp"

namespace deltatune {

enum class RecordFormat { kMessages, kShareGpt, kTurns, kInstruction, kOther };  // kTurns: prompt and completion, lists of messages

struct ChatRecord {
  Conversation conversation = {};
  std::vector<bool> learnt = {};  // per message, or empty: all of them. See ChatExampleOptions
};

// By the names of its fields. `record`: a dict; anything else is kOther.
DELTATUNE_FUNCTION RecordFormat format_of(const jinja::Value& record) {
  const jinja::Dict* const fields = record.as_dict();
  if (fields == nullptr) return RecordFormat::kOther;
  const auto field = [fields](std::string_view key) {
    const jinja::Value* const value = fields->find(key);
    return value == nullptr || value->is_none() ? nullptr : value;
  };
  const auto is_list = [&](std::string_view key) { return field(key) != nullptr && field(key)->is(jinja::SequenceKind::kList); };
  if (field("messages") != nullptr) return RecordFormat::kMessages;
  if (field("conversations") != nullptr) return RecordFormat::kShareGpt;
  if (is_list("prompt") || is_list("completion")) return RecordFormat::kTurns;
  if (field("instruction") != nullptr && field("output") != nullptr) return RecordFormat::kInstruction;
  return RecordFormat::kOther;
}

// The prompt of Stanford Alpaca for models without chat template; the output follows it.
DELTATUNE_FUNCTION std::string instruction_prompt(const std::string& instruction, const std::string& input) {
  const bool has_input = !input.empty();
  return std::string("Below is an instruction that describes a task") + (has_input ? ", paired with an input that provides further context" : "") +
         ". Write a response that appropriately completes the request.\n\n### Instruction:\n" + instruction + (has_input ? "\n\n### Input:\n" + input : "") +
         "\n\n### Response:\n";
}

namespace detail {

class ChatRecordReader {
 public:
  explicit ChatRecordReader(const jinja::Dict& fields) : fields_(fields) {}

  DELTATUNE_FUNCTION ChatRecord read(RecordFormat format) {
    if (format == RecordFormat::kMessages) {
      add_messages("messages");
      read_weights();
    } else if (format == RecordFormat::kShareGpt) {
      read_share_gpt();
    } else if (format == RecordFormat::kTurns) {
      add_messages("prompt");
      const std::size_t given = messages_.size();
      add_messages("completion");
      record_.learnt.assign(messages_.size(), true);
      std::fill(record_.learnt.begin(), record_.learnt.begin() + static_cast<std::ptrdiff_t>(given), false);
    } else if (format == RecordFormat::kInstruction) {
      const std::string input = text("input");
      add_message("user", text("instruction") + (input.empty() ? "" : "\n\n" + input));
      add_message("assistant", text("output"));
    } else {
      throw Error("record", "is no conversation", {.expected = "messages"});
    }
    record_.conversation.messages = jinja::Value::list(std::move(messages_));
    read_others();
    check_conversation(record_.conversation);
    return std::move(record_);
  }

 private:
  const jinja::Value* field(std::string_view key) {
    read_.emplace_back(key);
    const jinja::Value* const value = fields_.find(key);
    return value == nullptr || value->is_none() ? nullptr : value;
  }

  DELTATUNE_FUNCTION const std::vector<jinja::Value>& list(const std::string& key) {
    const jinja::Value* const value = field(key);
    if (value == nullptr) throw Error(key, "is missing", {.expected = "a list of messages"});
    if (!value->is(jinja::SequenceKind::kList)) throw Error(key, "wrong type", {.expected = "a list of messages", .got = value->type_name()});
    return value->as_sequence()->items;
  }

  // "" where it is missing.
  DELTATUNE_FUNCTION std::string text(const std::string& key) {
    const jinja::Value* const value = field(key);
    if (value == nullptr) return "";
    if (!value->is_text()) throw Error(key, "wrong type", {.expected = "a string", .got = value->type_name()});
    return value->text();
  }

  DELTATUNE_FUNCTION void add_messages(const std::string& key) {
    const std::vector<jinja::Value>& items = list(key);
    if (items.empty()) throw Error(key, "has no messages");
    for (std::size_t i = 0; i < items.size(); ++i) check_message(items[i], key + "[" + std::to_string(i) + "]");
    messages_.insert(messages_.end(), items.begin(), items.end());
  }

  void add_message(std::string_view role, jinja::Value content) {
    jinja::Dict message;
    message.set("role", role);
    message.set("content", std::move(content));
    messages_.emplace_back(std::move(message));
  }

  // "weight": 0 of OpenAI's fine-tuning format: the message is given and not learnt.
  DELTATUNE_FUNCTION void read_weights() {
    std::vector<bool> learnt(messages_.size(), true);
    for (std::size_t i = 0; i < messages_.size(); ++i) {
      const jinja::Value* const weight = messages_[i].as_dict()->find(std::string_view("weight"));
      if (weight == nullptr || weight->is_none()) continue;
      if (!weight->is_number() || (weight->number() != 0 && weight->number() != 1))
        throw Error("messages[" + std::to_string(i) + "]: weight", "is neither 0 nor 1", {.expected = "0 (not learnt) or 1"});
      learnt[i] = weight->number() == 1;
    }
    if (std::find(learnt.begin(), learnt.end(), false) != learnt.end()) record_.learnt = std::move(learnt);
  }

  DELTATUNE_FUNCTION void read_share_gpt() {
    const std::vector<jinja::Value>& turns = list("conversations");
    if (const std::string system = text("system"); !system.empty()) add_message("system", system);
    for (std::size_t i = 0; i < turns.size(); ++i) {
      const std::string where = "conversations[" + std::to_string(i) + "]";
      const jinja::Dict* const turn = turns[i].as_dict();
      if (turn == nullptr) throw Error(where, "wrong type", {.expected = "an object with from and value", .got = turns[i].type_name()});
      if (turn->find(std::string_view("role")) != nullptr) {  // messages under ShareGPT's name
        check_message(turns[i], where);
        messages_.push_back(turns[i]);
        continue;
      }
      const auto required = [&](std::string_view key) -> const std::string& {
        const jinja::Value* const value = turn->find(key);
        if (value == nullptr || value->is_none())
          throw Error(where, "has no " + std::string(key), {.expected = "\"from\": such as human or gpt, and \"value\": a string"});
        if (!value->is_text()) throw Error(where + ": " + std::string(key), "wrong type", {.expected = "a string", .got = value->type_name()});
        return value->text();
      };
      add_message(role_of(required("from"), where), required("value"));
    }
  }

  static DELTATUNE_FUNCTION std::string_view role_of(const std::string& speaker, const std::string& where) {
    static constexpr std::pair<std::string_view, std::string_view> kRoles[] = {{"human", "user"},          {"user", "user"},         {"gpt", "assistant"},
                                                                               {"assistant", "assistant"}, {"chatgpt", "assistant"}, {"model", "assistant"},
                                                                               {"system", "system"},       {"tool", "tool"},         {"observation", "tool"}};
    for (const auto& [name, role] : kRoles)
      if (name == speaker) return role;
    throw Error(where + ": from", "is no speaker of this format",
                {.expected = "human, gpt, system or tool",
                 .got = "\"" + speaker + "\"",
                 .remedy = "write the record with \"messages\", whose roles the chat template decides"});
  }

  DELTATUNE_FUNCTION void read_others() {
    Conversation& conversation = record_.conversation;
    if (const jinja::Value* const tools = field("tools")) conversation.tools = tools->is_text() ? parsed_tools(tools->text()) : *tools;
    if (const jinja::Value* const documents = field("documents")) conversation.documents = *documents;
    if (const jinja::Value* const variables = field("chat_template_kwargs")) {
      if (variables->as_dict() == nullptr) throw Error("chat_template_kwargs", "wrong type", {.expected = "an object", .got = variables->type_name()});
      conversation.variables = *variables->as_dict();
    }
    for (const auto& [key, value] : fields_.entries())
      if (std::find(read_.begin(), read_.end(), key.text()) == read_.end()) conversation.unread.push_back(key.text());
  }

  // Tables cannot hold tools of many shapes: there they are JSON text.
  static DELTATUNE_FUNCTION jinja::Value parsed_tools(const std::string& text) {
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) return nullptr;
    jinja::Value tools = jinja::parse_value(text, "tools");
    return tools.is(jinja::SequenceKind::kList) && tools.as_sequence()->items.empty() ? jinja::Value(nullptr) : tools;
  }

  const jinja::Dict& fields_;
  ChatRecord record_;
  std::vector<jinja::Value> messages_;
  std::vector<std::string> read_;
};

}  // namespace detail

// Throws Error, whose place is such as "messages[2]: content", for a malformed conversation.
DELTATUNE_FUNCTION ChatRecord chat_record(const jinja::Value& record, RecordFormat format) {
  if (record.as_dict() == nullptr) throw Error("record", "wrong type", {.expected = "an object", .got = record.type_name()});
  return detail::ChatRecordReader(*record.as_dict()).read(format);
}

}  // namespace deltatune
