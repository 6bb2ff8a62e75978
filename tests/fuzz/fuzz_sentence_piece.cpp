// Whatever the bytes: either an Error, or a model with pieces.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "deltatune/text/sentence_piece.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    if (deltatune::detail::parse_sentence_piece(std::string_view(reinterpret_cast<const char*>(data), size), "input").pieces.empty()) __builtin_trap();
  } catch (const deltatune::Error&) {
  }
  return 0;
}
