// Whatever the text: either an Error, or a tokenizer that encodes and decodes, or says by an Error why not.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "deltatune/io/regex.hpp"
#include "deltatune/text/tokenizer.hpp"

namespace {

void use(const deltatune::Tokenizer& tokenizer, std::string_view text) {
  try {
    const deltatune::Encoding encoding = tokenizer.encode_with_offsets(text, {.max_length = 50});
    if (tokenizer.encode(text, 50) != encoding.ids) __builtin_trap();
    tokenizer.decode(encoding.ids);
  } catch (const deltatune::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const deltatune::Tokenizer tokenizer =
        deltatune::Tokenizer::parse(std::string_view(reinterpret_cast<const char*>(data), size), "input", deltatune::search_regex);
    for (const std::string_view text : {"", " a", "It's  a  test,\nno 123!", "\u00e9e\u0301 \ufb01\u0301 \u2581x", "\xff\xc3 \u4e2d\U0001F600[CLS]<s>"})
      use(tokenizer, text);
  } catch (const deltatune::Error&) {
  }
  return 0;
}
