// Where the assistant speaks in a rendered conversation: what a model is to learn.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/text/chat_template.hpp"
#include "deltatune/text/conversation.hpp"
#include "deltatune/text/jinja.hpp"

namespace deltatune {

// The assistant's part of a rendered conversation: bytes [begin, end) of the text, the token that ends its turn included.
struct AssistantSpan {
  std::size_t begin = 0, end = 0;
  std::optional<std::size_t> message = {};  // its index; none where a {% generation %} block stands outside of the loop over the messages
  bool ends_turn = true;                    // false: nothing follows the content, so a model that learns this text does not learn to stop
  bool holds_content = true;                // false: the content, a string, is not in it as it stands: the template leaves it out or rewrites it
};

struct ChatText {
  std::string text = {};
  std::vector<AssistantSpan> spans = {};  // in the order of the text
};

namespace detail {

class ChatSpans {
 public:
  ChatSpans(const ChatTemplate& chat, const Conversation& conversation, const ChatOptions& options)
      : chat_(chat), conversation_(conversation), options_(options), messages_(ChatTemplate::prepared(conversation.messages)) {}

  DELTATUNE_FUNCTION ChatText run() {
    jinja::Rendering rendering = chat_.rendering(conversation_, messages_, options_);
    text_ = std::move(rendering.text);
    pieces_ = std::move(rendering.pieces);
    ChatText result;
    if (chat_.template_for(conversation_).has_generation_blocks()) {
      for (const jinja::ByteRange& range : rendering.generated) {
        if (range.begin == range.end) continue;
        if (!result.spans.empty() && result.spans.back().end == range.begin) {  // two blocks, one behind the other
          result.spans.back().end = range.end;
        } else {
          result.spans.push_back({range.begin, range.end, message_at(range.begin)});
        }
      }
      for (AssistantSpan& span : result.spans) span = described(span);
    } else {
      for (std::size_t i = 0; i < conversation_.size(); ++i)
        if (field(i, "role")->text() == "assistant") result.spans.push_back(described(span_of(i)));
    }
    result.text = std::move(text_);
    return result;
  }

 private:
  [[noreturn]] static void fail(std::size_t i, const std::string& what, const ErrorDetail& detail) {
    throw Error("messages[" + std::to_string(i) + "]", what, detail);
  }

  const jinja::Value* field(std::size_t i, std::string_view key) const { return messages_.as_sequence()->items[i].as_dict()->find(key); }

  std::optional<std::size_t> message_at(std::size_t byte) const {
    for (const jinja::TracedPiece& piece : pieces_)
      if (piece.bytes.begin <= byte && byte < piece.bytes.end) return piece.item;
    return std::nullopt;
  }

  static std::string_view without_space_behind(std::string_view text) { return jinja::strip(text, nullptr, false, true); }

  // With what can be said about content and end.
  DELTATUNE_FUNCTION AssistantSpan described(AssistantSpan span) const {
    const jinja::Value* const content = span.message ? field(*span.message, "content") : nullptr;
    if (content == nullptr || !content->is_text()) return span;
    const std::string_view said = jinja::strip(content->text(), nullptr, true, true),
                           whole = without_space_behind(std::string_view(text_).substr(span.begin, span.end - span.begin));
    span.ends_turn = said.empty() ? !whole.empty() : !whole.ends_with(said);
    span.holds_content = whole.find(said) != std::string_view::npos;
    return span;
  }

  // What was written for message i of a rendering.
  static DELTATUNE_FUNCTION jinja::ByteRange region(const std::vector<jinja::TracedPiece>& pieces, std::size_t i) {
    jinja::ByteRange found;
    for (const jinja::TracedPiece& piece : pieces) {
      if (piece.item != i) continue;
      if (found.end != 0 && piece.bytes.begin != found.end) fail(i, "the template writes this message in several places", {.remedy = kRemedy});
      if (found.end == 0) found.begin = piece.bytes.begin;
      found.end = piece.bytes.end;
    }
    if (found.end == found.begin) fail(i, "the template writes nothing for this message", {.remedy = kRemedy});
    return found;
  }

  DELTATUNE_FUNCTION AssistantSpan span_of(std::size_t i) {
    if (std::none_of(pieces_.begin(), pieces_.end(), [i](const jinja::TracedPiece& piece) { return piece.item == i; })) return span_by_prefixes(i);
    const jinja::ByteRange bytes = region(pieces_, i);
    const std::string_view written = std::string_view(text_).substr(bytes.begin, bytes.end - bytes.begin);
    require_alone(i, written);
    const std::size_t begin = bytes.begin + length_of_header(i, written), end = bytes.begin + without_space_behind(written).size();
    return {.begin = begin, .end = std::max(begin, end), .message = i};
  }

  // For a template that does not loop over the messages (but over their numbers, say): the turn is what message i adds to the text of those before it.
  DELTATUNE_FUNCTION AssistantSpan span_by_prefixes(std::size_t i) const {
    const std::vector<jinja::Value>& messages = messages_.as_sequence()->items;
    const auto first = [&messages](std::size_t count) { return jinja::Value::list({messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(count)}); };
    ChatOptions with_prompt = options_;
    with_prompt.add_generation_prompt = true;
    std::string before, whole;
    try {
      before = chat_.rendering(conversation_, first(i), with_prompt).text;
      whole = chat_.rendering(conversation_, first(i + 1), options_).text;
    } catch (const Error& error) {
      fail(i, std::string("the template cannot write the conversation up to here: ") + error.what(), {.remedy = kRemedy});
    }
    whole = without_space_behind(whole);
    if (!whole.starts_with(before) || !text_.starts_with(whole)) fail(i, "later messages change the template's text up to here", {.remedy = kRemedy});
    return {.begin = before.size(), .end = whole.size(), .message = i};
  }

  // The bytes of a turn that the model is given: the generation prompt. Where the turn begins otherwise, those in front of the content, if they are the
  // beginning of a longer prompt (one that opens the thinking, which the text of an earlier turn leaves out) or end with the prompt, white space aside.
  DELTATUNE_FUNCTION std::size_t length_of_header(std::size_t i, std::string_view written) {
    const std::string& prompt = generation_prompt(i);
    if (written.starts_with(prompt)) return prompt.size();
    const std::size_t header = bytes_before_content(i);
    const std::string_view given = jinja::strip(written.substr(0, header), nullptr, true, true), expected = jinja::strip(prompt, nullptr, true, true);
    if (expected.starts_with(given) || (!expected.empty() && given.ends_with(expected))) return header;
    fail(i, "the template begins this turn otherwise than its generation prompt",
         {.expected = "\"" + prompt + "\"", .got = "\"" + std::string(written.substr(0, header)) + "\"", .remedy = kRemedy});
  }

  // A template may write the answers of tools into the turn that calls them: the model is not to learn those.
  DELTATUNE_FUNCTION void require_alone(std::size_t i, std::string_view written) const {
    for (std::size_t other = i + 1; other < conversation_.size() && field(other, "role")->text() != "assistant"; ++other) {
      const jinja::Value* const content = field(other, "content");
      const bool has_place = std::any_of(pieces_.begin(), pieces_.end(), [other](const jinja::TracedPiece& piece) { return piece.item == other; });
      if (has_place || content == nullptr || !content->is_text() || content->text().empty() || written.find(content->text()) == std::string_view::npos)
        continue;
      fail(i, "the template writes messages[" + std::to_string(other) + "] into this turn, too", {.remedy = kRemedy});
    }
  }

  // What add_generation_prompt adds where message i begins. It is asked for once per role of the message in front.
  DELTATUNE_FUNCTION const std::string& generation_prompt(std::size_t i) {
    const std::string before = i == 0 ? "" : field(i - 1, "role")->text();
    if (const auto known = prompts_.find(before); known != prompts_.end()) return known->second;
    std::optional<std::string> prompt;
    if (i > 0) {
      const std::vector<jinja::Value>& messages = messages_.as_sequence()->items;
      prompt = prompt_behind(jinja::Value::list({messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(i)}));
    }
    if (!prompt && (i == 0 || before == "assistant")) {  // a turn that answers nothing begins as one that answers a question
      jinja::Dict question;
      question.set("role", "user");
      question.set("content", "?");
      prompt = prompt_behind(jinja::Value::list({jinja::Value(std::move(question))}));
    }
    if (!prompt) fail(i, "the template's generation prompt changes the text in front of it", {.remedy = kRemedy});
    return prompts_.emplace(before, std::move(*prompt)).first->second;
  }

  // What add_generation_prompt adds behind these messages; nothing if it changes their text, too.
  DELTATUNE_FUNCTION std::optional<std::string> prompt_behind(const jinja::Value& messages) const {
    ChatOptions with_prompt = options_;
    with_prompt.add_generation_prompt = true;
    const jinja::Rendering without = chat_.rendering(conversation_, messages, options_), with = chat_.rendering(conversation_, messages, with_prompt);
    // A template may end a whole text otherwise, with an end token: then what follows the last message is the prompt.
    const std::size_t end_of_messages = without.pieces.empty() ? 0 : without.pieces.back().bytes.end;
    const std::size_t common = with.text.starts_with(without.text) ? without.text.size() : end_of_messages;
    if (!with.text.starts_with(std::string_view(without.text).substr(0, common))) return std::nullopt;
    return with.text.substr(common);
  }

  // What stays in front when the content of message i, in its place, is another one.
  DELTATUNE_FUNCTION std::size_t bytes_before_content(std::size_t i) const {
    std::string written[2];
    for (const std::size_t version : {std::size_t{0}, std::size_t{1}}) {
      jinja::Dict message = *messages_.as_sequence()->items[i].as_dict();
      message.set("content", version == 0 ? "q" : "z");
      std::vector<jinja::Value> messages = messages_.as_sequence()->items;
      messages[i] = jinja::Value(std::move(message));
      const jinja::Rendering rendering = chat_.rendering(conversation_, jinja::Value::list(std::move(messages)), options_);
      const jinja::ByteRange bytes = region(rendering.pieces, i);
      written[version] = rendering.text.substr(bytes.begin, bytes.end - bytes.begin);
    }
    const auto [end, other] = std::mismatch(written[0].begin(), written[0].end(), written[1].begin(), written[1].end());
    return static_cast<std::size_t>(end - written[0].begin());
  }

  static constexpr const char* kRemedy = "mark the assistant's text in the template with {% generation %} and {% endgeneration %}";

  const ChatTemplate& chat_;
  const Conversation& conversation_;
  const ChatOptions& options_;
  jinja::Value messages_;
  std::string text_;
  std::vector<jinja::TracedPiece> pieces_;
  std::map<std::string, std::string> prompts_;  // by the role of the message in front
};

}  // namespace detail

// The text of a whole conversation with the assistant's spans. The template's {% generation %} blocks say where they are. For a template without them the
// engine notes which message each byte is written for; of an assistant's message the generation prompt in front, which the model is given, is left out, and so
// is white space behind its last token. So a template may change earlier turns because of later ones (Qwen3 drops their thinking): the spans are those of
// the very text that is returned. Throws what ChatTemplate::render() throws, and Error for a template whose turns cannot be found, or
// begin otherwise than its generation prompt. options.add_generation_prompt must be false.
DELTATUNE_FUNCTION ChatText render_with_spans(const ChatTemplate& chat, const Conversation& conversation, const ChatOptions& options = {}) {
  check_conversation(conversation);
  if (options.add_generation_prompt) throw Error("add_generation_prompt", "a conversation with spans has no generation prompt", {.remedy = "leave it out"});
  return detail::ChatSpans(chat, conversation, options).run();
}

}  // namespace deltatune
