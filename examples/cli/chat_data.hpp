// Conversations of a JSON file as token sequences of a language model, through a chat template.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deltatune/text/chat_example.hpp"
#include "deltatune/text/chat_record.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

// As the options say it.
struct ChatDataOptions {
  std::string template_file, long_conversations = "cut", date;
};

// The usual --max-length of conversations.
inline constexpr Index kConversationLength = 1024;

// The options' names.
inline constexpr const char* kChatOptions[] = {"--chat-template", "--long", "--date"};

// The template that a command uses, and where it comes from.
struct ChatSource {
  ChatTemplate chat;
  std::filesystem::path file;    // --chat-template, or empty:
  std::filesystem::path folder;  // the first of the folders that has one
  LongConversation too_long = LongConversation::kCut;
  jinja::DateTime date;
  bool date_is_given = false;
};

// Whether one of the folders has a template.
bool find_chat_template(const std::vector<std::filesystem::path>& folders);

// folders: where to look for a template, the model's last. trained_date: what training printed, or "". Throws Error where there is none, and for a
// date that is none.
ChatSource chat_source(const ChatDataOptions& given, const std::vector<std::filesystem::path>& folders, const std::string& trained_date);

// "2026-11-28"
std::string date_text(const jinja::DateTime& date);

// Puts a template beside a tokenizer, whose own templates it takes the place of: a file, or what a folder with a chat_template.jinja has.
void copy_chat_template(const std::filesystem::path& from, const std::filesystem::path& to);

// Of the first record of a .jsonl or .json file; kOther for all other files.
RecordFormat record_format(const std::filesystem::path& file);

// "chat", "lm" or "": what is to be learned of records in this format, where nobody says. Instructions are chats where there is a chat template.
std::string task_of(RecordFormat format, bool has_template);

// One example per conversation; what is left out, cut, not read or not learnt is counted in the notes. Throws Error, with line and field, for a malformed
// conversation and for one that the template refuses. date_printed_io: set where the template prints the date.
Dataset tokenize_conversations(const std::filesystem::path& file, const TextEncoding& encoding, const ChatSource& source, Index max_length, Notes& notes_io,
                               bool& date_printed_io);

}  // namespace deltatune::cli
