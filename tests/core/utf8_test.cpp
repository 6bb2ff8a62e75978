#include "deltatune/core/utf8.hpp"

#include <catch2/catch.hpp>
#include <tuple>
#include <vector>

using namespace deltatune;

TEST_CASE("every code point survives encoding and decoding", "[core][utf8]") {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(c, text);
    const DecodedCodePoint decoded = decode_utf8(text, 0);
    if (decoded.code_point != c || decoded.bytes != text.size() || !decoded.well_formed) FAIL("code point " << static_cast<std::uint32_t>(c));
  }
}

// Expected values: Unicode 15, tables 3-8 to 3-11, and Python's bytes.decode(errors="replace").
TEST_CASE("each maximal subpart becomes one replacement character", "[core][utf8]") {
  const std::string r = "\xEF\xBF\xBD";
  const std::vector<std::tuple<std::string, std::string, Index>> cases{
      {"", "", 0},
      {"plain", "plain", 0},
      {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 0},
      {r, r, 0},
      {"\x80", r, 1},
      {"a\xFF"
       "b",
       "a" + r + "b", 1},
      {"\xC0\xAF", r + r, 2},
      {"\xC1\xBF", r + r, 2},
      {"\xE0\x80\x80", r + r + r, 3},
      {"\xED\xA0\x80", r + r + r, 3},
      {"\xF4\x90\x80\x80", r + r + r + r, 4},
      {"\xF5\xF8", r + r, 2},
      {"\xE2\x82", r, 1},
      {"\xE2\x82"
       "A",
       r + "A", 1},
      {"\xF0\x9F\x98", r, 1},
      {"\xF0\x9F\xC3\xA9", r + "\xC3\xA9", 1},
      {"\xC3", r, 1},
      {"\xC3\xC3\xA9", r + "\xC3\xA9", 1},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
       "A",
       r + r + r + r + "A", 4},
  };
  for (const auto& [input, expected, count] : cases) {
    INFO(Catch::StringMaker<std::string>::convert(input));
    std::string text = input;
    CHECK(replace_invalid_utf8(text) == count);
    CHECK(text == expected);
  }
}
