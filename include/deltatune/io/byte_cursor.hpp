// Reads forward through bytes that nobody has checked; going beyond the end is an Error.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/utf8.hpp"

namespace deltatune {

class ByteCursor {
 public:
  // `where` names the bytes in messages.
  ByteCursor(std::span<const std::byte> bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  std::size_t position() const { return position_; }
  std::size_t left() const { return bytes_.size() - position_; }

  DELTATUNE_FUNCTION std::span<const std::byte> take(std::uint64_t count) {
    if (count > left()) {
      fail("is truncated or corrupt", {.expected = std::to_string(count) + " more bytes", .got = std::to_string(left())});
    }
    const auto taken = bytes_.subspan(position_, static_cast<std::size_t>(count));
    position_ += taken.size();
    return taken;
  }

  // Little-endian.
  template <std::integral T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string_view text(std::uint64_t count) {
    const auto taken = take(count);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  // Up to the next line feed, which is skipped.
  DELTATUNE_FUNCTION std::string_view line() {
    const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + position_, left());
    const std::size_t length = rest.find('\n');
    if (length == std::string_view::npos) fail("is truncated or corrupt", {.expected = "a line feed"});
    position_ += length + 1;
    return rest.substr(0, length);
  }

  [[noreturn]] void fail(const std::string& what, const ErrorDetail& detail = {}) const {
    throw Error(where_ + ": byte " + std::to_string(position_), what, detail);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string where_;
  std::size_t position_ = 0;
};

namespace detail {

// Text of unknown origin for a message: what is not printable becomes '?', what is too long is cut.
DELTATUNE_FUNCTION std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  std::string clean;
  for (std::size_t at = 0; at < text.size();) {
    if (clean.size() >= kLongest) return clean + "...";
    const DecodedCodePoint next = decode_utf8(text, at);
    const bool control = next.code_point < 0x20 || (next.code_point >= 0x7F && next.code_point < 0xA0);
    append_utf8(next.well_formed && !control ? next.code_point : U'?', clean);
    at += next.bytes;
  }
  return clean;
}

}  // namespace detail

}  // namespace deltatune
