// What the chat template fuzzer does with its input: a template, and behind a zero byte a conversation; without one there is a conversation of its own.
#pragma once

#include <cstddef>
#include <string_view>

#include "deltatune/text/chat_spans.hpp"
#include "deltatune/text/chat_template.hpp"
#include "deltatune/text/conversation.hpp"

namespace deltatune::fuzz {

inline constexpr std::string_view kConversation =
    R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "\u00e9 x"}]},
  {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": [1, 2.5, null, true]}}}]},
  {"role": "tool", "content": "7"}, {"role": "assistant", "content": " <think>t</think> y "}], "tools": [{"type": "function", "function": {"name": "f"}}]})";

// Throws Error, or gives a text whose spans lie in it.
inline ChatText render_chat(std::string_view input) {
  const std::size_t zero = input.find('\0');
  const std::string_view messages = zero == std::string_view::npos ? kConversation : input.substr(zero + 1);
  const Conversation conversation = parse_conversation(messages, "input");
  jinja::Dict tokens;
  tokens.set("bos_token", "<s>");
  tokens.set("eos_token", "</s>");
  const ChatTemplate chat(jinja::Template(input.substr(0, zero), "input"), tokens);
  const ChatOptions options{.now = jinja::DateTime{2024, 7, 26}, .limits = {.steps = 200'000, .output_bytes = 100'000}};
  return render_with_spans(chat, conversation, options);
}

}  // namespace deltatune::fuzz
