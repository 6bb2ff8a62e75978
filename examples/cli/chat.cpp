// deltatune chat: a conversation with a language model, line by line.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <iostream>
#include <memory>
#include <utility>

#include "commands.hpp"
#include "deltatune/text/chat_spans.hpp"
#include "deltatune/text/chat_template.hpp"
#include "deltatune/text/text_stream.hpp"
#include "device_options.hpp"
#include "generation_options.hpp"
#include "interrupts.hpp"
#include "model_io.hpp"
#include "report.hpp"
#include "text_data.hpp"

namespace deltatune::cli {

namespace {

struct TalkOptions {
  std::string model, system;
  std::filesystem::path chat_template;
  std::vector<std::filesystem::path> adapters;
  GenerationOptions generation;
  DeviceOptions device;
};

jinja::Value message(const char* role, const std::string& content) {
  jinja::Dict fields;
  fields.set("role", role);
  fields.set("content", content);
  return fields;
}

// What templates that print the date print.
jinja::DateTime local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  return {parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec};
}

ChatTemplate chat_template_of(const TalkOptions& options) {
  if (!options.chat_template.empty()) return ChatTemplate::open_file(options.chat_template, options.model);
  std::vector<std::filesystem::path> folders = options.adapters;  // which may have been trained with a template of their own
  folders.emplace_back(options.model);
  for (const std::filesystem::path& folder : folders)
    if (std::optional<ChatTemplate> found = ChatTemplate::find(folder)) return *std::move(found);
  throw Error(options.model, "has no chat template",
              {.expected = "chat_template.jinja, or chat_template in tokenizer_config.json",
               .remedy = "give --chat-template FILE, or the folder of a model that was trained on conversations"});
}

// What the template writes behind an answer, without white space: "<|im_end|>". Throws Error for a template whose turns cannot be found.
std::string turn_end(const ChatTemplate& chat, const ChatOptions& options) {
  const std::string answer = "Yes";
  Conversation conversation;
  conversation.messages = jinja::Value::list({message("user", "?"), message("assistant", answer)});
  const ChatText text = render_with_spans(chat, conversation, options);
  if (text.spans.empty()) return {};
  const AssistantSpan& span = text.spans.back();
  const std::string_view written = std::string_view(text.text).substr(span.begin, span.end - span.begin);
  const std::size_t at = written.rfind(answer);
  return at == std::string_view::npos ? std::string() : std::string(jinja::strip(written.substr(at + answer.size()), nullptr, true, true));
}

// The model, and what has been said.
class Talk {
 public:
  Talk(TalkOptions options, Interrupts& interrupts)
      : options_(std::move(options)),
        interrupts_(interrupts),
        chat_(chat_template_of(options_)),
        config_(generation_settings(options_.generation, options_.model)),
        tokenizer_(tokenizer_of(options_.model)),
        device_(open_device(options_.device)),
        model_(device_->load(options_.model, options_.adapters)) {
    if (!model_->info().is_language_model) throw Error(options_.model, "has no language model head", {.remedy = "use the folder of a language model"});
    if (config_.num_beams > 1) {
      print({"an answer is shown as it is written, without the beams that generation_config.json advises"});
      config_.num_beams = 1;
    }
    if (options_.generation.stop_strings.empty()) add_turn_end();
    begin();
  }

  // Forgets what has been said.
  void begin() {
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back(message("system", options_.system));
    first_ = messages_.size();
  }

  // Writes the answer as it comes. Throws Error, and leaves the conversation as it was, for a message that the template refuses or the model has no room for.
  void say(const std::string& text) {
    const std::vector<jinja::Value> before = messages_;
    messages_.push_back(message("user", text));
    try {
      answer(prompt());
    } catch (const Error&) {
      messages_ = before;
      throw;
    }
  }

 private:
  // Ends an answer where the template would end it, too: generation_config.json may only know where a text ends.
  void add_turn_end() {
    if (const auto end = tokenizer_.eos_id(); config_.end_ids.empty() && end) config_.end_ids.push_back(*end);
    std::string end;
    try {
      end = turn_end(chat_, chat_options_);
    } catch (const Error& error) {
      print({"where the template ends an answer cannot be found (" + std::string(error.what()) + "): answers end with the model's end-of-text token"});
      return;
    }
    if (const auto token = tokenizer_.id_of(end)) {
      if (std::find(config_.end_ids.begin(), config_.end_ids.end(), *token) == config_.end_ids.end()) config_.end_ids.push_back(*token);
    } else if (!end.empty()) {
      print({"the template ends an answer with \"" + end + "\", which is no single token: if answers go on behind it, give --stop \"" + end + "\""});
    }
  }

  std::vector<std::int32_t> rendered() const {
    Conversation conversation;
    conversation.messages = jinja::Value::list(messages_);
    ChatOptions options = chat_options_;
    options.add_generation_prompt = true;
    return tokenizer_.encode(chat_.render(conversation, options), EncodeOptions{.special_tokens = false});
  }

  Index positions() const { return model_->info().max_position_embeddings - model_->info().taken; }

  // The tokens of the conversation, of which the oldest turns are left out until an answer has room: half of the positions at most.
  std::vector<std::int32_t> prompt() {
    const Index reserved = std::min(config_.max_new_tokens, positions() / 2);
    std::vector<std::int32_t> ids = rendered();
    Index left_out = 0;
    while (static_cast<Index>(ids.size()) + reserved > positions() && messages_.size() > first_ + 1) {
      const auto oldest = messages_.begin() + static_cast<std::ptrdiff_t>(first_);
      messages_.erase(oldest, oldest + 2);  // a message and its answer
      ++left_out;
      ids = rendered();
    }
    if (static_cast<Index>(ids.size()) > positions())
      throw Error("the message", "is longer than the model's positions",
                  {.expected = "at most " + counted(positions(), "token") + ", those of the template and the system message included",
                   .got = std::to_string(ids.size()),
                   .remedy = "say less at once"});
    if (left_out > 0)
      print({"the oldest " + counted(left_out, "turn") + (left_out == 1 ? " is" : " are") + " left out from here on: the model has " +
             counted(positions(), "position") + ", of which " + grouped(reserved) + " are for the answer"});
    return ids;
  }

  void answer(const std::vector<std::int32_t>& ids) {
    GenerationConfig config = config_;
    config.max_new_tokens = std::min(config.max_new_tokens, positions() + 1 - static_cast<Index>(ids.size()));  // the last one is not read
    config.seed += answers_++;
    TextStream stream(tokenizer_);
    stream.push_given(ids);
    StopStrings stops(tokenizer_, options_.generation.stop_strings);
    std::string text;
    const auto write = [&text](const std::string& piece) {
      text += piece;
      std::cout << piece << std::flush;
    };
    interrupts_.hold("ending the answer", "\n");
    const Continuation continuation = model_->answer(ids, config, [&](Index, std::int32_t token) {
      if (std::find(config.end_ids.begin(), config.end_ids.end(), token) == config.end_ids.end()) write(stream.push(token));
      return !stops.push(token) && interrupts_.received() == 0;
    });
    const int signal = interrupts_.release();
    write(stream.finish());
    std::cout << "\n" << std::flush;
    if (signal == SIGTERM) throw Interrupted{signal};
    if (continuation.end == Continuation::End::length)
      print({"the answer was cut off after " + counted(config.max_new_tokens, "token") +
             (config.max_new_tokens < config_.max_new_tokens ? ", for which the model has positions" : "; --max-new-tokens allows for more")});
    messages_.push_back(message("assistant", text));
  }

  TalkOptions options_;
  Interrupts& interrupts_;
  ChatTemplate chat_;
  ChatOptions chat_options_{.now = local_time()};
  GenerationConfig config_;
  Tokenizer tokenizer_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<DeviceModel> model_;
  std::vector<jinja::Value> messages_;
  std::size_t first_ = 0;      // of the messages: those of the system are in front
  std::uint64_t answers_ = 0;  // so far
};

void run(const TalkOptions& options) {
  if (architecture_in(options.model).encoder)
    throw Error(options.model, "is an encoder-decoder, which has no conversations", {.remedy = "'deltatune generate' writes a target for a source text"});
  Interrupts interrupts;  // before any thread is started
  Talk talk(options, interrupts);
  const bool at_terminal = ::isatty(STDIN_FILENO) == 1;
  if (at_terminal) std::cerr << "/new begins a new conversation, /quit ends; Ctrl-C ends an answer\n";
  std::string line;
  for (Index number = 1; (at_terminal ? std::cerr << "> " : std::cerr), std::getline(std::cin, line); ++number) {
    if (number == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    const std::string text(jinja::strip(line, nullptr, true, true));
    if (text == "/quit") return;
    if (text == "/new") talk.begin();
    if (text.empty() || text == "/new") continue;
    try {
      talk.say(text);
    } catch (const Error& error) {
      if (!at_terminal) throw Error("standard input: line " + std::to_string(number), error.what());
      std::cerr << "error: " << error.what() << "\n";
    }
  }
  if (at_terminal) std::cerr << "\n";
}

}  // namespace

void add_chat(CLI::App& app) {
  const auto options = std::make_shared<TalkOptions>();
  options->generation.config.max_new_tokens = 512;
  CLI::App* const command = app.add_subcommand("chat", "A conversation with a language model");
  TalkOptions& o = *options;
  command->add_option("--model", o.model, "Hugging Face folder of the model")->required()->type_name("DIR");
  command->add_option("--adapter", o.adapters, "Folder of an adapter for it; several times for several")->type_name("DIR");
  command->add_option("--system", o.system, "What the model is told in front of the conversation")->type_name("TEXT");
  command->add_option("--chat-template", o.chat_template, "Jinja template that writes the conversation for the model [the adapter's or the model's own]")
      ->type_name("FILE");
  add_generation_options(*command, o.generation, "answer");
  add_device_options(*command, o.device);
  command->footer(
      "Reads a message per line of standard input and writes each answer to standard output as it comes; all else goes to standard error. /new begins a new "
      "conversation, /quit or the end of the input ends. Ctrl-C ends an answer, and a second one the program. When the conversation is longer than the model's "
      "positions, its oldest turns are left out, the system message stays.\n\n"
      "Examples:\n  deltatune chat --model qwen2.5-1.5b-instruct --base-precision bf16 --model-defaults\n"
      "  deltatune chat --model qwen2.5-1.5b-instruct --adapter runs/pirate --system \"You are a pirate.\" < questions.txt");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
