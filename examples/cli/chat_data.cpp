#include "chat_data.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "deltatune/core/task_queue.hpp"
#include "deltatune/io/atomic_file.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/result_files.hpp"
#include "deltatune/io/table.hpp"
#include "deltatune/ops/cross_entropy.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace fs = std::filesystem;

namespace {

static_assert(kGivenToken == ops::kIgnoredLabel);

bool holds_records(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
}

std::vector<deltatune::detail::JsonRecord> records_of(const MappedFile& mapped, const fs::path& file) {
  std::string_view text = mapped.text();
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  return deltatune::detail::json_records(text, file.string());
}

jinja::DateTime today() {
  const std::chrono::year_month_day date(std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now()));
  return {.year = static_cast<int>(date.year()),
          .month = static_cast<int>(static_cast<unsigned>(date.month())),
          .day = static_cast<int>(static_cast<unsigned>(date.day()))};
}

// "2026-11-28"
jinja::DateTime date_option(const std::string& text) {
  const auto number = [&text](std::size_t first, std::size_t length) {
    int value = -1;
    if (text.size() == 10) std::from_chars(text.data() + first, text.data() + first + length, value);
    return value;
  };
  const jinja::DateTime date{.year = number(0, 4), .month = number(5, 2), .day = number(8, 2)};
  const std::chrono::year_month_day day{std::chrono::year(date.year), std::chrono::month(static_cast<unsigned>(date.month)),
                                        std::chrono::day(static_cast<unsigned>(date.day))};
  if (!day.ok() || date_text(date) != text) throw Error("--date", "is no date", {.expected = "such as 2026-11-28", .got = "\"" + text + "\""});
  return date;
}

std::string fields_of(const jinja::Value& record) {
  std::vector<std::string> names;
  if (const jinja::Dict* const fields = record.as_dict())
    for (const auto& [key, value] : fields->entries()) names.push_back(key.text());
  return "the fields " + joined(names);
}

// What became of one record.
struct ReadConversation {
  ChatExample example;
  std::vector<std::string> unread;
  RecordFormat format = RecordFormat::kOther;
};

ReadConversation read_conversation(const deltatune::detail::JsonRecord& text, const std::string& place, const TextEncoding& encoding, const ChatSource& source,
                                   Index max_length) {
  ReadConversation result;
  const jinja::Value value = jinja::parse_value(text.text, place);
  result.format = format_of(value);
  if (result.format == RecordFormat::kOther)
    throw Error(place, "is no conversation",
                {.expected = "\"messages\" (or \"conversations\", lists of messages as \"prompt\" and \"completion\", \"instruction\" and \"output\")",
                 .got = value.as_dict() == nullptr ? value.type_name() : fields_of(value),
                 .remedy = "--task lm learns texts, and prompts with completions"});
  try {
    ChatRecord record = chat_record(value, result.format);
    result.unread = std::move(record.conversation.unread);
    result.example = chat_example(source.chat, record.conversation, encoding.tokenizer,
                                  {.chat = {.now = source.date}, .learnt = std::move(record.learnt), .max_length = max_length, .too_long = source.too_long});
  } catch (const Error& error) {
    throw Error(place, error.what());
  }
  return result;
}

// Whether the template writes the date into the first record's text.
bool prints_date(const deltatune::detail::JsonRecord& text, const ChatSource& source) {
  const jinja::Value value = jinja::parse_value(text.text, "");
  const Conversation conversation = chat_record(value, format_of(value)).conversation;
  jinja::DateTime other = source.date;
  other.year += 1;
  other.month = other.month % 12 + 1;
  other.day = other.day % 28 + 1;
  return source.chat.render(conversation, {.now = source.date}) != source.chat.render(conversation, {.now = other});
}

}  // namespace

std::string date_text(const jinja::DateTime& date) { return jinja::format_time(date, "%Y-%m-%d"); }

bool find_chat_template(const std::vector<fs::path>& folders) {
  return std::any_of(folders.begin(), folders.end(), [](const fs::path& folder) { return ChatTemplate::find(folder).has_value(); });
}

ChatSource chat_source(const ChatDataOptions& given, const std::vector<fs::path>& folders, const std::string& trained_date) {
  const LongConversation too_long = given.long_conversations == "drop" ? LongConversation::kDrop : LongConversation::kCut;
  const jinja::DateTime date = !given.date.empty() ? date_option(given.date) : !trained_date.empty() ? date_option(trained_date) : today();
  const bool date_is_given = !given.date.empty() || !trained_date.empty();
  const fs::path& model = folders.back();
  if (!given.template_file.empty()) return {ChatTemplate::open_file(given.template_file, model), given.template_file, {}, too_long, date, date_is_given};
  for (const fs::path& folder : folders)
    if (std::optional<ChatTemplate> found = ChatTemplate::find(folder)) return {*std::move(found), {}, folder, too_long, date, date_is_given};
  throw Error(model.string(), "has no chat template, which conversations are written with",
              {.expected = "chat_template.jinja, or chat_template in tokenizer_config.json",
               .remedy = "give one with --chat-template FILE, or use a model for conversations"});
}

void copy_chat_template(const fs::path& from, const fs::path& to) {
  constexpr const char* kOne = "chat_template.jinja";
  if (fs::is_directory(from) && !fs::exists(from / kOne)) return;
  fs::remove(to / "chat_template.json");
  fs::remove_all(to / deltatune::detail::kMoreChatTemplates);
  write_text_file(to / kOne, MappedFile(fs::is_directory(from) ? from / kOne : from).text());
  if (!fs::is_directory(from)) return;
  for (const fs::path& file : tokenizer_files(from)) {
    if (file.parent_path() != deltatune::detail::kMoreChatTemplates) continue;
    make_directory((to / file).parent_path());
    write_text_file(to / file, MappedFile(from / file).text());
  }
}

RecordFormat record_format(const fs::path& file) {
  if (!holds_records(file) || !fs::is_regular_file(file)) return RecordFormat::kOther;
  const MappedFile mapped(file);
  try {
    const std::vector<deltatune::detail::JsonRecord> records = records_of(mapped, file);
    return records.empty() ? RecordFormat::kOther : format_of(jinja::parse_value(records.front().text, file.string()));
  } catch (const Error&) {  // who reads it for a purpose says what is wrong
    return RecordFormat::kOther;
  }
}

std::string task_of(RecordFormat format, bool has_template) {
  if (format == RecordFormat::kOther) return "";
  return format == RecordFormat::kInstruction && !has_template ? "lm" : "chat";
}

Dataset tokenize_conversations(const fs::path& file, const TextEncoding& encoding, const ChatSource& source, Index max_length, Notes& notes_io,
                               bool& date_printed_io) {
  if (!holds_records(file))
    throw Error(file.string(), "is no file of conversations",
                {.expected = "a .jsonl or .json file with \"messages\" in each record", .remedy = "--task lm learns plain text"});
  const MappedFile mapped(file);
  const std::string name = file.string();
  const std::vector<deltatune::detail::JsonRecord> records = records_of(mapped, file);
  std::vector<ReadConversation> read(records.size());
  deltatune::detail::run_tasks(records.size(), encoding.threads, [&](deltatune::detail::TaskQueue& queue) {
    while (const auto i = queue.take())
      read[*i] = read_conversation(records[*i], name + ": line " + std::to_string(records[*i].line), encoding, source, max_length);
  });

  Dataset data;
  Counted too_long, cut, silent, instructions, without_end, without_content;
  Index messages_cut = 0, answers = 0;
  std::map<std::string, Counted> unread;
  for (std::size_t i = 0; i < records.size(); ++i) {
    ReadConversation& each = read[i];
    const std::size_t line = static_cast<std::size_t>(records[i].line);
    if (each.format == RecordFormat::kInstruction) instructions.add(line);
    for (const std::string& field : each.unread) unread[field].add(line);
    if (each.example.is_too_long) {
      too_long.add(line);
      continue;
    }
    if (!each.example.has_prediction()) {
      silent.add(line);
      continue;
    }
    if (each.example.messages_cut > 0) cut.add(line);
    messages_cut += static_cast<Index>(each.example.messages_cut);
    for (const AssistantSpan& span : each.example.spans) {
      ++answers;
      if (!span.ends_turn) without_end.add(line);
      if (!span.holds_content) without_content.add(line);
    }
    data.add({.ids = std::move(each.example.ids), .token_labels = std::move(each.example.labels)});
  }

  const Index all = static_cast<Index>(records.size());
  const auto note = [&](const Counted& rows, const std::string& what) {
    if (rows.count > 0) notes_io.push_back(name + ": " + what + "; the first in line " + std::to_string(rows.first));
  };
  const auto some = [](const Counted& rows, Index of, const std::string& things, const std::string& singular, const std::string& plural) {
    return some_of(rows.count, of, things, singular, plural);
  };
  const std::string longer = "longer than --max-length " + std::to_string(max_length);
  if (data.size() == 0 && too_long.count > 0)
    throw Error(
        name, "all conversations that could be learnt are " + longer,
        {.remedy = source.too_long == LongConversation::kDrop ? "raise --max-length, or --long cut leaves out their first turns" : "raise --max-length"});
  if (data.size() == 0)
    throw Error(name, "holds no conversation to learn from",
                {.expected = "messages of the assistant", .got = records.empty() ? "no records" : counted(all, "conversation") + " without any"});
  note(instructions, some(instructions, all, "records", "is an instruction, which is learnt as a conversation of one turn",
                          "are instructions, which are learnt as conversations of one turn") +
                         " (--task lm: as plain text with Alpaca's prompt)");
  note(silent, some(silent, all, "conversations", "is left out, since nothing of it is the assistant's to be learnt",
                    "are left out, since nothing of them is the assistant's to be learnt"));
  note(too_long, some(too_long, all, "conversations", "is left out, being ", "are left out, being ") + longer +
                     (source.too_long == LongConversation::kCut ? " even without all earlier turns" : ""));
  note(cut, some(cut, all, "conversations", "is ", "are ") + longer + " and lost " + counted(messages_cut, "message") +
                " in front (--long drop leaves such conversations out)");
  note(without_end,
       some(without_end, answers, "answers", "has", "have") +
           " no token behind the text that ends the turn, so the model doesn't learn to stop there: does the template end it inside its generation block?");
  note(without_content,
       some(without_content, answers, "answers", "is", "are") + " not in the template's text as the data has it: the template leaves out or rewrites a part");
  for (const auto& [field, rows] : unread) note(rows, "the field \"" + field + "\" is not read");
  const bool prints = prints_date(records.front(), source);
  if (prints && !source.date_is_given && !date_printed_io)
    notes_io.push_back("the chat template prints the date, " + date_text(source.date) + " here (--date: another)");
  date_printed_io = date_printed_io || prints;
  return data;
}

}  // namespace deltatune::cli
