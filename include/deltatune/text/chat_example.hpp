// A conversation as a language model learns it: token ids, and a label for each token that the assistant says.
//
//   const ChatExample example = chat_example(chat, conversation, tokenizer, {.max_length = 2048});
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/text/chat_spans.hpp"
#include "deltatune/text/chat_template.hpp"
#include "deltatune/text/conversation.hpp"
#include "deltatune/text/tokenizer.hpp"

namespace deltatune {

// The label of a token that is given and not learnt: ops::kIgnoredLabel.
inline constexpr std::int32_t kGivenToken = -100;

// Of a conversation with more than max_length tokens: the first turns are left out, or all of it.
enum class LongConversation { kCut, kDrop };

struct ChatExampleOptions {
  ChatOptions chat = {};
  std::vector<bool> learnt = {};  // per message: whether what the assistant says in it is learnt; empty: all of it is
  Index max_length = 0;           // of the ids; 0: any length
  LongConversation too_long = LongConversation::kCut;
};

struct ChatExample {
  std::vector<std::int32_t> ids = {};
  std::vector<std::int32_t> labels = {};  // one per id: the id where it is learnt, else kGivenToken
  bool is_too_long = false;               // nothing of it is left: ids and labels are empty
  std::size_t messages_cut = 0;           // left out in front, to fit
  std::vector<AssistantSpan> spans = {};  // those that are learnt; indices of messages count from the first that is left

  // Whether a token that has others in front of it is learnt.
  bool has_prediction() const {
    return labels.size() > 1 && std::any_of(labels.begin() + 1, labels.end(), [](std::int32_t label) { return label != kGivenToken; });
  }
};

namespace detail {

// Where in the text, in code points, the spans begin and end. The spans are in the order of the text.
DELTATUNE_FUNCTION std::vector<TextSpan> in_code_points(std::string_view text, const std::vector<AssistantSpan>& spans) {
  std::vector<TextSpan> result;
  std::size_t at = 0;
  std::uint32_t count = 0;
  const auto count_to = [&](std::size_t byte) {
    for (; at < byte; ++count) at += decode_utf8(text, at).bytes;
    return count;
  };
  for (const AssistantSpan& span : spans) {
    const std::uint32_t begin = count_to(span.begin);
    result.push_back({begin, count_to(span.end)});
  }
  return result;
}

// From the first to the last token that holds a part of the span.
DELTATUNE_FUNCTION void learn_span(const TextSpan& span, const Encoding& tokens, std::vector<std::int32_t>& labels_io) {
  std::optional<std::size_t> first, last;
  for (std::size_t i = 0; i < tokens.ids.size(); ++i) {
    if (tokens.offsets[i].begin >= span.end || tokens.offsets[i].end <= span.begin || tokens.offsets[i].begin == tokens.offsets[i].end) continue;
    if (!first) first = i;
    last = i;
  }
  if (first)
    std::copy(tokens.ids.begin() + static_cast<std::ptrdiff_t>(*first), tokens.ids.begin() + static_cast<std::ptrdiff_t>(*last) + 1,
              labels_io.begin() + static_cast<std::ptrdiff_t>(*first));
}

DELTATUNE_FUNCTION ChatExample whole_example(const ChatTemplate& chat, const Conversation& conversation, const std::vector<bool>& learnt,
                                             const Tokenizer& tokenizer, const ChatOptions& options) {
  ChatText text = render_with_spans(chat, conversation, options);
  if (!learnt.empty()) {
    const auto is_given = [&learnt](const AssistantSpan& span) {
      if (!span.message)
        throw Error("messages", "not all are to be learnt, and the template does not say which message its generation block belongs to",
                    {.remedy = "put the block inside the template's loop over the messages"});
      return !learnt[*span.message];
    };
    text.spans.erase(std::remove_if(text.spans.begin(), text.spans.end(), is_given), text.spans.end());
  }
  // The template has written the tokens that begin and end a text.
  const Encoding tokens = tokenizer.encode_with_offsets(text.text, {.special_tokens = false});
  ChatExample example{.ids = tokens.ids, .labels = std::vector<std::int32_t>(tokens.ids.size(), kGivenToken)};
  for (const TextSpan& span : in_code_points(text.text, text.spans)) learn_span(span, tokens, example.labels);
  example.spans = std::move(text.spans);
  return example;
}

// The messages [0, kept) and those from `first` on.
template <class Sequence>
Sequence without_middle(const Sequence& all, std::size_t kept, std::size_t first) {
  Sequence rest(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept));
  rest.insert(rest.end(), all.begin() + static_cast<std::ptrdiff_t>(first), all.end());
  return rest;
}

// The longest end of the conversation that fits. It keeps the system messages in front, begins with a user's message and has a token to learn.
DELTATUNE_FUNCTION ChatExample cut_example(const ChatTemplate& chat, const Conversation& conversation, const Tokenizer& tokenizer,
                                           const ChatExampleOptions& options) {
  const std::vector<jinja::Value>& messages = conversation.messages.as_sequence()->items;
  const auto role = [&messages](std::size_t i) { return messages[i].as_dict()->find(std::string_view("role"))->text(); };
  std::size_t system = 0;
  while (system < messages.size() && (role(system) == "system" || role(system) == "developer")) ++system;
  std::vector<std::size_t> firsts;
  for (std::size_t i = system + 1; i < messages.size(); ++i)
    if (role(i) == "user") firsts.push_back(i);

  ChatExample best{.is_too_long = true};
  const auto fits = [&](std::size_t first) {
    Conversation rest = conversation;
    rest.messages = jinja::Value::list(without_middle(messages, system, first));
    const std::vector<bool> learnt = options.learnt.empty() ? options.learnt : without_middle(options.learnt, system, first);
    ChatExample example;
    try {
      example = whole_example(chat, rest, learnt, tokenizer, options.chat);
    } catch (const Error&) {  // the template refuses a conversation that begins here; the whole one it has taken
      return false;
    }
    if (static_cast<Index>(example.ids.size()) > options.max_length || !example.has_prediction()) return false;
    best = std::move(example);
    best.messages_cut = first - system;
    return true;
  };
  for (std::size_t begin = 0, end = firsts.size(); begin < end;) {  // later beginnings are shorter
    const std::size_t middle = begin + (end - begin) / 2;
    if (fits(firsts[middle])) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  return best;
}

}  // namespace detail

// The ids of the conversation's text, to which the tokenizer adds no special tokens, and as labels those of the assistant's spans (render_with_spans()), the
// token that ends a turn included. A token that holds the edge of a span is learnt, as in transformers' assistant masks.
// A conversation that is too long loses whole turns in front; system messages there stay, and the rest begins with a user's message. Where no such rest fits,
// or with LongConversation::kDrop, it is_too_long. Without a message of the assistant nothing is learnt: see has_prediction().
// Throws what render_with_spans() throws, and Error for `learnt` that does not fit the messages.
DELTATUNE_FUNCTION ChatExample chat_example(const ChatTemplate& chat, const Conversation& conversation, const Tokenizer& tokenizer,
                                            const ChatExampleOptions& options = {}) {
  if (!options.learnt.empty() && options.learnt.size() != conversation.size())
    throw Error("learnt", "is not one per message", {.expected = std::to_string(conversation.size()), .got = std::to_string(options.learnt.size())});
  ChatExample example = detail::whole_example(chat, conversation, options.learnt, tokenizer, options.chat);
  if (options.max_length == 0 || static_cast<Index>(example.ids.size()) <= options.max_length || !example.has_prediction()) return example;
  if (options.too_long == LongConversation::kDrop) return {.is_too_long = true};
  return detail::cut_example(chat, conversation, tokenizer, options);
}

}  // namespace deltatune
