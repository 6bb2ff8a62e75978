#include "deltatune/text/charsmap.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

using namespace deltatune;
using Catch::Contains;

namespace {

std::string bytes_of(const std::vector<std::uint32_t>& units) {
  std::string bytes;
  for (const std::uint32_t unit : units)
    for (unsigned shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(static_cast<unsigned char>(unit >> shift)));
  return bytes;
}

// Maps "a" to the text at `value`.
std::string map_of_a(std::uint32_t value, const std::string& texts, std::uint32_t leaf = 1) {
  std::vector<std::uint32_t> units(256);
  units['a'] = 'a' | (1U << 8U) | (leaf << 10U);
  units['a' ^ 1] = value;
  return bytes_of({1024}) + bytes_of(units) + texts;
}

std::string mapped(const detail::Charsmap& map, const std::string& text) {
  detail::AlignedText from{.text = text}, to;
  std::vector<detail::CharacterChange> scratch;
  map.append_mapped(from, scratch, to);
  return to.text;
}

std::string error_of(const std::string& bytes) {
  try {
    const detail::Charsmap map(bytes, "file: charsmap");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("a map of characters replaces what it has", "[text][charsmap]") {
  const std::string texts("x\0long\0\0", 8);
  CHECK(mapped(detail::Charsmap(map_of_a(0, texts), ""), "aba") == "xbx");
  CHECK(mapped(detail::Charsmap(map_of_a(2, texts), ""), "ca") == "clong");
  CHECK(mapped(detail::Charsmap(map_of_a(7, texts), ""), "cac") == "cc");
  CHECK(mapped(detail::Charsmap(map_of_a(0, texts), ""), "ba\u0301\u00e9") == "bx\u00e9");  // the mark belongs to a's grapheme and vanishes with it
}

TEST_CASE("a damaged map of characters is an error", "[text][charsmap]") {
  CHECK_THAT(error_of(""), Contains("file: charsmap: is no map of characters; expected a trie and a list of texts, got 0 bytes"));
  CHECK_THAT(error_of(bytes_of({64, 0})), Contains("is no map of characters"));
  CHECK_THAT(error_of(map_of_a(9, "x")), Contains("is damaged: an entry points outside of it"));
  CHECK_THAT(error_of(map_of_a(1, "\u00e9")), Contains("is damaged"));  // into the middle of a character
  CHECK_THAT(error_of(map_of_a(0, "x", 512)), Contains("is damaged"));
  CHECK_THAT(error_of(map_of_a(0, "\xff")), Contains("holds texts that are not UTF-8"));
}

TEST_CASE("base64", "[text][charsmap]") {
  CHECK(detail::from_base64("", "") == "");
  CHECK(detail::from_base64("TWFu", "") == "Man");
  CHECK(detail::from_base64("TWE=", "") == "Ma");
  CHECK(detail::from_base64("TQ==", "") == "M");
  for (const char* const bad : {"T", "TWF", "TW=u", "T===", "TWF!"})
    CHECK_THROWS_WITH(detail::from_base64(bad, "file: charsmap"), Contains("file: charsmap: is not base64"));
}
