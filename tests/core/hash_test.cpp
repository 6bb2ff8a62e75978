#include "deltatune/core/hash.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace deltatune {
namespace {

std::string hash_of(const std::string& text, std::size_t piece) {
  ContentHash hash;
  for (std::size_t first = 0; first < text.size(); first += piece) hash.add(std::string_view(text).substr(first, piece));
  return hash.text();
}

// As xxh64sum prints them.
TEST_CASE("ContentHash is XXH64", "[hash]") {
  CHECK(ContentHash().text() == "ef46db3751d8e999");
  CHECK(hash_of("a", 1) == "d24ec4f1a98c6e5b");
  CHECK(hash_of("abc", 8) == "44bc2cf5ad770999");
  std::string long_text;
  for (int i = 0; i < 1000; ++i) long_text += static_cast<char>(i * 7);
  const std::string whole = hash_of(long_text, long_text.size());
  for (const std::size_t piece : std::vector<std::size_t>{1, 3, 31, 32, 33, 64, 999}) CHECK(hash_of(long_text, piece) == whole);
  CHECK(whole == "25275608a9cfc168");
  long_text.back() ^= 1;
  CHECK(hash_of(long_text, 32) != whole);
}

TEST_CASE("ContentHash takes numbers as their bytes", "[hash]") {
  ContentHash numbers, bytes;
  numbers.add(std::vector<std::int32_t>{1, 256});
  bytes.add(std::string("\1\0\0\0\0\1\0\0", 8));
  CHECK(numbers.value() == bytes.value());
}

}  // namespace
}  // namespace deltatune
