// Whatever template and conversation: either an Error, or a text with the assistant's spans in it, in order.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "chat_input.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const deltatune::ChatText chat = deltatune::fuzz::render_chat(std::string_view(reinterpret_cast<const char*>(data), size));
    std::size_t end = 0;
    for (const deltatune::AssistantSpan& span : chat.spans) {
      if (span.begin < end || span.end < span.begin || span.end > chat.text.size()) __builtin_trap();
      end = span.end;
    }
  } catch (const deltatune::Error&) {
  }
  return 0;
}
